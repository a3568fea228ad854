//! The opcodes of the protocol (`enum fuse_opcode` in `linux/fuse.h`).
//!
//! A number from the guest stays a number here: [`Opcode`] holds any `u32`,
//! so that one which the protocol does not define is an ordinary value to be
//! answered with `ENOSYS`. Used by the dispatcher to choose what to do and by
//! the metrics to name what was done.

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opcode(pub u32);

macro_rules! opcodes {
    ($($name:ident = $number:literal,)*) => {
        #[allow(missing_docs)]
        impl Opcode {
            $(pub const $name: Opcode = Opcode($number);)*

            /// The name in the protocol's header file without the prefix
            /// `FUSE_`, or `"UNKNOWN"`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }

            /// Whether the protocol defines it.
            pub(super) const fn is_defined(self) -> bool {
                matches!(self.0, $($number)|*)
            }
        }
    };
}

opcodes! {
    LOOKUP = 1,
    FORGET = 2,
    GETATTR = 3,
    SETATTR = 4,
    READLINK = 5,
    SYMLINK = 6,
    MKNOD = 8,
    MKDIR = 9,
    UNLINK = 10,
    RMDIR = 11,
    RENAME = 12,
    LINK = 13,
    OPEN = 14,
    READ = 15,
    WRITE = 16,
    STATFS = 17,
    RELEASE = 18,
    FSYNC = 20,
    SETXATTR = 21,
    GETXATTR = 22,
    LISTXATTR = 23,
    REMOVEXATTR = 24,
    FLUSH = 25,
    INIT = 26,
    OPENDIR = 27,
    READDIR = 28,
    RELEASEDIR = 29,
    FSYNCDIR = 30,
    GETLK = 31,
    SETLK = 32,
    SETLKW = 33,
    ACCESS = 34,
    CREATE = 35,
    INTERRUPT = 36,
    BMAP = 37,
    DESTROY = 38,
    IOCTL = 39,
    POLL = 40,
    NOTIFY_REPLY = 41,
    BATCH_FORGET = 42,
    FALLOCATE = 43,
    READDIRPLUS = 44,
    RENAME2 = 45,
    LSEEK = 46,
    COPY_FILE_RANGE = 47,
    SETUPMAPPING = 48,
    REMOVEMAPPING = 49,
    SYNCFS = 50,
    TMPFILE = 51,
    STATX = 52,
    COPY_FILE_RANGE_64 = 53,
}

impl Opcode {
    /// One more than the largest number the protocol defines.
    pub const COUNT: usize = 54;

    /// Whether the protocol has no reply to it, not even an error
    /// ("no reply" in `linux/fuse.h`).
    pub(super) const fn is_silent(self) -> bool {
        matches!(self, Opcode::FORGET | Opcode::BATCH_FORGET)
    }

    /// Whether it takes effect even when the driver left no room for an
    /// answer. INTERRUPT has a reply in some cases only, and DESTROY ends a
    /// session that nobody waits for any more.
    pub(super) const fn needs_no_reply(self) -> bool {
        matches!(self, Opcode::INTERRUPT | Opcode::DESTROY) || self.is_silent()
    }
}
