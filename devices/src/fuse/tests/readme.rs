//! The README's tables of operations and flags, against what the server does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::guest::{Message, exchange};
use super::recorder::{EVERYTHING, in_session};
use super::requests::{every_request, init};
use crate::fuse::{Opcode, Server};
use crate::passthrough::{CachePolicy, Config, Passthrough};
use crate::window::{UNIT, Window};

/// The flags of INIT in the order of their bits, as `linux/fuse.h` 7.46 has
/// them; bit 31 is reserved.
const FLAGS: [&str; 44] = [
    "ASYNC_READ",
    "POSIX_LOCKS",
    "FILE_OPS",
    "ATOMIC_O_TRUNC",
    "EXPORT_SUPPORT",
    "BIG_WRITES",
    "DONT_MASK",
    "SPLICE_WRITE",
    "SPLICE_MOVE",
    "SPLICE_READ",
    "FLOCK_LOCKS",
    "HAS_IOCTL_DIR",
    "AUTO_INVAL_DATA",
    "DO_READDIRPLUS",
    "READDIRPLUS_AUTO",
    "ASYNC_DIO",
    "WRITEBACK_CACHE",
    "NO_OPEN_SUPPORT",
    "PARALLEL_DIROPS",
    "HANDLE_KILLPRIV",
    "POSIX_ACL",
    "ABORT_ERROR",
    "MAX_PAGES",
    "CACHE_SYMLINKS",
    "NO_OPENDIR_SUPPORT",
    "EXPLICIT_INVAL_DATA",
    "MAP_ALIGNMENT",
    "SUBMOUNTS",
    "HANDLE_KILLPRIV_V2",
    "SETXATTR_EXT",
    "INIT_EXT",
    "",
    "SECURITY_CTX",
    "HAS_INODE_DAX",
    "CREATE_SUPP_GROUP",
    "HAS_EXPIRE_ONLY",
    "DIRECT_IO_ALLOW_MMAP",
    "PASSTHROUGH",
    "NO_EXPORT_SUPPORT",
    "HAS_RESEND",
    "ALLOW_IDMAP",
    "OVER_IO_URING",
    "REQUEST_TIMEOUT",
    "HAS_IO_URING_BUFPOOL",
];

/// What the README's table under `heading` says of each name: whether it is
/// there. What is not has a reason.
fn table(heading: &str) -> BTreeMap<String, bool> {
    let readme = include_str!("../../../../README.md");
    let lines = readme.lines().skip_while(|line| !line.starts_with(heading));
    let mut said = BTreeMap::new();
    for line in lines.skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, names, served, remark, _] = cells[..] else {
            panic!("not three columns: {line}");
        };
        let served = match served {
            "x" => true,
            "-" => false,
            _ => panic!("neither x nor -: {line}"),
        };
        assert!(served || !remark.is_empty(), "no reason: {line}");
        for name in names.split_whitespace() {
            let before = said.insert(name.to_owned(), served);
            assert_eq!(before, None, "{name} is there twice");
        }
    }
    assert!(!said.is_empty(), "no table under {heading}");
    said
}

#[test]
fn the_readme_has_every_operation_as_it_is_answered() {
    let (server, _) = in_session(EVERYTHING);
    let sound = every_request();
    let mut answered = BTreeMap::new();
    for number in 0..200 {
        let opcode = Opcode(number);
        if !opcode.is_defined() {
            continue;
        }
        let name = opcode.name().to_owned();
        if opcode == Opcode::DESTROY {
            // Ends the session, and with an error if that cannot be.
            answered.insert(name, true);
            continue;
        }
        let of_opcode = |request: &[u8]| request[4..8] == number.to_le_bytes();
        let request = sound.iter().map(|sound| sound.message.clone().finish());
        let request = (opcode == Opcode::INIT)
            .then(|| init(7, 45, u64::MAX))
            .or_else(|| request.into_iter().find(|request| of_opcode(request)))
            .unwrap_or_else(|| Message::new(opcode, 1).bytes(&[0; 64]).finish());
        let answer = exchange(&server, &request, 4112);
        let refused = answer.used > 0 && answer.errno() == rustix::io::Errno::NOSYS.raw_os_error();
        answered.insert(name, !refused);
    }
    assert_eq!(table("| operation "), answered);
}

#[test]
fn the_readme_has_every_flag_as_it_is_agreed_on() {
    let directory = tempfile::tempdir().unwrap();
    let everything = Config {
        writeback: true,
        xattr: true,
        posix_acl: true,
        announce_submounts: true,
        idmap: true,
        remembered: 1,
        locks: true,
        ..Config::default()
    };
    // What is agreed on with one option or another.
    let mut agreed = 0;
    let of_policy =
        [CachePolicy::Never, CachePolicy::Always, CachePolicy::Auto].map(|cache| Config {
            cache,
            ..everything
        });
    let read = Config {
        read_only: true,
        cache: CachePolicy::Always,
        ..Config::default()
    };
    for config in of_policy.into_iter().chain([read]) {
        let window = Window::reserve(4 << 30, UNIT).unwrap();
        let share = Passthrough::new(directory.path(), config).unwrap();
        let share = share.with_window(Arc::new(window));
        let server = Server::new(Arc::new(share));
        let answer = exchange(&server, &init(7, 45, u64::MAX), 80);
        answer.assert_success(64);
        agreed |= u64::from(answer.u32(28)) | u64::from(answer.u32(48)) << 32;
    }
    let flags = FLAGS
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.is_empty());
    let agreed: BTreeMap<String, bool> = flags
        .map(|(bit, name)| ((*name).to_owned(), agreed & 1 << bit != 0))
        .collect();
    assert_eq!(table("| flag "), agreed);
}
