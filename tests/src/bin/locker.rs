//! The `locker` command: takes locks as it is told, for tests of two machines. SIGTERM ends
//! a wait, and not the program.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used)] // Who runs it wants to see the reason, and no more.

use std::fs::File;
use std::io::{Write, stdin, stdout};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

#[path = "../../native/fcntl.rs"]
#[allow(dead_code)]
mod fcntl;

/// `locker FILE` reads lines of a command, where it begins and how many bytes, and
/// answers each. `locker FILE COMMAND AT LENGTH` does that one and stays.
fn main() {
    let action = libc::sigaction {
        sa_sigaction: nothing as *const () as usize,
        // SAFETY: no signals, as the all-zero set says.
        sa_mask: unsafe { std::mem::zeroed() },
        // Without SA_RESTART.
        sa_flags: 0,
        sa_restorer: None,
    };
    // SAFETY: the handler does nothing, which is allowed at any time.
    let set = unsafe { libc::sigaction(libc::SIGTERM, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap();
    let mut options = File::options();
    let file = options.read(true).write(true).open(path).unwrap();
    let told: Vec<String> = arguments.collect();
    if !told.is_empty() {
        answer(&file, &told.join(" "));
        loop {
            std::thread::park();
        }
    }
    for line in stdin().lines() {
        answer(&file, &line.unwrap());
    }
}

extern "C" fn nothing(_: libc::c_int) {}

fn answer(file: &File, line: &str) {
    let mut out = stdout();
    match carry_out(file, line) {
        Ok(()) => writeln!(out, "ok"),
        Err(Errno::AGAIN | Errno::ACCESS) => writeln!(out, "taken"),
        Err(error) => writeln!(out, "{error}"),
    }
    .unwrap();
}

fn carry_out(file: &File, line: &str) -> Result<(), Errno> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [command, at, length] = words[..] else {
        panic!("{line:?} is not a command and two numbers");
    };
    let range = (at.parse().unwrap(), length.parse().unwrap());
    let lock = |command| fcntl::lock(file, command, range.0, range.1);
    match command {
        "read" => lock(fcntl::READ),
        "write" => lock(fcntl::WRITE),
        "unlock" => lock(fcntl::UNLOCK),
        "own-read" => lock(fcntl::OWN_READ),
        "own-write" => lock(fcntl::OWN_WRITE),
        "own-unlock" => lock(fcntl::OWN_UNLOCK),
        "own-wait" => lock(fcntl::OWN_WAIT),
        "flock" => flock(file, FlockOperation::NonBlockingLockExclusive),
        "flock-unlock" => flock(file, FlockOperation::Unlock),
        other => panic!("{other} is no command"),
    }
}
