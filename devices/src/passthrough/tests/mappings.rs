//! Files of a share in a window.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Arc;

use rustix::io::Errno;
use vm_memory::VolatileSlice;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by, few_descriptors};
use crate::filesystem::{
    Agreement, FallocateArgs, Handle, NodeId, ROOT, Result, SetAttributes, SetupMappingArgs,
    WindowPart,
};
use crate::passthrough::{CachePolicy, Config};
use crate::window::{FilePart, PAGE, UNIT, Window};

/// A share with a window.
struct Mapped {
    share: Share,
    window: Arc<Window>,
}

fn mapped(config: Config) -> Mapped {
    let window = Arc::new(Window::reserve(4 << 30, 4 * UNIT).unwrap());
    let mut share = Share::with(config);
    share.fs = share.fs.with_window(Arc::clone(&window));
    Mapped { share, window }
}

impl Mapped {
    fn file(&self, name: &str, bytes: &[u8]) -> NodeId {
        std::fs::write(self.share.path(name), bytes).unwrap();
        self.share.walk(name).unwrap()
    }

    fn map_by(&self, node: NodeId, handle: Option<Handle>, writable: bool) -> Result<()> {
        let args = SetupMappingArgs {
            handle,
            file_offset: 0,
            part: WindowPart {
                offset: 0,
                len: UNIT,
            },
            writable,
        };
        self.share.fs.setup_mapping(&by(&GUEST_ROOT, node), &args)
    }

    fn map(&self, node: NodeId, writable: bool) -> Result<()> {
        self.map_by(node, None, writable)
    }

    fn byte(&self, at: u64) -> Result<u8> {
        let mut byte = [0xee];
        self.window
            .copy_to(at, &VolatileSlice::from(&mut byte[..]))?;
        Ok(byte[0])
    }

    fn store(&self, at: u64, byte: u8) -> Result<()> {
        self.window
            .copy_from(at, &VolatileSlice::from(&mut [byte][..]))
    }
}

#[test]
fn a_file_is_mapped_and_what_is_stored_reaches_the_host() {
    let mapped = mapped(Config::default());
    let node = mapped.file("file", b"abc");
    assert!(mapped.share.attributes(node).unwrap().mapped);
    mapped.map(node, false).unwrap();
    assert_eq!(mapped.byte(1), Ok(b'b'));
    assert_eq!(mapped.store(1, b'X'), Err(Errno::FAULT));
    mapped.map(node, true).unwrap();
    assert_eq!(mapped.store(1, b'X'), Ok(()));
    assert_eq!(std::fs::read(mapped.share.path("file")).unwrap(), b"aXc");
    let parts = [WindowPart {
        offset: 0,
        len: UNIT,
    }];
    let request = by(&GUEST_ROOT, node);
    mapped.share.fs.remove_mapping(&request, &parts).unwrap();
    assert_eq!(mapped.byte(1), Err(Errno::FAULT));
    assert_eq!(mapped.share.fs.open_count(), 0);
}

#[test]
fn only_files_with_pages_that_are_the_guest_s_to_keep_are_mapped() {
    let mapped_share = mapped(Config::default());
    mapped_share.share.mkdir(ROOT, "dir").unwrap();
    std::os::unix::fs::symlink("file", mapped_share.share.path("link")).unwrap();
    for name in ["dir", "link"] {
        let node = mapped_share.share.walk(name).unwrap();
        assert!(!mapped_share.share.attributes(node).unwrap().mapped);
        assert_eq!(mapped_share.map(node, false), Err(Errno::NODEV));
    }
    assert_eq!(mapped_share.map(12345, false), Err(Errno::STALE));
    for cache in [CachePolicy::Never, CachePolicy::Metadata] {
        let direct = mapped(Config {
            cache,
            ..Config::default()
        });
        let node = direct.file("file", b"abc");
        assert!(!direct.share.attributes(node).unwrap().mapped);
        assert_eq!(direct.map(node, false), Err(Errno::NODEV));
    }
    // Without a window nothing is offered.
    let share = Share::new();
    assert!(!share.fs.capabilities().mappings);
    std::fs::write(share.path("file"), "").unwrap();
    let node = share.walk("file").unwrap();
    assert!(!share.attributes(node).unwrap().mapped);
    let request = by(&GUEST_ROOT, node);
    assert_eq!(share.fs.remove_mapping(&request, &[]), Err(Errno::NOSYS));
    assert!(mapped_share.share.fs.capabilities().mappings);
}

#[test]
fn a_read_only_share_is_mapped_for_reading_alone() {
    let mapped = mapped(Config {
        read_only: true,
        ..Config::default()
    });
    let node = mapped.file("file", b"abc");
    assert_eq!(mapped.map(node, true), Err(Errno::ROFS));
    mapped.map(node, false).unwrap();
    assert_eq!(mapped.byte(0), Ok(b'a'));
    assert_eq!(mapped.store(0, b'X'), Err(Errno::FAULT));
}

#[test]
fn by_a_handle_only_what_it_was_opened_for_is_mapped() {
    let mapped = mapped(Config::default());
    let node = mapped.file("file", b"abc");
    let other = mapped.file("other", b"abc");
    let reader = mapped.share.open(node, libc::O_RDONLY).unwrap().handle;
    let writer = mapped.share.open(node, libc::O_RDWR).unwrap().handle;
    assert_eq!(mapped.map_by(node, Some(reader), true), Err(Errno::ACCESS));
    mapped.map_by(node, Some(reader), false).unwrap();
    mapped.map_by(node, Some(writer), true).unwrap();
    assert_eq!(mapped.map_by(other, Some(writer), true), Err(Errno::BADF));
}

#[test]
fn set_id_bits_go_when_somebody_maps_the_file_to_write() {
    let mapped = mapped(Config::default());
    let node = mapped.file("file", b"abc");
    let path = mapped.share.path("file");
    let mode = || path.metadata().unwrap().permissions().mode() & 0o7777;
    let caller = crate::filesystem::Caller {
        uid: 1000,
        ..GUEST_ROOT
    };
    mapped.share.fs.init(Agreement {
        kill_privileges: true,
        ..Agreement::default()
    });
    let node = mapped.share.walk("file").unwrap_or(node);
    let map = |caller, writable| {
        let args = SetupMappingArgs {
            handle: None,
            file_offset: 0,
            part: WindowPart {
                offset: 0,
                len: PAGE,
            },
            writable,
        };
        mapped.share.fs.setup_mapping(&by(caller, node), &args)
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4755)).unwrap();
    map(&caller, false).unwrap();
    assert_eq!(mode(), 0o4755);
    map(&GUEST_ROOT, true).unwrap();
    assert_eq!(mode(), 0o4755);
    map(&caller, true).unwrap();
    assert_eq!(mode(), 0o755);
}

#[test]
fn the_window_is_empty_when_the_session_ends_or_the_node_is_forgotten() {
    let mapped = mapped(Config::default());
    let ends: [fn(&dyn FileSystem, NodeId); 3] = [
        |fs, _| fs.destroy(),
        |fs, _| fs.init(Agreement::default()),
        |fs, node| fs.forget(node, 1),
    ];
    for end in ends {
        let node = mapped.file("file", b"abc");
        mapped.map(node, false).unwrap();
        assert_eq!(mapped.window.mapped(), 1);
        end(&mapped.share.fs, node);
        assert_eq!(mapped.window.mapped(), 0);
        assert_eq!(mapped.byte(0), Err(Errno::FAULT));
        mapped.share.fs.destroy();
    }
    // A node of which there is another reference stays.
    let node = mapped.file("file", b"abc");
    mapped.share.walk("file").unwrap();
    mapped.map(node, false).unwrap();
    mapped.share.fs.forget(node, 1);
    assert_eq!(mapped.window.mapped(), 1);
}

#[test]
fn what_is_written_behind_a_torn_place_is_seen_there() {
    let mapped = mapped(Config::default());
    let node = mapped.file("file", &[b'a'; 0x3000]);
    let path = mapped.share.path("file");
    let host = std::fs::File::options().write(true).open(&path).unwrap();
    let handle = mapped.share.open(node, libc::O_RDWR).unwrap().handle;
    let request = by(&GUEST_ROOT, node);
    let grow: [&dyn Fn(); 4] = [
        // The guest, in each of its ways.
        &|| {
            let written = mapped.share.write(node, handle, 2 * PAGE, b"x");
            assert_eq!(written, Ok(1));
        },
        &|| {
            let args = FallocateArgs {
                handle,
                mode: 0,
                offset: 0,
                length: 3 * PAGE,
            };
            mapped.share.fs.fallocate(&request, &args).unwrap();
        },
        &|| {
            let changes = SetAttributes {
                size: Some(3 * PAGE),
                ..SetAttributes::default()
            };
            mapped.share.fs.setattr(&request, None, &changes).unwrap();
        },
        // The host, of which the guest hears by the attributes.
        &|| {
            host.set_len(3 * PAGE).unwrap();
            mapped.share.attributes(node).unwrap();
        },
    ];
    mapped.map(node, true).unwrap();
    for grow in grow {
        host.set_len(PAGE).unwrap();
        assert_eq!(mapped.window.tear(), 1);
        assert_eq!(mapped.byte(2 * PAGE), Ok(0));
        // It is no longer than before.
        mapped.share.attributes(node).unwrap();
        assert!(mapped.window.is_torn());
        grow();
        assert!(!mapped.window.is_torn());
        host.write_all_at(b"new", 2 * PAGE).unwrap();
        assert_eq!(mapped.byte(2 * PAGE), Ok(b'n'));
    }
}

#[test]
fn a_node_that_is_forgotten_meanwhile_is_not_mapped() {
    let mapped = mapped(Config::default());
    let node = mapped.file("file", b"abc");
    let file = std::fs::File::open(mapped.share.path("file")).unwrap();
    mapped.share.fs.forget(node, 1);
    let to = WindowPart {
        offset: 0,
        len: PAGE,
    };
    let part = FilePart {
        node,
        offset: 0,
        writable: false,
    };
    let outcome = mapped.share.fs.map_known(&mapped.window, to, &file, part);
    assert_eq!(outcome, Err(Errno::STALE));
    assert_eq!(mapped.window.mapped(), 0);
}

/// What a file of three pages has of blocks, in pages.
fn blocks(mapped: &Mapped) -> u64 {
    let status = std::fs::metadata(mapped.share.path("file")).unwrap();
    std::os::unix::fs::MetadataExt::blocks(&status) * 512 / PAGE
}

#[test]
fn what_is_mapped_to_write_has_blocks_as_far_as_the_file_goes() {
    let mapped = mapped(Config::default());
    let node = mapped.file("file", b"");
    let path = mapped.share.path("file");
    let host = std::fs::File::options().write(true).open(path).unwrap();
    host.set_len(3 * PAGE).unwrap();
    mapped.map(node, false).unwrap();
    assert_eq!(blocks(&mapped), 0);
    mapped.map(node, true).unwrap();
    assert_eq!(blocks(&mapped), 3);
    assert_eq!(host.metadata().unwrap().len(), 3 * PAGE);
    // As it grows.
    let request = by(&GUEST_ROOT, node);
    let handle = mapped.share.open(node, libc::O_RDWR).unwrap().handle;
    for (handle, pages) in [(None, 5), (Some(handle), 7)] {
        let changes = SetAttributes {
            size: Some(pages * PAGE),
            ..SetAttributes::default()
        };
        mapped.share.fs.setattr(&request, handle, &changes).unwrap();
        assert_eq!(blocks(&mapped), pages);
    }
    // Only what is mapped.
    let far = SetAttributes {
        size: Some(2 * UNIT),
        ..SetAttributes::default()
    };
    mapped.share.fs.setattr(&request, None, &far).unwrap();
    let unit = UNIT / PAGE;
    assert!((7..=unit).contains(&blocks(&mapped)), "{}", blocks(&mapped));
}

#[test]
fn what_has_no_place_in_the_window_changes_nothing_of_the_file() {
    let mapped = mapped(Config::default());
    mapped.share.fs.init(Agreement {
        kill_privileges: true,
        ..Agreement::default()
    });
    let node = mapped.file("file", b"");
    let path = mapped.share.path("file");
    let host = std::fs::File::options().write(true).open(&path).unwrap();
    host.set_len(3 * PAGE).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let caller = crate::filesystem::Caller {
        uid: 1000,
        ..GUEST_ROOT
    };
    let last = i64::MAX.cast_unsigned() - PAGE + 1;
    for (file_offset, offset, len, error) in [
        (0, 4 * UNIT, PAGE, Errno::INVAL),
        (0, 1, PAGE, Errno::INVAL),
        (0, 0, 5 * UNIT, Errno::INVAL),
        (1, 0, PAGE, Errno::INVAL),
        (last, 0, 2 * PAGE, Errno::OVERFLOW),
    ] {
        let args = SetupMappingArgs {
            handle: None,
            file_offset,
            part: WindowPart { offset, len },
            writable: true,
        };
        let outcome = mapped.share.fs.setup_mapping(&by(&caller, node), &args);
        assert_eq!(outcome, Err(error), "{args:?}");
        assert_eq!(blocks(&mapped), 0, "{args:?}");
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o4755, "{args:?}");
    }
}

#[test]
fn a_window_knows_how_long_its_files_are() {
    for (file_handles, found) in [(true, true), (false, false)] {
        let mapped = mapped(few_descriptors(file_handles));
        let node = mapped.file("file", b"abc");
        mapped.map(node, false).unwrap();
        assert_eq!(mapped.window.size_of(node, true), Some(3));
        std::fs::write(mapped.share.path("file"), b"longer").unwrap();
        assert_eq!(mapped.window.size_of(node, true), Some(6));
        // Also when descriptors were scarce, where there are handles.
        mapped.share.let_all_go();
        let handles = mapped.share.fs.mounts.of_root().handles().is_some();
        let expected = (found && handles).then_some(6);
        assert_eq!(mapped.window.size_of(node, true), expected);
        assert_eq!(mapped.window.size_of(node + 1, true), None);
    }
}
