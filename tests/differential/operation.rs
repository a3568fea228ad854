//! What can be done.
//!
//! Nodes and open files are named by where they are in a list of those that
//! there are (modulo its length), so that a sequence stays one when steps are
//! left out.

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The one other group that it is in.
    pub(crate) group: Option<u32>,
}

pub(crate) const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    group: None,
};

/// A name in a directory.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) Vec<u8>);

impl std::fmt::Debug for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.len() {
            0..40 => write!(formatter, "\"{}\"", self.0.escape_ascii()),
            long => write!(formatter, "{long} bytes"),
        }
    }
}

/// Contents, by what makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) seed: u8,
    pub(crate) length: u32,
}

impl Contents {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let byte = |n: u32| self.seed.wrapping_add(n.to_le_bytes()[0]).wrapping_mul(7);
        (0..self.length).map(byte).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    Omit,
    Now,
    At(i64, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    Read,
    Write,
    Unlock,
}

/// A change of attributes; nothing else stays `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) times: Option<(Time, Time)>,
}

impl Change {
    /// Whether it is several at once.
    pub(crate) fn is_manifold(&self) -> bool {
        let owner = self.uid.is_some() || self.gid.is_some();
        let parts = [
            self.mode.is_some(),
            owner,
            self.size.is_some(),
            self.times.is_some(),
        ];
        parts.into_iter().filter(|is| *is).count() > 1
    }
}

/// A place in a list.
pub(crate) type Slot = u8;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Lookup(Slot, Name),
    Forget(Slot),
    Getattr(Slot, Option<Slot>),
    Statx(Slot),
    Setattr(Slot, Option<Slot>, Change),
    Readlink(Slot),
    Symlink(Slot, Name, Name),
    Mknod(Slot, Name, u32, u32),
    Mkdir(Slot, Name, u32),
    Unlink(Slot, Name),
    Rmdir(Slot, Name),
    /// The flags of `renameat2(2)`; none is RENAME.
    Rename(Slot, Name, Slot, Name, Option<u32>),
    /// What gets a name, where and which.
    Link(Slot, Slot, Name),
    Open(Slot, i32),
    Create(Slot, Name, u32, i32),
    Tmpfile(Slot, u32, i32),
    Read(Slot, u64, u32),
    Write(Slot, u64, Contents),
    Flush(Slot, u64),
    Release(Slot),
    Fsync(Slot, bool),
    Fsyncdir(Slot),
    Syncfs,
    Fallocate(Slot, u32, u64, u64),
    Lseek(Slot, u64, u32),
    /// From and to a file and offset each, length, flags; in the newer form.
    Copy(Slot, u64, Slot, u64, u64, u64, bool),
    /// With attributes or without, in replies of so many bytes, and again from
    /// the entry with this number.
    List(Slot, bool, u32, u8),
    Setxattr(Slot, Name, Contents, u32),
    Getxattr(Slot, Name, u32),
    Listxattr(Slot, u32),
    Removexattr(Slot, Name),
    Access(Slot, u32),
    Statfs(Slot),
    Getlk(Slot, u64, LockKind, u64, u64),
    Setlk(Slot, u64, LockKind, u64, u64),
    Flock(Slot, LockKind),
}

impl Name {
    /// Whether it can be one.
    fn is_component(&self) -> bool {
        let bytes = &*self.0;
        !matches!(bytes, b"" | b"." | b"..") && bytes.len() <= 255 && !bytes.contains(&b'/')
    }
}

impl Op {
    /// Whether a name is none, which Linux finds out before it asks.
    pub(crate) fn names_nothing(&self) -> bool {
        match self {
            Self::Lookup(_, name)
            | Self::Symlink(_, name, _)
            | Self::Mknod(_, name, ..)
            | Self::Mkdir(_, name, _)
            | Self::Unlink(_, name)
            | Self::Rmdir(_, name)
            | Self::Create(_, name, ..)
            | Self::Link(_, _, name) => !name.is_component(),
            Self::Rename(_, name, _, new, _) => !name.is_component() || !new.is_component(),
            _ => false,
        }
    }

    /// Its name in the table of known differences.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Lookup(..) => "LOOKUP",
            Self::Forget(..) => "FORGET",
            Self::Getattr(..) => "GETATTR",
            Self::Statx(..) => "STATX",
            Self::Setattr(..) => "SETATTR",
            Self::Readlink(..) => "READLINK",
            Self::Symlink(..) => "SYMLINK",
            Self::Mknod(..) => "MKNOD",
            Self::Mkdir(..) => "MKDIR",
            Self::Unlink(..) => "UNLINK",
            Self::Rmdir(..) => "RMDIR",
            Self::Rename(..) => "RENAME",
            Self::Link(..) => "LINK",
            Self::Open(..) => "OPEN",
            Self::Create(..) => "CREATE",
            Self::Tmpfile(..) => "TMPFILE",
            Self::Read(..) => "READ",
            Self::Write(..) => "WRITE",
            Self::Flush(..) => "FLUSH",
            Self::Release(..) => "RELEASE",
            Self::Fsync(..) => "FSYNC",
            Self::Fsyncdir(..) => "FSYNCDIR",
            Self::Syncfs => "SYNCFS",
            Self::Fallocate(..) => "FALLOCATE",
            Self::Lseek(..) => "LSEEK",
            Self::Copy(..) => "COPY_FILE_RANGE",
            Self::List(..) => "READDIR",
            Self::Setxattr(..) => "SETXATTR",
            Self::Getxattr(..) => "GETXATTR",
            Self::Listxattr(..) => "LISTXATTR",
            Self::Removexattr(..) => "REMOVEXATTR",
            Self::Access(..) => "ACCESS",
            Self::Statfs(..) => "STATFS",
            Self::Getlk(..) => "GETLK",
            Self::Setlk(..) => "SETLK",
            Self::Flock(..) => "FLOCK",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) caller: Caller,
    pub(crate) op: Op,
}
