//! The operations of the protocol (`enum fuse_opcode` in `linux/fuse.h`), and
//! all that is to be known of each, in one table.
//!
//! A number from the guest stays a number here: [`Opcode`] holds any `u32`, so
//! that one which the protocol does not define is an ordinary value to be
//! answered with `ENOSYS`.

use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{
    AccessIn, BatchForgetIn, CreateIn, FallocateIn, FlushIn, ForgetIn, FsyncIn, GetattrIn,
    GetxattrIn, IoctlIn, LinkIn, LkIn, LseekIn, MkdirIn, MknodIn, OpenIn, ReadIn, ReleaseIn,
    Rename2In, RenameIn, SetattrIn, SetxattrIn, WriteIn,
};

use self::Answer::{Always, Never, Perhaps};
use self::Wait::{ByHost, ByHosts, ByNode, No, Yes};
use super::dispatch::{
    attributes, create, directories, files, ioctls, locks, lookup, mappings, remove, xattrs,
};
use super::request::Operation;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opcode(pub u32);

/// Whether a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It is, and not executed when the driver left no room for the header.
    Always,
    /// If there is room. INTERRUPT has a reply in some cases only, and DESTROY
    /// ends a session, which needs no confirmation.
    Perhaps,
    /// Not even with an error ("no reply" in `linux/fuse.h`).
    Never,
}

/// Whether a request may wait for the host's disk or for someone else, and
/// must not keep its queue from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    No,
    Yes,
    /// If the node is a stream, or is on such a file system.
    ByNode,
    /// If the node is on a file system of the host that may wait for somebody
    /// else whatever it is asked.
    ByHost,
    /// If it is, or the other node, which the body begins with.
    ByHosts,
}

/// A line of the table.
#[derive(Clone, Copy)]
struct Facts {
    name: &'static str,
    answer: Answer,
    wait: Wait,
    /// The fewest bytes that may follow the header.
    body: usize,
    /// Decodes and executes it; `None` if it is not served, or is about the
    /// session and not the file system.
    operation: Option<Operation>,
}

/// The shortest name in a directory, with its NUL.
const NAME: usize = 2;

/// The shortest of other strings: the target of a symbolic link, and the name
/// of an extended attribute, which is `ERANGE`.
const STRING: usize = 1;

/// `sizeof(struct fuse_statx_in)`.
const STATX_IN: usize = 24;

/// `sizeof(struct fuse_copy_file_range_in)`.
const COPY_FILE_RANGE_IN: usize = 56;

/// `sizeof(struct fuse_setupmapping_in)`.
const SETUPMAPPING_IN: usize = 40;

/// `struct fuse_removemapping_in`, and one `struct fuse_removemapping_one`.
const REMOVEMAPPING_IN: usize = 4 + 16;

macro_rules! opcodes {
    ($($name:ident $number:literal $answer:ident $wait:ident $body:expr, $operation:expr;)*) => {
        #[allow(missing_docs)]
        impl Opcode {
            $(pub const $name: Opcode = Opcode($number);)*
        }

        const fn table() -> [Option<Facts>; Opcode::COUNT] {
            let mut table = [None; Opcode::COUNT];
            $(table[$number] = Some(Facts {
                name: stringify!($name),
                answer: $answer,
                wait: $wait,
                body: $body,
                operation: $operation,
            });)*
            table
        }
    };
}

static TABLE: [Option<Facts>; Opcode::COUNT] = table();

// Name, number, is it answered, may it wait, shortest body, what decodes it.
#[rustfmt::skip]
opcodes! {
    LOOKUP          1  Always  ByHost NAME, Some(lookup::lookup);
    FORGET          2  Never   No     size_of::<ForgetIn>(), Some(lookup::forget);
    GETATTR         3  Always  ByHost size_of::<GetattrIn>(), Some(attributes::getattr);
    SETATTR         4  Always  ByHost size_of::<SetattrIn>(), Some(attributes::setattr);
    READLINK        5  Always  ByHost 0, Some(lookup::readlink);
    SYMLINK         6  Always  ByHost NAME + STRING, Some(create::symlink);
    MKNOD           8  Always  ByHost size_of::<MknodIn>() + NAME, Some(create::mknod);
    MKDIR           9  Always  ByHost size_of::<MkdirIn>() + NAME, Some(create::mkdir);
    UNLINK          10 Always  ByHost NAME, Some(remove::unlink);
    RMDIR           11 Always  ByHost NAME, Some(remove::rmdir);
    RENAME          12 Always  ByHosts size_of::<RenameIn>() + 2 * NAME, Some(remove::rename);
    LINK            13 Always  ByHosts size_of::<LinkIn>() + NAME, Some(create::link);
    OPEN            14 Always  ByHost size_of::<OpenIn>(), Some(files::open);
    READ            15 Always  ByNode size_of::<ReadIn>(), Some(files::read);
    WRITE           16 Always  ByNode size_of::<WriteIn>(), Some(files::write);
    STATFS          17 Always  ByHost 0, Some(attributes::statfs);
    RELEASE         18 Always  ByHost size_of::<ReleaseIn>(), Some(files::release);
    FSYNC           20 Always  Yes    size_of::<FsyncIn>(), Some(files::fsync);
    SETXATTR        21 Always  ByHost size_of::<SetxattrIn>() + STRING, Some(xattrs::setxattr);
    GETXATTR        22 Always  ByHost size_of::<GetxattrIn>() + STRING, Some(xattrs::getxattr);
    LISTXATTR       23 Always  ByHost size_of::<GetxattrIn>(), Some(xattrs::listxattr);
    REMOVEXATTR     24 Always  ByHost STRING, Some(xattrs::removexattr);
    FLUSH           25 Always  ByHost size_of::<FlushIn>(), Some(files::flush);
    INIT            26 Always  No     8, None;
    OPENDIR         27 Always  ByHost size_of::<OpenIn>(), Some(directories::opendir);
    READDIR         28 Always  ByHost size_of::<ReadIn>(), Some(directories::readdir);
    RELEASEDIR      29 Always  ByHost size_of::<ReleaseIn>(), Some(directories::releasedir);
    FSYNCDIR        30 Always  Yes    size_of::<FsyncIn>(), Some(directories::fsyncdir);
    GETLK           31 Always  ByHost size_of::<LkIn>(), Some(locks::getlk);
    SETLK           32 Always  ByHost size_of::<LkIn>(), Some(locks::setlk);
    SETLKW          33 Always  ByHost size_of::<LkIn>(), Some(locks::setlkw);
    ACCESS          34 Always  ByHost size_of::<AccessIn>(), Some(attributes::access);
    CREATE          35 Always  ByHost size_of::<CreateIn>() + NAME, Some(create::create);
    INTERRUPT       36 Perhaps No     8, None;
    BMAP            37 Always  No     0, None;
    DESTROY         38 Perhaps No     0, None;
    IOCTL           39 Always  Yes    size_of::<IoctlIn>(), Some(ioctls::ioctl);
    POLL            40 Always  No     0, None;
    NOTIFY_REPLY    41 Always  No     0, None;
    BATCH_FORGET    42 Never   No     size_of::<BatchForgetIn>(), Some(lookup::batch_forget);
    FALLOCATE       43 Always  Yes    size_of::<FallocateIn>(), Some(files::fallocate);
    READDIRPLUS     44 Always  ByHost size_of::<ReadIn>(), Some(directories::readdirplus);
    RENAME2         45 Always  ByHosts size_of::<Rename2In>() + 2 * NAME, Some(remove::rename2);
    LSEEK           46 Always  ByHost size_of::<LseekIn>(), Some(files::lseek);
    COPY_FILE_RANGE 47 Always  Yes    COPY_FILE_RANGE_IN, Some(files::copy_file_range);
    SETUPMAPPING    48 Always  ByHost SETUPMAPPING_IN, Some(mappings::setupmapping);
    REMOVEMAPPING   49 Always  No     REMOVEMAPPING_IN, Some(mappings::removemapping);
    SYNCFS          50 Always  Yes    size_of::<u64>(), Some(files::syncfs);
    TMPFILE         51 Always  ByHost size_of::<CreateIn>() + NAME, Some(create::tmpfile);
    STATX           52 Always  ByHost STATX_IN, Some(attributes::statx);
    COPY_FILE_RANGE_64 53 Always Yes  COPY_FILE_RANGE_IN, Some(files::copy_file_range_64);
}

impl Opcode {
    /// One more than the largest number the protocol defines.
    pub const COUNT: usize = 54;

    fn facts(self) -> Option<&'static Facts> {
        TABLE.get(usize::try_from(self.0).ok()?)?.as_ref()
    }

    /// The name in the protocol's header file without the prefix `FUSE_`, or
    /// `"UNKNOWN"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().map_or("UNKNOWN", |facts| facts.name)
    }

    /// Whether the protocol defines it.
    pub(super) fn is_defined(self) -> bool {
        self.facts().is_some()
    }

    /// Whether the protocol has no reply to it, not even an error.
    pub(super) fn is_silent(self) -> bool {
        self.facts().is_some_and(|facts| facts.answer == Never)
    }

    /// Whether it takes effect even when the driver left no room for an
    /// answer.
    pub(super) fn needs_no_reply(self) -> bool {
        self.facts().is_some_and(|facts| facts.answer != Always)
    }

    /// Whether it may wait.
    pub(super) fn wait(self) -> Wait {
        self.facts().map_or(No, |facts| facts.wait)
    }

    /// The fewest bytes that may follow the header.
    pub(super) fn smallest_body(self) -> usize {
        self.facts().map_or(0, |facts| facts.body)
    }

    /// What decodes and executes it.
    pub(super) fn operation(self) -> Option<Operation> {
        self.facts().and_then(|facts| facts.operation)
    }
}
