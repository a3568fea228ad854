//! IOCTL: what is known, of what, and by whom.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by};
use crate::filesystem::{Caller, Handle, IoctlArgs, NodeId, Result};
use crate::passthrough::sys::{self, command};
use crate::passthrough::{Config, Passthrough};

fn ioctl(
    fs: &Passthrough,
    caller: &Caller,
    (node, handle): (NodeId, Handle),
    command: u32,
    input: &[u8],
) -> Result<Vec<u8>> {
    let args = IoctlArgs {
        handle,
        command,
        input,
        room: 36,
    };
    fs.ioctl(&by(caller, node), &args)
}

fn open(share: &Share, path: &str) -> (NodeId, Handle) {
    let node = share.walk(path).unwrap();
    (node, share.open(node, libc::O_RDONLY).unwrap().handle)
}

fn opendir(share: &Share, path: &str) -> (NodeId, Handle) {
    let node = share.walk(path).unwrap();
    let opened = share.fs.opendir(&by(&GUEST_ROOT, node)).unwrap();
    (node, opened.handle)
}

fn share() -> Share {
    let share = Share::new();
    std::fs::write(share.path("file"), b"text").unwrap();
    std::fs::create_dir(share.path("directory")).unwrap();
    share
}

/// `FS_NODUMP_FL`, which every owner may set.
const NODUMP: u32 = 0x40;

#[test]
fn flags_are_read_and_set() {
    let share = share();
    for open in [open(&share, "file"), opendir(&share, "directory")] {
        let ask = |command, input: &[u8]| ioctl(&share.fs, &GUEST_ROOT, open, command, input);
        let before = ask(command::GETFLAGS, &[]).unwrap();
        let flags = u32::from_ne_bytes(before.try_into().unwrap()) | NODUMP;
        // As `fs/fuse/ioctl.c` sends it, and as `_IOC_SIZE` has it.
        let long = [flags.to_ne_bytes(), [0; 4]].concat();
        for input in [&long[..4], &long] {
            assert_eq!(ask(command::SETFLAGS, input), Ok(vec![]));
        }
        assert_eq!(
            ask(command::GETFLAGS, &[]),
            Ok(flags.to_ne_bytes().to_vec())
        );
        let extended = ask(command::FSGETXATTR, &[]).unwrap();
        assert_eq!(extended.len(), 28);
        // FS_XFLAG_NODUMP
        assert_eq!(extended[0] & 0x80, 0x80);
        let mut without = extended.clone();
        without[0] &= !0x80;
        assert_eq!(ask(command::FSSETXATTR, &without), Ok(vec![]));
        assert_eq!(ask(command::FSGETXATTR, &[]), Ok(without));
    }
}

#[test]
fn lengths_that_are_not_the_commands_are_refused() {
    let share = share();
    let file = open(&share, "file");
    let ask = |command, input: &[u8]| ioctl(&share.fs, &GUEST_ROOT, file, command, input);
    for (command, input) in [
        (command::SETFLAGS, 3),
        (command::FSSETXATTR, 27),
        (command::FSSETXATTR, 29),
        (command::GETFLAGS, 4),
        (command::FSGETXATTR, 28),
        (command::ENABLE_VERITY, 127),
        (command::MEASURE_VERITY, 3),
    ] {
        assert_eq!(
            ask(command, &vec![0; input]),
            Err(Errno::INVAL),
            "{command:x}"
        );
    }
    for command in [
        command::GETFLAGS,
        command::FSGETXATTR,
        command::MEASURE_VERITY,
    ] {
        let args = IoctlArgs {
            handle: file.1,
            command,
            input: &[0; 4][..if command == command::MEASURE_VERITY {
                4
            } else {
                0
            }],
            room: 3,
        };
        let outcome = share.fs.ioctl(&by(&GUEST_ROOT, file.0), &args);
        assert_eq!(outcome, Err(Errno::INVAL));
    }
}

#[test]
fn what_is_not_on_the_list_is_enotty() {
    let share = share();
    let file = open(&share, "file");
    // TCGETS, FIONREAD, FS_IOC_FIEMAP, FICLONE, FS_IOC_READ_VERITY_METADATA,
    // FS_IOC_SET_ENCRYPTION_POLICY, EXT4_IOC_SWAP_BOOT
    for command in [
        0x5401,
        0x541b,
        0xc020_660b,
        0x4004_9409,
        0xc028_6687,
        0x800c_6613,
        0x6611,
        0,
        u32::MAX,
    ] {
        let outcome = ioctl(&share.fs, &GUEST_ROOT, file, command, &[0; 128]);
        assert_eq!(outcome, Err(Errno::NOTTY), "{command:x}");
    }
    let bad = (file.0, 99);
    let outcome = ioctl(&share.fs, &GUEST_ROOT, bad, command::GETFLAGS, &[]);
    assert_eq!(outcome, Err(Errno::BADF));
}

/// Most file systems have flags, and many have verity; that of `/proc` has neither.
#[test]
fn what_the_host_cannot_do_is_told() {
    let file = std::fs::File::open("/proc/self/status").unwrap();
    for refused in [
        sys::fsxattr(&file).map(drop),
        sys::set_fsxattr(&file, &[0; 28]),
        sys::measure_verity(&file, 64).map(drop),
    ] {
        assert!(
            matches!(refused, Err(Errno::NOTTY | Errno::OPNOTSUPP)),
            "{refused:?}"
        );
    }
}

#[test]
fn nothing_changes_on_a_read_only_share() {
    let share = Share::with(Config {
        read_only: true,
        ..Config::default()
    });
    std::fs::write(share.path("file"), b"text").unwrap();
    let file = open(&share, "file");
    let ask = |command, input: &[u8]| ioctl(&share.fs, &GUEST_ROOT, file, command, input);
    let flags = ask(command::GETFLAGS, &[]).unwrap();
    let extended = ask(command::FSGETXATTR, &[]).unwrap();
    assert_eq!(ask(command::SETFLAGS, &flags), Err(Errno::ROFS));
    assert_eq!(ask(command::FSSETXATTR, &extended), Err(Errno::ROFS));
    assert_eq!(ask(command::ENABLE_VERITY, &[0; 128]), Err(Errno::ROFS));
}

#[test]
fn a_directory_that_was_moved_out_is_out_of_reach() {
    let share = share();
    let directory = opendir(&share, "directory");
    std::fs::rename(share.path("directory"), share.outside().join("gone")).unwrap();
    for command in [command::GETFLAGS, command::SETFLAGS, command::FSGETXATTR] {
        let input: &[u8] = if command == command::SETFLAGS {
            &[0; 4]
        } else {
            &[]
        };
        let outcome = ioctl(&share.fs, &GUEST_ROOT, directory, command, input);
        assert_eq!(outcome, Err(Errno::STALE));
    }
}

#[test]
fn verity_is_for_those_who_may_write() {
    let share = share();
    let file = open(&share, "file");
    let stranger = Caller {
        uid: 4242,
        gid: 4242,
        ..GUEST_ROOT
    };
    let enable = |caller| ioctl(&share.fs, caller, file, command::ENABLE_VERITY, &[0; 128]);
    let path = share.path("file");
    let host = path.metadata().unwrap();
    let member = Caller {
        gid: host.gid(),
        ..stranger
    };
    let owner = Caller {
        uid: host.uid(),
        ..stranger
    };
    // Who owns it is judged by that alone, unless it is root.
    let owner_needs_it = host.uid() != 0;
    for (mode, caller, may) in [
        (0o644, &stranger, false),
        (0o602, &stranger, true),
        (0o620, &stranger, false),
        (0o620, &member, true),
        (0o602, &member, false),
        (0o200, &owner, true),
        (0o466, &owner, !owner_needs_it),
        (0o400, &GUEST_ROOT, true),
    ] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        // Of version 0 there is none, or the file system has no verity.
        let expected: &[Errno] = match may {
            true => &[Errno::INVAL, Errno::OPNOTSUPP, Errno::NOTTY],
            false => &[Errno::ACCESS],
        };
        let outcome = enable(caller).unwrap_err();
        assert!(
            expected.contains(&outcome),
            "{mode:o} {caller:?}: {outcome}"
        );
    }
    let directory = opendir(&share, "directory");
    let outcome = ioctl(
        &share.fs,
        &GUEST_ROOT,
        directory,
        command::ENABLE_VERITY,
        &[0; 128],
    );
    assert_eq!(outcome, Err(Errno::ISDIR));
}
