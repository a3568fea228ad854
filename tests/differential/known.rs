//! Differences that are meant to be, each with its reason.

use rustix::io::Errno;

use crate::operation::Op;
use crate::outcome::Outcome;

/// A difference of one server from the host.
pub(crate) struct Known {
    server: &'static str,
    operation: &'static str,
    /// Why it is right, or that it is the other's affair.
    #[allow(dead_code)]
    reason: &'static str,
    /// Whether it is this one: what was asked for, what the host says, and what
    /// the server does.
    is: fn(&Op, &Outcome, &Outcome) -> bool,
}

const fn failed(errno: Errno) -> Outcome {
    Outcome::Failed(errno)
}

/// All of them.
pub(crate) const KNOWN: &[Known] = &[
    Known {
        server: "ours",
        operation: "COPY_FILE_RANGE",
        reason: "Linux asks for nothing beyond the end it knows of: it is to read and see",
        is: |_, host, told| *host == Outcome::Number(0) && *told == failed(Errno::OPNOTSUPP),
    },
    Known {
        server: "ours",
        operation: "GETLK",
        reason: "of several locks that are in the way fcntl(2) may tell any: Linux tells that \
                 of the owner who was the first to have one",
        is: both_in_the_way,
    },
    Known {
        server: "ours",
        operation: "SETXATTR",
        reason: "ACLs are only with `acl`",
        is: |op, _, told| of_acl(op) && *told == failed(Errno::OPNOTSUPP),
    },
    Known {
        server: "ours",
        operation: "GETXATTR",
        reason: "ACLs are only with `acl`",
        is: |op, _, told| of_acl(op) && *told == failed(Errno::OPNOTSUPP),
    },
    Known {
        server: "ours",
        operation: "REMOVEXATTR",
        reason: "ACLs are only with `acl`",
        is: |op, _, told| of_acl(op) && *told == failed(Errno::OPNOTSUPP),
    },
    Known {
        server: "virtiofsd",
        operation: "READLINK",
        reason: "says ENOENT of what is no link; Linux does not ask",
        is: |_, host, told| *host == failed(Errno::INVAL) && *told == failed(Errno::NOENT),
    },
    Known {
        server: "virtiofsd",
        operation: "SETATTR",
        reason: "has another errno for the size of what is no file, or that there cannot be",
        is: |op, host, told| {
            let sized = matches!(op, Op::Setattr(_, _, change) if change.size.is_some());
            sized && both_failed(host, told)
        },
    },
    Known {
        server: "virtiofsd",
        operation: "ACCESS",
        reason: "answers by the mode of a directory what root may do; and knows no bit beside three",
        is: |op, host, told| {
            let odd = matches!(op, Op::Access(_, mask) if *mask > 7);
            odd || *host == Outcome::Done && *told == failed(Errno::ACCESS)
        },
    },
    Known {
        server: "virtiofsd",
        operation: "CREATE",
        reason: "tells the size and the time that a file had before it was truncated",
        is: |op, host, told| {
            let truncates = matches!(op, Op::Create(.., flags) if flags & libc::O_TRUNC != 0);
            truncates && host.but_for_truncation() == told.but_for_truncation()
        },
    },
    Known {
        server: "virtiofsd",
        operation: "OPEN",
        reason: "says EBADF of a link; Linux does not ask",
        is: |_, host, told| *host == failed(Errno::LOOP) && *told == failed(Errno::BADF),
    },
];

/// Whether both tell a lock that has something of what was asked for.
fn both_in_the_way(op: &Op, host: &Outcome, told: &Outcome) -> bool {
    let Op::Getlk(_, _, _, first, last) = op else {
        return false;
    };
    let is_there = |outcome: &Outcome| matches!(outcome, Outcome::Lock(_, start, end) if start <= last && end >= first);
    is_there(host) && is_there(told)
}

fn both_failed(one: &Outcome, other: &Outcome) -> bool {
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
    failed(one) && failed(other)
}

fn of_acl(op: &Op) -> bool {
    matches!(
        op,
        Op::Setxattr(_, name, ..) | Op::Getxattr(_, name, _) | Op::Removexattr(_, name)
            if name.0.starts_with(b"system.posix_acl_")
    )
}

/// Whether `server` may say `told` where the host says `host`.
pub(crate) fn is_known(server: &str, op: &Op, host: &Outcome, told: &Outcome) -> bool {
    KNOWN.iter().any(|known| {
        known.server == server && known.operation == op.kind() && (known.is)(op, host, told)
    })
}
