//! IOCTL: the commands that a file system may be asked for, and no other.
//!
//! A command is carried out only if its number, the length of what it is given
//! and the room for what it answers are known here. None is passed on as it
//! came: its argument is copied, and where it has pointers they are ours.
//!
//! Who may change flags Linux has decided before it asks (`fileattr_set` in its
//! `fs/`): the owner, and who has `CAP_LINUX_IMMUTABLE` what the host's
//! `chattr(1)` wants it for. The host then decides whether this process may.
//! About fs-verity the guest's kernel decides nothing.

use std::fs::File;

use rustix::fs::IFlags;
use rustix::io::Errno;

use super::Passthrough;
use super::handle::{Open, OpenNode};
use super::stat::Stat;
use super::sys::{self, EnableVerity, FsXattr, command};
use super::without_open::Subject;
use crate::filesystem::{Caller, IoctlArgs, IoctlOperations, Request, Result};

/// `struct fsverity_enable_arg`.
const ENABLE_SIZE: usize = 128;
/// `struct fsverity_digest` without the digest.
const DIGEST_HEADER: usize = 4;
/// Longest salt and signature that any Linux takes, in bytes (`fs/verity`).
const SALT_MAX: usize = 32;
const SIGNATURE_MAX: usize = 16128;

impl IoctlOperations for Passthrough {
    fn ioctl(&self, request: &Request<'_>, args: &IoctlArgs<'_>) -> Result<Vec<u8>> {
        match args.command {
            command::GETFLAGS => {
                let open = self.subject(request, args)?;
                ensure(args.input.is_empty() && args.room >= size_of::<u32>())?;
                let flags = rustix::fs::ioctl_getflags(open.host())?;
                Ok(flags.bits().to_ne_bytes().to_vec())
            }
            command::SETFLAGS => {
                let open = self.subject_to_change(request, args)?;
                let flags = args.input.first_chunk().ok_or(Errno::INVAL)?;
                let flags = IFlags::from_bits_retain(u32::from_ne_bytes(*flags));
                let now = rustix::fs::ioctl_getflags(open.host())?;
                if (now ^ flags).contains(IFlags::PROJECT_INHERIT) {
                    return Err(Errno::OPNOTSUPP);
                }
                changed(&open, rustix::fs::ioctl_setflags(open.host(), flags))
            }
            command::FSGETXATTR => {
                let open = self.subject(request, args)?;
                ensure(args.input.is_empty() && args.room >= size_of::<FsXattr>())?;
                Ok(sys::fsxattr(open.host())?.to_vec())
            }
            command::FSSETXATTR => {
                let open = self.subject_to_change(request, args)?;
                let attributes: FsXattr = args.input.try_into().map_err(|_| Errno::INVAL)?;
                if !same_project(&sys::fsxattr(open.host())?, &attributes) {
                    return Err(Errno::OPNOTSUPP);
                }
                changed(&open, sys::set_fsxattr(open.host(), &attributes))
            }
            command::ENABLE_VERITY => {
                let open = self.subject_to_change(request, args)?;
                let enable = enable_verity(args.input)?;
                let file = regular(&open)?;
                may_write(&request.caller, &self.status(file)?)?;
                // The host hashes the whole file, and nothing ends that.
                let alone = self.enabling_verity.try_lock();
                let _alone = alone.map_err(|_| Errno::BUSY)?;
                changed(&open, sys::enable_verity(file, &enable))
            }
            command::MEASURE_VERITY => {
                let open = self.subject(request, args)?;
                measure_verity(regular(&open)?, args)
            }
            _ => Err(Errno::NOTTY),
        }
    }
}

impl Passthrough {
    /// What a command is about. A directory that the host moved out of the
    /// share is `ESTALE`, as everywhere; with a file the guest goes on.
    fn subject(&self, request: &Request<'_>, args: &IoctlArgs<'_>) -> Result<Subject> {
        let open = self.opened_by(request, args.handle)?;
        if let OpenNode::Directory(directory) = &open.node {
            self.confine(&open.inode, &*directory.file)?;
        }
        Ok(open)
    }

    fn subject_to_change(&self, request: &Request<'_>, args: &IoctlArgs<'_>) -> Result<Subject> {
        let open = self.subject(request, args)?;
        self.writable()?;
        Ok(open)
    }
}

fn ensure(condition: bool) -> Result<()> {
    condition.then_some(()).ok_or(Errno::INVAL)
}

/// `struct fsxattr` in `linux/fs.h`: `fsx_xflags`, and `fsx_projid` at byte 12.
const PROJECT: std::ops::Range<usize> = 12..16;
const PROJECT_INHERIT: u32 = 0x200;

/// Whether both say the same of the project. The host's administrator may bound a
/// share by the quota of its project, so it is not for the guest to choose:
/// `EOPNOTSUPP`, as on a file system without projects.
fn same_project(one: &FsXattr, other: &FsXattr) -> bool {
    let inherits = |attributes: &FsXattr| {
        let flags = attributes.first_chunk().copied().map(u32::from_ne_bytes);
        flags.unwrap_or_default() & PROJECT_INHERIT
    };
    one[PROJECT] == other[PROJECT] && inherits(one) == inherits(other)
}

fn regular(open: &Open) -> Result<&File> {
    Ok(&open.file()?.file)
}

/// The answer to a command that changed something.
fn changed(open: &Open, outcome: Result<()>) -> Result<Vec<u8>> {
    outcome?;
    open.inode.told.forget();
    Ok(Vec::new())
}

/// `FS_IOC_ENABLE_VERITY` takes permission to write to the file, and the host
/// would look at this process's.
fn may_write(caller: &Caller, stat: &Stat) -> Result<()> {
    let class = if caller.uid == stat.seen.uid {
        0o200
    } else if caller.gid == stat.seen.gid {
        0o020
    } else {
        0o002
    };
    if caller.uid == 0 || stat.seen.mode & class != 0 {
        Ok(())
    } else {
        Err(Errno::ACCESS)
    }
}

/// Takes `struct fsverity_enable_arg` apart, and the salt and the signature
/// that follow it. Linux before 6.10 sends neither, so a file cannot have
/// them there.
fn enable_verity(input: &[u8]) -> Result<EnableVerity<'_>> {
    let (structure, behind) = (input.split_at_checked(ENABLE_SIZE)).ok_or(Errno::INVAL)?;
    let word = |at: usize| {
        let word = structure.get(at..).and_then(<[u8]>::first_chunk);
        word.map_or(0, |word| u32::from_ne_bytes(*word))
    };
    let (salt_size, signature_size) = (word(12) as usize, word(24) as usize);
    if salt_size > SALT_MAX || signature_size > SIGNATURE_MAX {
        return Err(Errno::MSGSIZE);
    }
    // `__reserved1`, and `__reserved2` to the end.
    let reserved = structure.iter().skip(40).all(|byte| *byte == 0);
    ensure(word(28) == 0 && reserved)?;
    if behind.is_empty() && salt_size + signature_size > 0 {
        return Err(Errno::OPNOTSUPP);
    }
    let (salt, signature) = behind.split_at_checked(salt_size).ok_or(Errno::INVAL)?;
    ensure(signature.len() == signature_size)?;
    Ok(EnableVerity {
        version: word(0),
        hash_algorithm: word(4),
        block_size: word(8),
        salt,
        signature,
    })
}

/// The digest has no more room than the guest's program gives it, and than
/// there is in the answer: in that of Linux before 6.10 there is none at all.
fn measure_verity(file: &File, args: &IoctlArgs<'_>) -> Result<Vec<u8>> {
    let header: &[u8; DIGEST_HEADER] = args.input.first_chunk().ok_or(Errno::INVAL)?;
    let size = u16::from_ne_bytes([header[2], header[3]]);
    let room = args.room.checked_sub(DIGEST_HEADER).ok_or(Errno::INVAL)?;
    let room = u16::try_from(room).unwrap_or(u16::MAX);
    sys::measure_verity(file, size.min(room))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn enable(salt: u32, signature: u32, behind: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; ENABLE_SIZE];
        bytes[..12].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0, 0, 16, 0, 0]);
        bytes[12..16].copy_from_slice(&salt.to_ne_bytes());
        bytes[24..28].copy_from_slice(&signature.to_ne_bytes());
        // Where the guest has them.
        bytes[16..24].fill(0xff);
        bytes[32..40].fill(0xff);
        bytes.extend_from_slice(behind);
        bytes
    }

    #[test]
    fn the_numbers_are_those_of_the_header_files() {
        for (ours, theirs) in [
            (command::GETFLAGS, libc::FS_IOC_GETFLAGS),
            (command::SETFLAGS, libc::FS_IOC_SETFLAGS),
        ] {
            assert_eq!(u64::from(ours), theirs);
        }
        // _IOC(direction, type, number, size)
        let ioc = |direction: u32, kind: u8, number: u32, size: usize| {
            direction << 30 | u32::try_from(size).unwrap() << 16 | u32::from(kind) << 8 | number
        };
        assert_eq!(command::FSGETXATTR, ioc(2, b'X', 31, size_of::<FsXattr>()));
        assert_eq!(command::FSSETXATTR, ioc(1, b'X', 32, size_of::<FsXattr>()));
        assert_eq!(command::ENABLE_VERITY, ioc(1, b'f', 133, ENABLE_SIZE));
        assert_eq!(command::MEASURE_VERITY, ioc(3, b'f', 134, DIGEST_HEADER));
    }

    #[test]
    fn salt_and_signature_are_what_follows() {
        let bytes = enable(2, 3, b"sasig");
        let decoded = enable_verity(&bytes).unwrap();
        let expected = EnableVerity {
            version: 1,
            hash_algorithm: 2,
            block_size: 4096,
            salt: b"sa",
            signature: b"sig",
        };
        assert_eq!(decoded, expected);
        assert!(enable_verity(&enable(0, 0, b"")).is_ok());
    }

    #[test]
    fn what_is_not_all_there_is_refused() {
        let refused = |bytes: &[u8], errno| {
            assert_eq!(enable_verity(bytes), Err(errno));
        };
        refused(&enable(2, 3, b"sasi"), Errno::INVAL);
        refused(&enable(2, 3, b"sasign"), Errno::INVAL);
        refused(&enable(2, 0, b"s"), Errno::INVAL);
        refused(&enable(0, 0, b"s"), Errno::INVAL);
        refused(&enable(0, 0, b"")[..127], Errno::INVAL);
        refused(&enable(2, 3, b""), Errno::OPNOTSUPP);
        refused(&enable(33, 0, &[0; 33]), Errno::MSGSIZE);
        refused(&enable(u32::MAX, u32::MAX, b""), Errno::MSGSIZE);
        for at in [28, 40, 127] {
            let mut bytes = enable(0, 0, b"");
            bytes[at] = 1;
            refused(&bytes, Errno::INVAL);
        }
    }

    #[test]
    fn the_project_of_a_file_stays() {
        let mut one: FsXattr = [0; size_of::<FsXattr>()];
        let mut other = one;
        other[0] = 0x10;
        assert!(same_project(&one, &other));
        other[12] = 7;
        assert!(!same_project(&one, &other));
        one[12] = 7;
        assert!(same_project(&one, &other));
        let flags = PROJECT_INHERIT | 0x10;
        other[..4].copy_from_slice(&flags.to_ne_bytes());
        assert!(!same_project(&one, &other));
    }
}
