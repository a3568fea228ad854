//! Operations that are made up at random.

use proptest::prelude::*;

use crate::operation::{Caller, Change, Contents, LockKind, Name, Op, ROOT, Slot, Step, Time};

fn slot() -> impl Strategy<Value = Slot> {
    0..12_u8
}

/// The names that most steps share, so that they meet.
fn usual() -> impl Strategy<Value = Name> {
    prop::sample::select(vec!["a", "b", "c", "d", "e"]).prop_map(|name| Name(name.into()))
}

fn name() -> impl Strategy<Value = Name> {
    let odd = vec![
        vec![b'n'; 255],
        vec![b'n'; 256],
        vec![b'n'; 4096],
        b"\xff\xfe\x80".to_vec(),
        b"a\nb\t\x01".to_vec(),
        "\u{e9}".into(),
        b" ".to_vec(),
        b"...".to_vec(),
        b"".to_vec(),
        b".".to_vec(),
        b"..".to_vec(),
        b"a/b".to_vec(),
        b"/".to_vec(),
    ];
    prop_oneof![
        12 => usual(),
        1 => prop::sample::select(odd).prop_map(Name),
    ]
}

fn target() -> impl Strategy<Value = Name> {
    let target = prop_oneof![
        prop::sample::select(vec!["a", "b/c", "../a", "/", "nowhere", ".", ""])
            .prop_map(|target| target.as_bytes().to_vec()),
        Just(vec![b't'; 4095]),
        Just(vec![b't'; 4096]),
        Just(b"\xff/\x01".to_vec()),
    ];
    target.prop_map(Name)
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![
            0o644, 0o755, 0o600, 0, 0o7777, 0o2775, 0o4755, 0o2644, 0o1777
        ]),
        0..0o10000_u32,
    ]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0..9000_u64,
        2 => Just(0_u64),
        1 => prop::sample::select(vec![
            4096, 65_536, 1 << 20, (1 << 32) - 1, 1 << 40, i64::MAX as u64 - 10, i64::MAX as u64,
            1 << 63, (1 << 63) + 7, u64::MAX - 1, u64::MAX,
        ]),
    ]
}

/// Sizes that no file system turns into many blocks.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0..9000_u64,
        1 => prop::sample::select(vec![
            0, 1, 4095, 4096, 1 << 20, 1 << 31, (1 << 43) + 1, i64::MAX as u64, 1 << 63, u64::MAX,
        ]),
    ]
}

fn contents(most: u32) -> impl Strategy<Value = Contents> {
    let length = prop_oneof![4 => 0..most.min(300), 1 => 0..=most];
    (any::<u8>(), length).prop_map(|(seed, length)| Contents { seed, length })
}

fn flags() -> impl Strategy<Value = i32> {
    let more = [
        libc::O_APPEND,
        libc::O_TRUNC,
        libc::O_EXCL,
        libc::O_NOFOLLOW,
        libc::O_SYNC,
        libc::O_NONBLOCK,
        libc::O_NOATIME,
    ];
    let access = prop_oneof![
        2 => Just(libc::O_RDONLY),
        2 => Just(libc::O_WRONLY),
        5 => Just(libc::O_RDWR),
    ];
    (
        access,
        prop::collection::vec(prop::bool::weighted(0.15), more.len()),
    )
        .prop_map(move |(access, chosen)| {
            let chosen = more.iter().zip(chosen).filter(|(_, is)| *is);
            chosen.fold(access, |all, (flag, _)| all | flag)
        })
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        Just(Time::Omit),
        Just(Time::Now),
        (
            prop::sample::select(vec![
                0,
                -1,
                1,
                1_000_000_000,
                -2_000_000_000,
                1 << 31,
                1 << 33
            ]),
            prop::sample::select(vec![0, 1, 999_999_999, 1_000_000_000, 500_000_000]),
        )
            .prop_map(|(seconds, nanoseconds)| Time::At(seconds, nanoseconds)),
    ]
}

fn id() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0, 1000, 1001, 100, 65_534, u32::MAX - 1, u32::MAX])
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => mode().prop_map(|mode| Change { mode: Some(mode), ..Change::default() }),
        2 => (prop::option::of(id()), prop::option::of(id()))
            .prop_map(|(uid, gid)| Change { uid, gid, ..Change::default() }),
        3 => size().prop_map(|size| Change { size: Some(size), ..Change::default() }),
        3 => (time(), time())
            .prop_map(|times| Change { times: Some(times), ..Change::default() }),
        1 => (prop::option::of(mode()), prop::option::of(id()), prop::option::of(size()),
            prop::option::of((time(), time())))
            .prop_map(|(mode, uid, size, times)| Change { mode, uid, gid: None, size, times }),
    ]
}

fn attribute() -> impl Strategy<Value = Name> {
    let usual = ["user.a", "user.b", "trusted.a"].map(|name| name.as_bytes().to_vec());
    let mut odd = [
        "",
        "user.",
        "user",
        "a",
        "nonsense.a",
        "security.a",
        "security.capability",
        "security.selinux",
        "system.posix_acl_access",
        "system.posix_acl_default",
        "system.a",
        "trusted.",
        "trusted.overlay.opaque",
        "trusted.virtiofs.a",
        "USER.a",
        "user.\u{e9}/..",
        "os2.a",
    ]
    .map(|name| name.as_bytes().to_vec())
    .to_vec();
    for length in [200, 254, 255, 256, 300] {
        let mut long = b"user.".to_vec();
        long.resize(length, b'x');
        odd.push(long);
    }
    let name = prop_oneof![
        3 => prop::sample::select(usual.to_vec()),
        1 => prop::sample::select(odd),
    ];
    name.prop_map(Name)
}

fn attribute_size() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0, 0, 1, 7, 255, 300, 4096, 65_535, 65_536])
}

fn attribute_value() -> impl Strategy<Value = Contents> {
    let length = prop::sample::select(vec![0, 1, 7, 20, 255, 256, 3000, 65_535, 65_536, 65_537]);
    (any::<u8>(), length).prop_map(|(seed, length)| Contents { seed, length })
}

fn lock_kind() -> impl Strategy<Value = LockKind> {
    prop::sample::select(vec![LockKind::Read, LockKind::Write, LockKind::Unlock])
}

/// First and last byte.
fn range() -> impl Strategy<Value = (u64, u64)> {
    let last = i64::MAX as u64;
    prop_oneof![
        4 => (0..30_u64, 0..20_u64).prop_map(|(at, more)| (at, at + more)),
        1 => Just((0, last)),
        1 => (0..30_u64).prop_map(move |at| (at, last)),
        1 => Just((last, last)),
        1 => Just((10, 5)),
        1 => Just((0, u64::MAX)),
    ]
}

fn owner() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![1, 2, u64::MAX])
}

fn names() -> BoxedStrategy<Op> {
    prop_oneof![
        10 => (slot(), name()).prop_map(|(dir, name)| Op::Lookup(dir, name)),
        2 => slot().prop_map(Op::Forget),
        3 => (slot(), name(), target()).prop_map(|(dir, name, to)| Op::Symlink(dir, name, to)),
        3 => (slot(), name(), kind_and_mode(), rdev())
            .prop_map(|(dir, name, mode, rdev)| Op::Mknod(dir, name, mode, rdev)),
        8 => (slot(), name(), mode()).prop_map(|(dir, name, mode)| Op::Mkdir(dir, name, mode)),
        5 => (slot(), name()).prop_map(|(dir, name)| Op::Unlink(dir, name)),
        3 => (slot(), name()).prop_map(|(dir, name)| Op::Rmdir(dir, name)),
        8 => (slot(), name(), slot(), name(), rename_flags())
            .prop_map(|(dir, name, to, new, flags)| Op::Rename(dir, name, to, new, flags)),
        5 => (slot(), slot(), name()).prop_map(|(node, dir, name)| Op::Link(node, dir, name)),
        8 => (slot(), name(), mode(), flags())
            .prop_map(|(dir, name, mode, flags)| Op::Create(dir, name, mode, flags)),
        2 => (slot(), mode(), flags()).prop_map(|(dir, mode, flags)| Op::Tmpfile(dir, mode, flags)),
        3 => slot().prop_map(Op::Readlink),
        4 => (slot(), any::<bool>(), prop::sample::select(vec![512, 1024, 4096, 65_536]), 0..8_u8)
            .prop_map(|(dir, plus, room, again)| Op::List(dir, plus, room, again)),
        1 => slot().prop_map(Op::Fsyncdir),
    ]
    .boxed()
}

fn rename_flags() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![
        2 => Just(None),
        3 => prop::sample::select(vec![0, 1, 2, 2, 4, 3, 5, 6, 8]).prop_map(Some),
    ]
}

fn kind_and_mode() -> impl Strategy<Value = u32> {
    let kinds = vec![
        libc::S_IFREG,
        libc::S_IFREG,
        libc::S_IFIFO,
        libc::S_IFSOCK,
        libc::S_IFCHR,
        libc::S_IFBLK,
        libc::S_IFDIR,
        libc::S_IFLNK,
        0,
        0o170_000,
    ];
    (prop::sample::select(kinds), mode()).prop_map(|(kind, mode)| kind | mode)
}

fn rdev() -> impl Strategy<Value = u32> {
    // As the kernel's `new_encode_dev` packs them.
    prop::sample::select(vec![0, 0x0103, 0xffff_ffff, 0x0012_0305])
}

fn attributes() -> BoxedStrategy<Op> {
    prop_oneof![
        5 => (slot(), prop::option::of(slot())).prop_map(|(node, file)| Op::Getattr(node, file)),
        1 => slot().prop_map(Op::Statx),
        8 => (slot(), prop::option::weighted(0.3, slot()), change())
            .prop_map(|(node, file, change)| Op::Setattr(node, file, change)),
        2 => (slot(), 0..9_u32).prop_map(|(node, mask)| Op::Access(node, mask)),
        1 => slot().prop_map(Op::Statfs),
        4 => (slot(), attribute(), attribute_value(), prop::sample::select(vec![0, 0, 1, 2, 3, 4]))
            .prop_map(|(node, name, value, flags)| Op::Setxattr(node, name, value, flags)),
        4 => (slot(), attribute(), attribute_size())
            .prop_map(|(node, name, size)| Op::Getxattr(node, name, size)),
        2 => (slot(), attribute_size()).prop_map(|(node, size)| Op::Listxattr(node, size)),
        2 => (slot(), attribute()).prop_map(|(node, name)| Op::Removexattr(node, name)),
    ]
    .boxed()
}

fn data() -> BoxedStrategy<Op> {
    // KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO, INSERT, UNSHARE.
    let modes = vec![0, 0, 1, 3, 2, 8, 0x10, 0x11, 0x20, 0x40, 0x80, 0x100];
    prop_oneof![
        5 => (slot(), flags()).prop_map(|(node, flags)| Op::Open(node, flags)),
        6 => (slot(), offset(), prop_oneof![4 => 0..9000_u32, 1 => 0..200_000_u32])
            .prop_map(|(file, at, size)| Op::Read(file, at, size)),
        8 => (slot(), offset(), contents(70_000)).prop_map(|(file, at, data)| Op::Write(file, at, data)),
        2 => slot().prop_map(Op::Release),
        1 => (slot(), any::<bool>()).prop_map(|(file, data)| Op::Fsync(file, data)),
        1 => Just(Op::Syncfs),
        3 => (slot(), prop::sample::select(modes), offset(), size())
            .prop_map(|(file, mode, at, length)| Op::Fallocate(file, mode, at, length)),
        3 => (slot(), offset(), prop::sample::select(vec![3, 4]))
            .prop_map(|(file, at, whence)| Op::Lseek(file, at, whence)),
        3 => (slot(), offset(), slot(), offset(), size(), prop::sample::select(vec![0, 0, 0, 0, 1]),
            any::<bool>())
            .prop_map(|(from, at, to, to_at, length, flags, wide)| {
                Op::Copy(from, at, to, to_at, length, flags, wide)
            }),
    ]
    .boxed()
}

fn locks() -> BoxedStrategy<Op> {
    prop_oneof![
        3 => (slot(), owner(), lock_kind(), range())
            .prop_map(|(file, owner, kind, (at, end))| Op::Getlk(file, owner, kind, at, end)),
        6 => (slot(), owner(), lock_kind(), range())
            .prop_map(|(file, owner, kind, (at, end))| Op::Setlk(file, owner, kind, at, end)),
        2 => (slot(), lock_kind()).prop_map(|(file, kind)| Op::Flock(file, kind)),
        1 => (slot(), owner()).prop_map(|(file, owner)| Op::Flush(file, owner)),
    ]
    .boxed()
}

fn caller() -> impl Strategy<Value = Caller> {
    let user = |uid, gid, group| Caller { uid, gid, group };
    prop_oneof![
        4 => Just(ROOT),
        1 => Just(user(1000, 1000, None)),
        1 => Just(user(1001, 100, None)),
        1 => Just(user(1001, 100, Some(1000))),
        1 => Just(user(0, 1000, None)),
    ]
}

/// A sequence of at most `most` steps.
pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let op = prop_oneof![
        6 => names(),
        4 => attributes(),
        5 => data(),
        2 => locks(),
    ];
    let step = (caller(), op).prop_map(|(caller, op)| Step { caller, op });
    prop::collection::vec(step, 1..most)
}
