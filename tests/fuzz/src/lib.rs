//! Entry points of bytes that a guest or a user chooses, for a fuzzer.
//!
//! | target | what the bytes are |
//! | --- | --- |
//! | `chain` | requests in descriptor chains of guest memory, through the real server to a real directory |
//! | `kernels` | the file of `--kernel`, loaded into the memory of a guest as well |
//! | `registers` | accesses to the registers of a device with live queues |
//! | `session` | requests as those of `chain`, to the session |
//! | `shares` | the text of `--share` and `--root` |
//!
//! A target that returns has passed. It panics where something does that should
//! not, or where a request gets no answer.

pub mod chain;
mod guest;
mod input;
pub mod kernels;
pub mod registers;
pub mod session;
pub mod shares;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Runs it once.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target {
        name: "chain",
        run: chain::run,
    },
    Target {
        name: "kernels",
        run: kernels::run,
    },
    Target {
        name: "registers",
        run: registers::run,
    },
    Target {
        name: "session",
        run: session::run,
    },
    Target {
        name: "shares",
        run: shares::run,
    },
];
