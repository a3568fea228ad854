//! Whom of the host a user may make others than themselves: `subuid(5)`,
//! `subgid(5)`.

use std::io::ErrorKind;
use std::path::Path;

use crate::error::Error;
use crate::process::Process;

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Users,
    Groups,
}

impl Kind {
    /// As options and programs begin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Users => "uid",
            Self::Groups => "gid",
        }
    }

    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Users => "/etc/subuid",
            Self::Groups => "/etc/subgid",
        }
    }

    /// What writes the map of a user namespace for who may not.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Users => "newuidmap",
            Self::Groups => "newgidmap",
        }
    }

    /// The process's own.
    pub(crate) fn own(self, process: &Process) -> u32 {
        match self {
            Self::Users => process.uid,
            Self::Groups => process.gid,
        }
    }
}

/// The first that is delegated, and how many are.
pub(crate) type Delegated = (u32, u32);

/// What is delegated to the user of `process`, in the order of the file.
pub(crate) fn of(kind: Kind, process: &Process) -> Result<Vec<Delegated>, Error> {
    let file = kind.file();
    match std::fs::read_to_string(Path::new(file)) {
        Ok(text) => Ok(read(&text, &process.user(), process.uid)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::Delegation { file, source }),
    }
}

/// The lines of a user, by name or by number. What is wrong `newuidmap` passes
/// over as well.
fn read(text: &str, name: &str, uid: u32) -> Vec<Delegated> {
    let number = uid.to_string();
    let lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let ranges = lines.filter_map(|fields| {
        let [user, first, count] = fields[..] else {
            return None;
        };
        let range: Delegated = (first.trim().parse().ok()?, count.trim().parse().ok()?);
        let fits = range.1 > 0 && range.0.checked_add(range.1).is_some();
        (fits && (user == name || user == number)).then_some(range)
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_a_user_by_name_or_number() {
        let text = "alice:100000:65536\nbob:165536:65536\n1000:300000:10\n# x\n\nalice:5\n\
                    alice:5:0\nalice:x:1\nalice:4294967295:1\nalice:1:2:3\nalice: 7:2\n";
        assert_eq!(
            read(text, "alice", 1000),
            [(100_000, 65_536), (300_000, 10), (7, 2)]
        );
        assert_eq!(read(text, "1000", 1000), [(300_000, 10)]);
        assert_eq!(read(text, "carol", 1001), []);
    }
}
