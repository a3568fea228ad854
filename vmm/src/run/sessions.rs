//! Sessions of guests that have said something, for tests.
#![allow(clippy::unwrap_used)]

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};

use devices::filesystem::{
    Caller, FileOperations, LookupOperations, Position, ROOT, Request, RequestData, Result,
    Waiters, WriteArgs,
};
use guest_init::protocol::{Plan, Status};
use rustix::io::Errno;
use vmm_session::{Session, Streams};

/// What a guest writes.
struct Data<'a>(&'a [u8]);

impl RequestData for Data<'_> {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn drain_to(&mut self, mut file: &File, count: usize, _position: Position) -> Result<usize> {
        let written = file.write(&self.0[..count]);
        let written = written.map_err(|error| Errno::from_io_error(&error).unwrap())?;
        self.0 = &self.0[written..];
        Ok(written)
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.0.read_exact(bytes).map_err(|_| Errno::IO)
    }
}

fn session_on(stdout: File) -> Session {
    let plan = Plan {
        command: vec!["true".into()],
        environment: Vec::new(),
        working_directory: None,
        hostname: "vm".into(),
        init: None,
        user: None,
        root: None,
        modules: None,
        shares: Vec::new(),
        terminal: None,
        interactive: false,
        power_off: true,
    };
    let streams = Streams {
        stdin: None,
        stdout,
        stderr: tempfile::tempfile().unwrap(),
    };
    Session::new(&plan, streams, || ()).unwrap()
}

fn write(session: &Session, name: &CStr, bytes: &[u8]) -> Result<usize> {
    let waiters = Waiters::new();
    let request = |node| Request::new(1, node, Caller::default(), &waiters);
    let node = session.lookup(&request(ROOT), name)?.inode;
    let args = WriteArgs {
        handle: node,
        size: u32::try_from(bytes.len()).unwrap(),
        offset: 0,
        flags: 1,
        from_cache: false,
        kill_privileges: false,
    };
    session.write(&request(node), &args, &mut Data(bytes))
}

/// A session whose command has exited with `code`.
pub(super) fn session_that_reported(code: u8) -> Session {
    let session = session_on(tempfile::tempfile().unwrap());
    let json = serde_json::to_vec(&Status::Exited { code }).unwrap();
    assert_eq!(write(&session, c"status", &json), Ok(json.len()));
    session
}

/// A session whose standard output is on a full disk, and was written to.
pub(super) fn session_that_lost_output() -> Session {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let session = session_on(full);
    assert_eq!(session.lost_output().count(), 0);
    assert_eq!(write(&session, c"stdout", b"text"), Err(Errno::NOSPC));
    session
}
