//! Files whose pages the guest may not have sent yet.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{GUEST_ROOT, Share, by};
use crate::filesystem::{Agreement, Handle, LseekArgs, NodeId, ROOT, Result};
use crate::passthrough::{CachePolicy, Config};

const DATA: i32 = libc::SEEK_DATA;
const HOLE: i32 = libc::SEEK_HOLE;
const MIB: u64 = 1 << 20;

fn share(cache: CachePolicy, writeback: bool) -> Share {
    Share::with(Config {
        cache,
        writeback,
        ..Config::default()
    })
}

/// A file of a mebibyte with data only in the last page, on the host.
fn sparse(share: &Share) -> NodeId {
    let file = std::fs::File::create(share.path("f")).unwrap();
    file.write_all_at(&[7; 4096], MIB - 4096).unwrap();
    share.walk("f").unwrap()
}

fn seek(share: &Share, node: NodeId, handle: Handle, offset: u64, whence: i32) -> Result<u64> {
    let args = LseekArgs {
        handle,
        offset,
        whence: whence.cast_unsigned(),
    };
    share.fs.lseek(&by(&GUEST_ROOT, node), &args)
}

#[test]
fn holes_are_told_of_what_the_host_has_whole() {
    for (cache, flags) in [
        (CachePolicy::Auto, libc::O_RDONLY),
        (CachePolicy::Always, libc::O_RDONLY),
        // Nothing is kept back here.
        (CachePolicy::Never, libc::O_RDWR),
        (CachePolicy::Metadata, libc::O_RDWR),
    ] {
        let share = share(cache, false);
        let node = sparse(&share);
        let opened = share.open(node, flags).unwrap();

        let data = seek(&share, node, opened.handle, 0, DATA);
        assert_eq!(data, Ok(MIB - 4096), "{cache:?}");
        let hole = seek(&share, node, opened.handle, 0, HOLE);
        assert_eq!(hole, Ok(0), "{cache:?}");
        assert!(share.attributes(node).unwrap().blocks < MIB / 512);
    }
}

#[test]
fn a_file_past_the_page_cache_may_be_dirty_where_it_can_be_mapped() {
    for cache in [CachePolicy::Never, CachePolicy::Metadata] {
        let share = share(cache, false);
        assert!(share.fs.capabilities().agreement.direct_mappings);
        share.fs.init(Agreement {
            direct_mappings: true,
            ..Agreement::default()
        });
        let node = sparse(&share);
        let reader = share.open(node, libc::O_RDONLY).unwrap();
        let data = || seek(&share, node, reader.handle, 0, DATA);
        assert_eq!(data(), Ok(MIB - 4096), "{cache:?}");
        let writer = share.open(node, libc::O_RDWR).unwrap();
        assert_eq!(data(), Ok(0), "{cache:?}");
        assert_eq!(share.attributes(node).unwrap().blocks, MIB / 512);
        share.release(node, &writer);
        assert_eq!(data(), Ok(MIB - 4096), "{cache:?}");
    }
    for cache in [CachePolicy::Auto, CachePolicy::Always] {
        let share = share(cache, false);
        assert!(!share.fs.capabilities().agreement.direct_mappings);
    }
}

#[test]
fn a_file_that_may_be_dirty_has_data_everywhere() {
    for cache in [CachePolicy::Auto, CachePolicy::Always] {
        let share = share(cache, false);
        let node = sparse(&share);
        let reader = share.open(node, libc::O_RDONLY).unwrap();
        let writer = share.open(node, libc::O_WRONLY).unwrap();
        let other = share.open(node, libc::O_RDWR).unwrap();

        for open in [&reader, &other] {
            let at = |offset, whence| seek(&share, node, open.handle, offset, whence);
            assert_eq!(at(0, DATA), Ok(0));
            assert_eq!(at(4097, DATA), Ok(4097));
            assert_eq!(at(5, HOLE), Ok(MIB));
            assert_eq!(at(MIB - 1, HOLE), Ok(MIB));
            for whence in [DATA, HOLE] {
                assert_eq!(at(MIB, whence), Err(Errno::NXIO));
                assert_eq!(at(u64::MAX, whence), Err(Errno::NXIO));
            }
            assert_eq!(at(0, libc::SEEK_END), Err(Errno::INVAL));
        }
        assert!(share.attributes(node).unwrap().blocks >= MIB / 512);

        // With the last one that could write the truth comes back.
        share.release(node, &writer);
        assert_eq!(seek(&share, node, reader.handle, 0, DATA), Ok(0));
        share.release(node, &other);
        assert_eq!(seek(&share, node, reader.handle, 0, DATA), Ok(MIB - 4096));
        assert!(share.attributes(node).unwrap().blocks < MIB / 512);
    }
}

#[test]
fn under_write_back_only_the_guest_knows_where_data_is() {
    let share = share(CachePolicy::Auto, true);
    let node = sparse(&share);
    let opened = share.open(node, libc::O_RDONLY).unwrap();

    for whence in [DATA, HOLE] {
        let outcome = seek(&share, node, opened.handle, 0, whence);
        assert_eq!(outcome, Err(Errno::NOSYS));
    }
}

#[test]
fn a_file_that_is_being_written_never_has_no_blocks() {
    let share = share(CachePolicy::Always, true);
    let (entry, opened) = share.create(ROOT, "f").unwrap();

    // Long enough for many writes, none of which asks for them.
    let told = (entry.attributes.size, entry.attributes.blocks);
    assert_eq!((told, entry.attr_timeout), ((0, 8), Duration::from_secs(1)));
    assert_eq!(share.attributes(entry.inode).unwrap().blocks, 8);
    share.release(entry.inode, &opened);
    let (attributes, timeout) = (share.fs.getattr(&by(&GUEST_ROOT, entry.inode), None)).unwrap();
    assert_eq!((attributes.blocks, timeout), (0, Duration::ZERO));
}

#[test]
fn what_could_mislead_later_is_not_kept() {
    let timeout = |share: &Share, name| share.lookup(ROOT, name).unwrap().attr_timeout;
    for (writeback, read_only, cache) in [
        (false, false, CachePolicy::Auto),
        (true, false, CachePolicy::Auto),
        (true, false, CachePolicy::Always),
        (false, true, CachePolicy::Always),
        (false, false, CachePolicy::Metadata),
    ] {
        let share = Share::with(Config {
            cache,
            writeback,
            read_only,
            ..Config::default()
        });
        std::fs::write(share.path("full"), [1; 5000]).unwrap();
        std::fs::write(share.path("empty"), []).unwrap();
        std::fs::create_dir(share.path("directory")).unwrap();
        let hollow = std::fs::File::create(share.path("hollow")).unwrap();
        hollow.set_len(MIB).unwrap();
        let long = cache.attribute_timeout();

        let full = share.lookup(ROOT, "full").unwrap();
        assert_eq!(full.attr_timeout, long);
        assert_eq!(timeout(&share, "directory"), long);
        let dirty = matches!(cache, CachePolicy::Auto | CachePolicy::Always) && !read_only;
        let expected = |misleads| if misleads { Duration::ZERO } else { long };
        assert_eq!(timeout(&share, "hollow"), expected(dirty));
        assert_eq!(timeout(&share, "empty"), expected(dirty && writeback));
        if !read_only {
            let opened = share.open(full.inode, libc::O_WRONLY).unwrap();
            let written = match dirty && writeback {
                true => long.min(Duration::from_secs(1)),
                false => long,
            };
            assert_eq!(timeout(&share, "full"), written);
            share.release(full.inode, &opened);
            assert_eq!(timeout(&share, "full"), long);
        }
    }
}
