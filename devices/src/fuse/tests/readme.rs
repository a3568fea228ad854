//! The README's tables of operations and flags, against what the server does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
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

/// What the README says of a name in one of its tables: whether it is there, and
/// when or why not.
type Row = (bool, String);

/// The README's table under `heading`. What is not there has a reason.
fn rows(heading: &str) -> BTreeMap<String, Row> {
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
            let before = said.insert(name.to_owned(), (served, remark.to_owned()));
            assert_eq!(before, None, "{name} is there twice");
        }
    }
    assert!(!said.is_empty(), "no table under {heading}");
    said
}

/// Whether each name is there.
fn table(heading: &str) -> BTreeMap<String, bool> {
    let rows = rows(heading).into_iter();
    rows.map(|(name, (served, _))| (name, served)).collect()
}

/// A share: its options, and whether it has a window.
type Options = (Config, bool);

/// When a remark says that something is there.
fn condition(remark: &str) -> fn(&Options) -> bool {
    match remark {
        "" => |_| true,
        "not with `cache=never`" => |(config, _)| config.cache != CachePolicy::Never,
        "not with `cache=always`" => |(config, _)| config.cache != CachePolicy::Always,
        "with `cache=always`" => |(config, _)| config.cache == CachePolicy::Always,
        "with `cache=never` and `metadata`" => {
            |(config, _)| matches!(config.cache, CachePolicy::Never | CachePolicy::Metadata)
        }
        "with `writeback`" => |(config, _)| config.writeback && !config.read_only,
        "with `atomic-truncate`" => {
            |(config, _)| config.writeback && config.atomic_truncate && !config.read_only
        }
        "not with `no-xattr`" => |(config, _)| config.xattr,
        "not with `no-xattr` or `ro`" => |(config, _)| config.xattr && !config.read_only,
        "with `acl`" => |(config, _)| config.posix_acl,
        "with `submounts`" => |(config, _)| config.announce_submounts,
        "with `idmap`" => |(config, _)| config.idmap,
        "with `export`" => |(config, _)| config.remembered > 0,
        "with `locks`" => |(config, _)| config.locks,
        "with `dax`" => |(_, window)| *window,
        // Mounts are another test's.
        "with `ro` and `cache=always`, not with `locks` or another file system mounted below DIR" => {
            |(config, _)| config.read_only && config.cache == CachePolicy::Always && !config.locks
        }
        other => panic!("nobody knows when that is: {other}"),
    }
}

/// Shares with each option, alone and beside each cache policy.
fn shares() -> Vec<Options> {
    let with: [fn(&mut Options); 14] = [
        |_| (),
        |(config, _)| config.writeback = true,
        |(config, _)| (config.writeback, config.atomic_truncate) = (true, true),
        // What the command line refuses is not agreed on either.
        |(config, _)| config.atomic_truncate = true,
        |(config, _)| {
            (config.writeback, config.atomic_truncate) = (true, true);
            config.read_only = true;
        },
        |(config, _)| config.xattr = false,
        |(config, _)| config.posix_acl = true,
        |(config, _)| config.announce_submounts = true,
        |(config, _)| config.idmap = true,
        |(config, _)| config.remembered = 1,
        |(config, _)| config.locks = true,
        |(config, _)| config.read_only = true,
        |(config, _)| (config.read_only, config.locks) = (true, true),
        |(_, window)| *window = true,
    ];
    let policies = [
        CachePolicy::Never,
        CachePolicy::Metadata,
        CachePolicy::Auto,
        CachePolicy::Always,
    ];
    let shares = policies.into_iter().flat_map(|cache| {
        with.map(|set| {
            let config = Config {
                cache,
                ..Config::default()
            };
            let mut options = (config, false);
            set(&mut options);
            options
        })
    });
    shares.collect()
}

fn serve(directory: &Path, (config, window): Options) -> Server {
    let mut share = Passthrough::new(directory, config).unwrap();
    if window {
        let window = Window::reserve(4 << 30, UNIT).unwrap();
        share = share.with_window(Arc::new(window));
    }
    Server::new(Arc::new(share))
}

/// The flags that a guest which offers all has with `server`.
fn agreed(server: &Server) -> u64 {
    let answer = exchange(server, &init(7, 45, u64::MAX), 80);
    answer.assert_success(64);
    u64::from(answer.u32(28)) | u64::from(answer.u32(48)) << 32
}

#[test]
fn the_readme_says_when_a_flag_is_agreed_on() {
    let directory = tempfile::tempdir().unwrap();
    let rows = rows("| flag ");
    for options in shares() {
        let agreed = agreed(&serve(directory.path(), options));
        for (bit, name) in FLAGS
            .iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
        {
            let (served, remark) = &rows[*name];
            let expected = *served && condition(remark)(&options);
            assert_eq!(agreed & 1 << bit != 0, expected, "{name} with {options:?}");
        }
    }
}

#[test]
fn the_readme_says_when_an_operation_is_answered() {
    const WHEN: [&str; 3] = ["with `locks`", "not with `no-xattr`", "with `dax`"];
    let directory = tempfile::tempdir().unwrap();
    let rows = rows("| operation ");
    let mut asked = BTreeSet::new();
    for options in shares() {
        let server = serve(directory.path(), options);
        agreed(&server);
        for sound in every_request() {
            let request = sound.message.clone().finish();
            let number = u32::from_le_bytes(request[4..8].try_into().unwrap());
            let name = Opcode(number).name();
            let remark = &rows[name].1;
            if !WHEN.contains(&remark.as_str()) {
                continue;
            }
            // Without `SETXATTR_EXT` it has fewer fields.
            let short = Message::new(Opcode::SETXATTR, 5).u32(1).u32(0);
            let request = match name == "SETXATTR" && !options.0.posix_acl {
                true => short.bytes(b"user.a\0v").finish(),
                false => request,
            };
            let answer = exchange(&server, &request, 4112);
            let answered = answer.errno() != rustix::io::Errno::NOSYS.raw_os_error();
            assert_eq!(
                answered,
                condition(remark)(&options),
                "{name} with {options:?}"
            );
            asked.insert(name);
        }
    }
    assert_eq!(asked.len(), 9, "{asked:?}");
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
        atomic_truncate: true,
        xattr: true,
        posix_acl: true,
        announce_submounts: true,
        idmap: true,
        remembered: 1,
        locks: true,
        ..Config::default()
    };
    // What is agreed on with one option or another.
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
    let shares = of_policy.into_iter().chain([read]);
    let agreed = shares
        .map(|config| agreed(&serve(directory.path(), (config, true))))
        .fold(0, |all, one| all | one);
    let flags = FLAGS
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.is_empty());
    let agreed: BTreeMap<String, bool> = flags
        .map(|(bit, name)| ((*name).to_owned(), agreed & 1 << bit != 0))
        .collect();
    assert_eq!(table("| flag "), agreed);
}
