//! Why there is no sandbox, and how to mend it.

use std::io;

/// Why a thread cannot be confined.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // Each says itself what it is.
pub enum Error {
    #[error("this host has not all that --sandbox=on needs: {0}; --sandbox=best goes on without")]
    Lacks(String),
    #[error("cannot take new privileges from this process (prctl); --sandbox=off goes on without")]
    NoNewPrivileges(#[source] io::Error),
    #[error("cannot handle the signal of refused system calls")]
    Handler(#[source] io::Error),
    #[error(
        "the host does not let system calls be filtered (seccomp); --sandbox=off goes on without"
    )]
    Filter(#[from] seccompiler::Error),
    #[error("the host does not let files be confined (Landlock); --sandbox=off goes on without")]
    Tree(#[from] landlock::RulesetError),
    #[error("cannot give up capabilities; --sandbox=off goes on without")]
    Capabilities(#[source] io::Error),
    #[error("cannot start a thread that starts those of a share")]
    Thread(#[source] io::Error),
    #[error("the thread that starts those of a share is gone")]
    Gone,
}
