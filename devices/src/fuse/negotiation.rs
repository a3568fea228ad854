//! INIT: what this server and the guest agree on.
//!
//! Agreed on is what the guest offers and the file system can do. Nothing is
//! agreed on that the server does not decode: Linux lays out later requests by
//! what was agreed here.

use fuse_backend_rs::abi::fuse_abi::InitOut;
use rustix::io::Errno;

use super::flags::InitFlags;
use super::limits::MAX_WRITE;
use super::request::Body;
use crate::filesystem::{Agreement, Capabilities, Result};
use crate::window::PAGE;

/// The protocol's major version.
const MAJOR: u32 = 7;

/// The minor version up to which everything is decoded that a guest sends
/// unasked: 7.39 brings STATX, 7.45 COPY_FILE_RANGE_64. What else came since
/// 7.38 is agreed on by a flag, is a notification, or is for `/dev/fuse` alone;
/// the reply to INIT is as long as it was.
const MINOR: u32 = 45;

/// The oldest minor version that is served. Older ones lay structures out
/// differently; the first Linux with virtio-fs, 5.4, has 7.31.
const OLDEST_MINOR: u32 = 27;

/// The minor version since which a request says how long its extensions are.
/// Before, a label followed the name as if it were part of it (Linux 5.17 to
/// 6.2).
const EXTENSIONS_MINOR: u32 = 38;

/// `MAX_WRITE` in pages of 4096 bytes.
const MAX_PAGES: u16 = 256;

/// How many background requests (read-ahead, write-back, asynchronous direct
/// I/O) the guest may keep under way. Linux would allow 12, and a queue holds
/// 1024.
const MAX_BACKGROUND: u16 = 256;

/// Background requests from which on Linux counts the device as congested.
const CONGESTION_THRESHOLD: u16 = MAX_BACKGROUND / 4 * 3;

/// Timestamps have a granularity of this many nanoseconds.
const TIME_GRANULARITY: u32 = 1;

/// Seconds after which the guest takes an unanswered request for the end of
/// the session: as many as there can be, since a READ of a stream may wait for
/// ever. A guest that is told nothing goes by its own
/// `fs.fuse.default_request_timeout`.
const REQUEST_TIMEOUT: u16 = u16::MAX;

/// Offsets of mappings are multiples of a page: the binary logarithm.
const MAP_ALIGNMENT: u16 = 12;
const _: () = assert!(1 << MAP_ALIGNMENT == PAGE);

/// Locks of both kinds.
const LOCKS: InitFlags = InitFlags::POSIX_LOCKS.union(InitFlags::FLOCK_LOCKS);

/// A guest that opens nothing opens no directories either.
const NO_OPEN: InitFlags = InitFlags::NO_OPEN_SUPPORT.union(InitFlags::NO_OPENDIR_SUPPORT);

/// What there is to agree on about mappings.
const MAPPINGS: InitFlags = InitFlags::MAP_ALIGNMENT.union(InitFlags::HAS_INODE_DAX);

/// What the guest offers (`struct fuse_init_in`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// A major version above ours. The guest is told ours and tries again
    /// (`linux/fuse.h`, "Version negotiation").
    NewerMajor,
    /// Something that can be agreed on.
    Known {
        /// Bytes the guest likes to read ahead.
        max_readahead: u32,
        flags: InitFlags,
    },
}

impl Offer {
    /// Reads the offer; `EPROTO` when the guest is too old.
    pub(super) fn decode(body: &mut Body<'_>) -> Result<Self> {
        let [major, minor] = body.object::<[u32; 2]>()?;
        if major > MAJOR {
            return Ok(Self::NewerMajor);
        }
        if major < MAJOR || minor < OLDEST_MINOR {
            return Err(Errno::PROTO);
        }
        let [max_readahead, low] = body.object::<[u32; 2]>()?;
        // Guests before 7.36 send 16 bytes; some set the flag all the same.
        let extended = InitFlags::from_halves(low, 0).contains(InitFlags::INIT_EXT);
        let high = if extended && body.remaining() >= size_of::<u32>() {
            body.object::<u32>()?
        } else {
            0
        };
        let mut flags = InitFlags::from_halves(low, high);
        if minor < EXTENSIONS_MINOR {
            flags -= InitFlags::SECURITY_CTX;
        }
        Ok(Self::Known {
            max_readahead,
            flags,
        })
    }
}

/// The reply to a guest with a newer major version: `FUSE_COMPAT_INIT_OUT_SIZE`
/// bytes, as it is to ignore the rest.
pub(super) const OUR_VERSION: [u32; 2] = [MAJOR, MINOR];

/// The flags that `offered` and `capabilities` have in common.
///
/// `FUSE_ATOMIC_O_TRUNC` is one of them only beside write-back: without it Linux
/// does not wait for pages of a shared mapping that are on their way when it sends
/// OPEN (`fuse_open`), and they would be in the emptied file. Nor does Linux ask
/// whether the file is being executed before it has sent an OPEN that only reads
/// (`handle_truncate`): `open(O_RDONLY | O_TRUNC)` of a running program empties it and
/// then fails with `ETXTBSY`. So it has to be asked for.
pub(super) fn agree(offered: InitFlags, capabilities: &Capabilities) -> InitFlags {
    let Capabilities { agreement, .. } = *capabilities;
    let always = InitFlags::ASYNC_READ
        | InitFlags::BIG_WRITES
        | InitFlags::HAS_IOCTL_DIR
        | InitFlags::ASYNC_DIO
        | InitFlags::PARALLEL_DIROPS
        | InitFlags::MAX_PAGES
        | InitFlags::INIT_EXT
        | InitFlags::CREATE_SUPP_GROUP
        | InitFlags::REQUEST_TIMEOUT;
    let writeback = agreement.writeback_cache && offered.contains(InitFlags::WRITEBACK_CACHE);
    let wanted = InitFlags::ATOMIC_O_TRUNC.when(capabilities.atomic_truncate && writeback)
        | InitFlags::DO_READDIRPLUS.when(capabilities.readdirplus)
        | InitFlags::READDIRPLUS_AUTO
            .when(capabilities.readdirplus && capabilities.readdirplus_auto)
        | InitFlags::EXPORT_SUPPORT.when(capabilities.export)
        | InitFlags::SECURITY_CTX.when(capabilities.labels)
        | InitFlags::ALLOW_IDMAP.when(capabilities.idmap)
        | InitFlags::CACHE_SYMLINKS.when(capabilities.cache_symlinks)
        | InitFlags::AUTO_INVAL_DATA.when(capabilities.auto_invalidate)
        | InitFlags::WRITEBACK_CACHE.when(agreement.writeback_cache)
        | InitFlags::HANDLE_KILLPRIV_V2.when(agreement.kill_privileges)
        | InitFlags::DONT_MASK.when(agreement.dont_mask)
        | InitFlags::SUBMOUNTS.when(agreement.submounts)
        | InitFlags::DIRECT_IO_ALLOW_MMAP.when(agreement.direct_mappings)
        | MAPPINGS.when(capabilities.mappings)
        | LOCKS.when(agreement.locks)
        | NO_OPEN.when(agreement.no_open && offered.contains(NO_OPEN));
    // With ACLs the umask yields to a default ACL, which only the server can
    // see, and setting an ACL may have to clear the set-group-ID bit, which
    // only the guest can tell: one without the others would be wrong.
    let acl = InitFlags::POSIX_ACL | InitFlags::DONT_MASK | InitFlags::SETXATTR_EXT;
    let acl = acl.when(agreement.posix_acl && offered.contains(acl));
    // Without INIT_EXT the guest did not send the upper half.
    let known = if offered.contains(InitFlags::INIT_EXT) {
        offered
    } else {
        InitFlags::from_halves(offered.low(), 0)
    };
    known & (always | wanted | acl)
}

/// What the file system is told.
pub(super) fn agreement(agreed: InitFlags) -> Agreement {
    Agreement {
        writeback_cache: agreed.contains(InitFlags::WRITEBACK_CACHE),
        kill_privileges: agreed.contains(InitFlags::HANDLE_KILLPRIV_V2),
        dont_mask: agreed.contains(InitFlags::DONT_MASK),
        posix_acl: agreed.contains(InitFlags::POSIX_ACL),
        submounts: agreed.contains(InitFlags::SUBMOUNTS),
        direct_mappings: agreed.contains(InitFlags::DIRECT_IO_ALLOW_MMAP),
        locks: agreed.intersects(LOCKS),
        no_open: agreed.contains(NO_OPEN),
    }
}

/// What the guest is told (`struct fuse_init_out`, 64 bytes).
pub(super) fn reply(agreed: InitFlags, max_readahead: u32) -> InitOut {
    let mut later_fields = [0; 7];
    if agreed.contains(InitFlags::REQUEST_TIMEOUT) {
        // `max_stack_depth` (u32), then `request_timeout` (u16).
        later_fields[1] = u32::from(REQUEST_TIMEOUT);
    }
    InitOut {
        major: MAJOR,
        minor: MINOR,
        max_readahead,
        flags: agreed.low(),
        max_background: MAX_BACKGROUND,
        congestion_threshold: CONGESTION_THRESHOLD,
        max_write: MAX_WRITE,
        time_gran: TIME_GRANULARITY,
        max_pages: if agreed.contains(InitFlags::MAX_PAGES) {
            MAX_PAGES
        } else {
            0
        },
        map_alignment: if agreed.contains(InitFlags::MAP_ALIGNMENT) {
            MAP_ALIGNMENT
        } else {
            0
        },
        flags2: agreed.high(),
        unused: later_fields,
    }
}
