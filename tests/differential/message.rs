//! Requests and answers of the FUSE protocol, byte by byte: the server's
//! structures are not to be asked about themselves.

use rustix::io::Errno;

/// The operations, by their numbers in `linux/fuse.h`.
pub(crate) mod opcode {
    macro_rules! numbers {
        ($($name:ident $number:literal)*) => {
            $(pub(crate) const $name: u32 = $number;)*
        };
    }
    numbers! {
        LOOKUP 1 FORGET 2 GETATTR 3 SETATTR 4 READLINK 5 SYMLINK 6 MKNOD 8 MKDIR 9 UNLINK 10
        RMDIR 11 RENAME 12 LINK 13 OPEN 14 READ 15 WRITE 16 STATFS 17 RELEASE 18 FSYNC 20
        SETXATTR 21 GETXATTR 22 LISTXATTR 23 REMOVEXATTR 24 FLUSH 25 INIT 26 OPENDIR 27
        READDIR 28 RELEASEDIR 29 FSYNCDIR 30 GETLK 31 SETLK 32 ACCESS 34 CREATE 35 FALLOCATE 43
        READDIRPLUS 44 RENAME2 45 LSEEK 46 COPY_FILE_RANGE 47 SYNCFS 50 TMPFILE 51 STATX 52
        COPY_FILE_RANGE_64 53
    }
}

/// A request: `struct fuse_in_header`, then what is added.
#[derive(Clone, Debug)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn new(opcode: u32, node: u64, (uid, gid): (u32, u32)) -> Self {
        Self(Vec::new())
            .u32(0)
            .u32(opcode)
            .u64(2)
            .u64(node)
            .u32(uid)
            .u32(gid)
            .u32(0)
            .u32(0)
    }

    /// From the task with this number.
    pub(crate) fn with_task(mut self, pid: u32) -> Self {
        self.0[32..36].copy_from_slice(&pid.to_le_bytes());
        self
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A string and its NUL.
    pub(crate) fn string(self, string: &[u8]) -> Self {
        self.bytes(string).bytes(&[0])
    }

    /// The group that a new node may have, as an extension.
    pub(crate) fn group(mut self, group: Option<u32>) -> Self {
        let Some(group) = group else {
            return self;
        };
        // `struct fuse_ext_header`, FUSE_EXT_GROUPS, `struct fuse_supp_groups`.
        self = self.u32(16).u32(32).u32(1).u32(group);
        self.0[36] = 2;
        self
    }

    /// The bytes, with `len` in the header set to their number.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap();
        self.0[..4].copy_from_slice(&len.to_le_bytes());
        self.0
    }
}

/// What follows the header of an answer.
#[derive(Debug)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    /// Takes an answer apart.
    pub(crate) fn of(answer: &[u8]) -> Result<Self, Errno> {
        let word = |at: usize| u32::from_le_bytes(answer[at..at + 4].try_into().unwrap());
        assert!(answer.len() >= 16, "an answer of {} bytes", answer.len());
        assert_eq!(word(0) as usize, answer.len(), "the length of an answer");
        match word(4).cast_signed() {
            0 => Ok(Self(answer[16..].to_vec())),
            error => {
                assert_eq!(answer.len(), 16, "an error with a body");
                Err(Errno::from_raw_os_error(-error))
            }
        }
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
