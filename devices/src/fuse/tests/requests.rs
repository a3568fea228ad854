//! One sound request for every operation, and what it leads to.

use crate::fuse::Opcode;
use crate::fuse::tests::guest::Message;

/// A request, and what has to come of it.
pub(super) struct Sound {
    pub(super) message: Message,
    /// What the file system is asked.
    pub(super) call: &'static str,
    /// Length of the reply's body.
    pub(super) reply: usize,
}

/// INIT with `flags` in 64 bytes, as Linux 5.17 and later send it.
pub(super) fn init(major: u32, minor: u32, flags: u64) -> Vec<u8> {
    Message::new(Opcode::INIT, 0)
        .u32(major)
        .u32(minor)
        .u32(0x20000)
        .bytes(&flags.to_le_bytes())
        .bytes(&[0; 44])
        .finish()
}

/// READ of `size` bytes at `offset`.
pub(super) fn read(size: u32, offset: u64) -> Message {
    Message::new(Opcode::READ, 5)
        .u64(6)
        .u64(offset)
        .u32(size)
        .u32(0)
        .u64(0)
        .u32(0o2)
        .u32(0)
}

/// WRITE of `size` bytes, of which `data` are there.
pub(super) fn write(size: u32, offset: u64, data: &[u8]) -> Message {
    Message::new(Opcode::WRITE, 5)
        .u64(6)
        .u64(offset)
        .u32(size)
        .u32(1 | 4)
        .u64(0)
        .u32(0o2)
        .u32(0)
        .bytes(data)
}

/// GETLK, SETLK or SETLKW of a kind by its number in `fcntl.h`.
pub(super) fn lock(opcode: Opcode, kind: u32, flags: u32) -> Message {
    Message::new(opcode, 5)
        .u64(6)
        .u64(7)
        .u64(8)
        .u64(9)
        .u32(kind)
        .u32(10)
        .u32(flags)
        .u32(0)
}

/// READDIR or READDIRPLUS with `size` bytes.
pub(super) fn readdir(opcode: Opcode, size: u32) -> Message {
    Message::new(opcode, 5)
        .u64(6)
        .u64(7)
        .u32(size)
        .u32(0)
        .u64(0)
        .u32(0)
        .u32(0)
}

/// COPY_FILE_RANGE of `length` bytes, in one of its forms.
pub(super) fn copy_file_range(opcode: Opcode, length: u64) -> Message {
    [6, 7, 8, 9, 10, length, 11]
        .into_iter()
        .fold(Message::new(opcode, 5), Message::u64)
}

/// A request for each operation of the file system, laid out as `linux/fuse.h` says for a guest
/// that agreed on everything.
pub(super) fn every_request() -> Vec<Sound> {
    let sound = |message, call, reply| Sound {
        message,
        call,
        reply,
    };
    let new = |opcode| Message::new(opcode, 5);
    vec![
        sound(new(Opcode::LOOKUP).bytes(b"a\0"), r#"lookup 5 "a""#, 128),
        sound(new(Opcode::LOOKUP).bytes(b".\0"), "lookup_itself 5", 128),
        sound(new(Opcode::LOOKUP).bytes(b"..\0"), "lookup_parent 5", 128),
        sound(
            new(Opcode::GETATTR).u32(1).u32(0).u64(6),
            "getattr 5 Some(6)",
            104,
        ),
        sound(
            new(Opcode::STATX).u32(1).u32(0).u64(6).u32(0).u32(0xfff),
            "getattr 5 Some(6)",
            288,
        ),
        sound(
            new(Opcode::SETATTR)
                .u32(0xfff)
                .u32(0)
                .u64(6)
                .u64(7)
                .u64(8)
                .u64(9)
                .u64(10)
                .u64(11)
                .u32(12)
                .u32(13)
                .u32(14)
                .u32(0o100_644)
                .u32(0)
                .u32(15)
                .u32(16)
                .u32(0),
            "setattr 5 Some(6) SetAttributes { mode: Some(420), uid: Some(15), gid: Some(16), \
             size: Some(7), atime: Some(Now), mtime: Some(Now), \
             ctime: Some(Timestamp { seconds: 11, nanoseconds: 14 }), kill_privileges: true }",
            104,
        ),
        sound(new(Opcode::READLINK), "readlink 5", 7),
        sound(
            new(Opcode::SYMLINK).bytes(b"name\0../tar/get\0"),
            r#"symlink 5 "name" "../tar/get""#,
            128,
        ),
        sound(
            new(Opcode::MKNOD)
                .u32(0o10644)
                .u32(9)
                .u32(0o22)
                .u32(0)
                .bytes(b"a\0"),
            r#"mknod 5 "a" NewNode { mode: 4516, umask: 18, rdev: 9 }"#,
            128,
        ),
        sound(
            new(Opcode::MKDIR).u32(0o755).u32(0o22).bytes(b"a\0"),
            r#"mkdir 5 "a" NewNode { mode: 493, umask: 18, rdev: 0 }"#,
            128,
        ),
        sound(new(Opcode::UNLINK).bytes(b"a\0"), r#"unlink 5 "a""#, 0),
        sound(new(Opcode::RMDIR).bytes(b"a\0"), r#"rmdir 5 "a""#, 0),
        sound(
            new(Opcode::RENAME).u64(6).bytes(b"a\0bc\0"),
            r#"rename 5 "a" RenameArgs { parent: 6, name: "bc", flags: 0 }"#,
            0,
        ),
        sound(
            new(Opcode::RENAME2).u64(6).u32(2).u32(0).bytes(b"a\0bc\0"),
            r#"rename 5 "a" RenameArgs { parent: 6, name: "bc", flags: 2 }"#,
            0,
        ),
        sound(
            new(Opcode::LINK).u64(6).bytes(b"a\0"),
            r#"link 5 "a" 6"#,
            128,
        ),
        sound(
            new(Opcode::OPEN).u32(0o1002).u32(1),
            "open 5 OpenArgs { flags: 514, kill_privileges: true }",
            16,
        ),
        sound(
            new(Opcode::CREATE)
                .u32(0o102)
                .u32(0o100_600)
                .u32(0o77)
                .u32(1)
                .bytes(b"a\0"),
            "create 5 \"a\" NewNode { mode: 33152, umask: 63, rdev: 0 } \
             OpenArgs { flags: 66, kill_privileges: true }",
            144,
        ),
        sound(
            new(Opcode::TMPFILE)
                .u32(0o20_200_002)
                .u32(0o100_600)
                .u32(0o77)
                .u32(0)
                .bytes(b"/\0"),
            "tmpfile 5 NewNode { mode: 33152, umask: 63, rdev: 0 } \
             OpenArgs { flags: 4259842, kill_privileges: false }",
            144,
        ),
        sound(
            read(4, 9),
            "read 5 0x1122334455667788 ReadArgs { handle: 6, size: 4, offset: 9, flags: 2 }",
            4,
        ),
        sound(
            write(3, 9, &[1, 2, 3]),
            "write 5 WriteArgs { handle: 6, size: 3, offset: 9, flags: 2, from_cache: true, \
             kill_privileges: true } [1, 2, 3]",
            8,
        ),
        sound(new(Opcode::STATFS), "statfs 5", 80),
        sound(
            new(Opcode::FLUSH).u64(6).u32(0).u32(0).u64(7),
            "flush 5 6 7",
            0,
        ),
        sound(
            new(Opcode::RELEASE).u64(6).u32(2).u32(1).u64(7),
            "release 5 ReleaseArgs { handle: 6, unlock: false }",
            0,
        ),
        sound(new(Opcode::FSYNC).u64(6).u32(1).u32(0), "fsync 5 6 true", 0),
        sound(new(Opcode::SYNCFS).u64(0), "syncfs 5", 0),
        sound(new(Opcode::OPENDIR).u32(3).u32(0), "opendir 5", 16),
        sound(readdir(Opcode::READDIR, 4096), "readdir 5 6 7 false", 64),
        sound(
            readdir(Opcode::READDIRPLUS, 4096),
            "readdir 5 6 7 true",
            320,
        ),
        sound(
            new(Opcode::RELEASEDIR).u64(6).u32(2).u32(1).u64(7),
            "releasedir 5 6",
            0,
        ),
        sound(
            new(Opcode::FSYNCDIR).u64(6).u32(0).u32(0),
            "fsyncdir 5 6 false",
            0,
        ),
        sound(
            lock(Opcode::GETLK, 1, 0),
            "getlk 5 LockArgs { handle: 6, owner: 7, lock: Lock { range: LockRange { start: 8, \
             end: 9 }, kind: Write, pid: 10 }, flock: false, wait: false }",
            24,
        ),
        sound(
            lock(Opcode::SETLK, 2, 0),
            "setlk 5 LockArgs { handle: 6, owner: 7, lock: Lock { range: LockRange { start: 8, \
             end: 9 }, kind: Unlock, pid: 10 }, flock: false, wait: false }",
            0,
        ),
        sound(
            lock(Opcode::SETLKW, 0, 1),
            "setlk 5 LockArgs { handle: 6, owner: 7, lock: Lock { range: LockRange { start: 8, \
             end: 9 }, kind: Read, pid: 10 }, flock: true, wait: true }",
            0,
        ),
        sound(new(Opcode::ACCESS).u32(4).u32(0), "access 5 4", 0),
        sound(
            new(Opcode::IOCTL)
                .u64(6)
                .u32(16)
                .u32(0x8008_6601)
                .u64(0xdead)
                .u32(2)
                .u32(4)
                .bytes(&[1, 2]),
            "ioctl 5 IoctlArgs { handle: 6, command: 2148034049, input: [1, 2], room: 4 }",
            20,
        ),
        sound(
            new(Opcode::SETXATTR)
                .u32(2)
                .u32(1)
                .u32(1)
                .u32(0)
                .bytes(b"user.a/b\0\x01\x02"),
            r#"setxattr 5 "user.a/b" SetXattrArgs { value: [1, 2], flags: 1, clear_set_gid: true }"#,
            0,
        ),
        sound(
            new(Opcode::GETXATTR).u32(64).u32(0).bytes(b"user.a\0"),
            r#"getxattr 5 "user.a" 64"#,
            7,
        ),
        sound(new(Opcode::LISTXATTR).u32(64).u32(0), "listxattr 5 64", 7),
        sound(
            new(Opcode::REMOVEXATTR).bytes(b"user.a\0"),
            r#"removexattr 5 "user.a""#,
            0,
        ),
        sound(
            new(Opcode::FALLOCATE).u64(6).u64(7).u64(8).u32(3).u32(0),
            "fallocate 5 FallocateArgs { handle: 6, mode: 3, offset: 7, length: 8 }",
            0,
        ),
        sound(
            (new(Opcode::SETUPMAPPING).u64(6).u64(0x1000).u64(0x3000))
                .u64(3)
                .u64(0x2000),
            "setup_mapping 5 SetupMappingArgs { handle: Some(6), file_offset: 4096, \
             part: WindowPart { offset: 8192, len: 12288 }, writable: true }",
            0,
        ),
        sound(
            (new(Opcode::REMOVEMAPPING).u32(2).u64(7).u64(8))
                .u64(9)
                .u64(10),
            "remove_mapping 5 [WindowPart { offset: 7, len: 8 }, WindowPart { offset: 9, len: 10 }]",
            0,
        ),
        sound(
            new(Opcode::LSEEK).u64(6).u64(7).u32(4).u32(0),
            "lseek 5 LseekArgs { handle: 6, offset: 7, whence: 4 }",
            8,
        ),
        sound(
            copy_file_range(Opcode::COPY_FILE_RANGE, 1 << 40),
            "copy_file_range 5 CopyFileRangeArgs { handle: 6, offset: 7, to_node: 8, to_handle: 9, \
             to_offset: 10, length: 4294967295, flags: 11 }",
            8,
        ),
        sound(
            copy_file_range(Opcode::COPY_FILE_RANGE_64, 1 << 40),
            "copy_file_range 5 CopyFileRangeArgs { handle: 6, offset: 7, to_node: 8, to_handle: 9, \
             to_offset: 10, length: 1099511627776, flags: 11 }",
            8,
        ),
    ]
}
