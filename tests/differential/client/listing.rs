//! What is in a directory: OPENDIR, READDIR or READDIRPLUS to the end, RELEASEDIR.

use std::collections::HashSet;

use rustix::io::Errno;

use super::{Client, DO_READDIRPLUS, Transport};
use crate::actor::NodeId;
use crate::message::opcode;
use crate::operation::Caller;
use crate::outcome::{Listed, Outcome};

impl<T: Transport> Client<T> {
    pub(super) fn list(
        &mut self,
        caller: &Caller,
        dir: NodeId,
        (plus, room, again): (bool, u32, u8),
    ) -> Result<Outcome, Errno> {
        let request = self.request(opcode::OPENDIR, dir, caller).u32(0).u32(0);
        let handle = self.send(request)?.u64(0);
        let listed = self.whole_list(caller, dir, handle, 0, (plus, room));
        let outcome = match listed {
            Ok(all) => {
                // Also where it ended.
                let from = all.len().min(again.into());
                let offset = from.checked_sub(1).map_or(0, |last| all[last].1);
                let rest = self.whole_list(caller, dir, handle, offset, (plus, room));
                let same = rest.is_ok_and(|rest| rest[..] == all[from..]);
                let mut listed: Vec<Listed> = all.into_iter().map(|(entry, _)| entry).collect();
                listed.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(Outcome::List(listed, same))
            }
            Err(error) => Err(error),
        };
        let request = self.request(opcode::RELEASEDIR, dir, caller);
        self.send(request.u64(handle).u32(0).u32(0).u64(0))?;
        outcome
    }

    /// Entries and offsets after them.
    fn whole_list(
        &mut self,
        caller: &Caller,
        dir: NodeId,
        handle: u64,
        mut offset: u64,
        (plus, room): (bool, u32),
    ) -> Result<Vec<(Listed, u64)>, Errno> {
        let in_one = plus && self.agreed & DO_READDIRPLUS != 0;
        let opcode = if in_one {
            opcode::READDIRPLUS
        } else {
            opcode::READDIR
        };
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let request = self.request(opcode, dir, caller);
            let request = request
                .u64(handle)
                .u64(offset)
                .u32(room)
                .u32(0)
                .u64(0)
                .u32(0)
                .u32(0);
            let body = self.send(request)?;
            if body.bytes().is_empty() {
                return Ok(all);
            }
            assert!(
                body.bytes().len() <= room as usize,
                "more than there is room for"
            );
            let mut at = 0;
            while at < body.bytes().len() {
                let dirent = at + if in_one { 128 } else { 0 };
                let length = body.u32(dirent + 16) as usize;
                let name = body.bytes()[dirent + 24..dirent + 24 + length].to_vec();
                offset = body.u64(dirent + 8);
                let kind = u8::try_from(body.u32(dirent + 20)).unwrap();
                let number = if in_one { body.u64(at) } else { 0 };
                let mut attributes = (number != 0).then(|| self.attributes(&body, at + 40));
                at = (dirent + 24 + length).next_multiple_of(8);
                if number != 0 {
                    self.forget(number, 1);
                }
                assert!(seen.insert(offset), "an offset comes twice");
                if name == b"." || name == b".." {
                    assert_eq!(number, 0, "a reference to a directory by its dots");
                    continue;
                }
                if plus && !in_one {
                    let request = self.request(opcode::LOOKUP, dir, caller).string(&name);
                    let body = self.send(request)?;
                    attributes = Some(self.attributes(&body, 40));
                    self.forget(body.u64(0), 1);
                }
                all.push((
                    Listed {
                        name,
                        kind,
                        attributes,
                    },
                    offset,
                ));
            }
        }
    }
}
