//! Guests that open nothing (`FUSE_NO_OPEN_SUPPORT`, `FUSE_NO_OPENDIR_SUPPORT`): they
//! read a node that they have looked up, which spares two requests for each file or
//! directory that a program opens.
//!
//! For trees that nobody changes and that are only read. Linux takes it for the whole
//! session, goes by the sizes of files and keeps what it has read: files that the host
//! makes up when they are read would all be empty. So there must be none.

use std::ffi::OsString;
use std::fs::File;
use std::ops::Deref;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Passthrough;
use super::budget::Purpose;
use super::config::{CachePolicy, Config};
use super::confinement::Otherwise;
use super::handle::{Open, OpenDirectory, OpenFile, OpenNode};
use super::mount::Mount;
use super::stat::Kind;
use crate::filesystem::{Handle, Request, Result};

/// What a guest names that has opened nothing.
const NO_HANDLE: Handle = 0;

/// What a request is about: what the guest has open, or what was opened for the
/// request.
pub(super) enum Subject {
    Listed(Arc<Open>),
    ForOnce(Open),
}

impl Deref for Subject {
    type Target = Open;

    fn deref(&self) -> &Open {
        match self {
            Self::Listed(open) => open,
            Self::ForOnce(open) => open,
        }
    }
}

impl Passthrough {
    /// As [`may_go_without`], in the share as it is.
    pub(super) fn needs_no_open(&self) -> bool {
        self.is_plain && may_go_without(&self.config)
    }

    /// What `handle` stands for.
    pub(super) fn opened_by(&self, request: &Request<'_>, handle: Handle) -> Result<Subject> {
        if handle != NO_HANDLE || !self.agreement().no_open {
            return self.handles.get(request.node, handle).map(Subject::Listed);
        }
        let inode = self.inodes.get(request.node)?;
        let node = match inode.kind {
            Kind::Regular => {
                self.confine_file(&inode, Otherwise::UnlessOpen)?;
                let flags = self.host_flags(OFlags::RDONLY.bits(), &inode.mount)?;
                let descriptor = self.descriptor(&inode)?;
                let open = || {
                    self.reopen_unless_leased(&descriptor, flags, request.may_wait())
                        .map(File::from)
                };
                let file = self.hold(Purpose::Work, open)?;
                OpenNode::File(OpenFile { file, flags })
            }
            Kind::Directory => {
                let (inode, descriptor) = self.coherent_directory(inode.number, &request.caller)?;
                let flags = self.host_flags(OFlags::DIRECTORY.bits(), &inode.mount)?;
                let flags = flags | OFlags::DIRECTORY;
                let open = || self.reopen(&*descriptor, flags).map(File::from);
                OpenNode::Directory(OpenDirectory {
                    file: self.hold(Purpose::Work, open)?,
                    cursor: Mutex::default(),
                })
            }
            Kind::Symlink | Kind::Special => return Err(Errno::BADF),
        };
        Ok(Subject::ForOnce(self.handles.unlisted(inode, node)))
    }

    /// `EIO` for a file that would be empty: its file system was mounted after the
    /// share began.
    pub(super) fn ensure_readable(&self, kind: Kind, mount: &Mount) -> Result<()> {
        let would_be_empty = kind == Kind::Regular && mount.host_fs.synthetic;
        match would_be_empty && self.agreement().no_open {
            true => Err(Errno::IO),
            false => Ok(()),
        }
    }
}

/// Whether a guest may do without opening: in a tree that is only read and that nobody
/// changes. A lock belongs to what is open.
fn may_go_without(config: &Config) -> bool {
    config.read_only && config.cache == CachePolicy::Always && !config.locks
}

/// Whether all of the tree at `root` is on one file system that stores its files. No
/// also where it cannot be found out, and where nobody asks.
pub(super) fn is_plain(config: &Config, root: &Path, own: &Mount) -> bool {
    if !may_go_without(config) || own.host_fs.synthetic {
        return false;
    }
    let mounts = std::fs::read("/proc/self/mountinfo");
    let (Ok(root), Ok(mounts)) = (root.canonicalize(), mounts) else {
        return false;
    };
    let points = mounts.split(|byte| *byte == b'\n').filter_map(mount_point);
    let mut below = points.filter(|point| point.starts_with(&root) && *point != root);
    below.next().is_none()
}

/// That of a line of `mountinfo` (proc_pid_mountinfo(5)), in which spaces and the like
/// are octal.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut parts = field.split(|byte| *byte == b'\\');
    let mut path = parts.next()?.to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(3)?;
        let digits = std::str::from_utf8(digits).ok()?;
        path.push(u8::from_str_radix(digits, 8).ok()?);
        path.extend_from_slice(rest);
    }
    Some(OsString::from_vec(path).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_whatever_is_in_their_names() {
        for (line, point) in [
            (
                "36 35 98:0 /m /mnt2 rw shared:1 - ext3 /dev/root rw",
                Some("/mnt2"),
            ),
            (
                r"36 35 98:0 / /a\040b\134c\012 rw - x y rw",
                Some("/a b\\c\n"),
            ),
            ("36 35 98:0 / / rw - x y rw", Some("/")),
            (r"36 35 98:0 / /a\0 rw - x y rw", None),
            (r"36 35 98:0 / /a\9zz rw - x y rw", None),
            ("36 35", None),
            ("", None),
        ] {
            let found = mount_point(line.as_bytes());
            assert_eq!(found.as_deref(), point.map(Path::new), "{line}");
        }
    }
}
