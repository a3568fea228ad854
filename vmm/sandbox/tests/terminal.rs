//! The user's terminal is left as it was, whichever thread leaves it.
#![allow(clippy::unwrap_used)]

use std::fs::File;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use vmm_sandbox::{Mode, Role, Sandbox};

#[test]
fn every_thread_may_restore_the_terminal() {
    let sandbox = Sandbox::plan(Mode::Best).unwrap();
    sandbox.begin().unwrap();
    let terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/ptmx")
        .unwrap();
    let before = tcgetattr(&terminal).unwrap();
    assert!(before.local_modes.contains(LocalModes::ICANON));
    for role in Role::ALL {
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).unwrap();
        let confined = || {
            sandbox.enter(role).unwrap();
            tcsetattr(&terminal, OptionalActions::Now, &before)
        };
        let restored = std::thread::scope(|scope| scope.spawn(confined).join()).unwrap();
        assert_eq!(restored, Ok(()), "{role:?}");
        let now = tcgetattr(&terminal).unwrap();
        assert_eq!(now.local_modes, before.local_modes, "{role:?}");
    }
}
