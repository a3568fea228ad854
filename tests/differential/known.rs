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
        operation: "OPEN",
        reason: "says EBADF of a link; Linux does not ask",
        is: |_, host, told| *host == failed(Errno::LOOP) && *told == failed(Errno::BADF),
    },
];

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
