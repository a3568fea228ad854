//! The `locker` command: takes locks as it is told, for tests of two machines.
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
