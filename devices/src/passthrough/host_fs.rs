//! What kind of file system of the host a mount is, as far as its files are
//! served in another way for it.

use std::os::fd::AsFd;

/// Those whose answers come from elsewhere, a server or a daemon, and may not
/// come at all (`f_type` of `statfs(2)`).
const REMOTE: [i64; 18] = [
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x6573_5546, // FUSE, virtiofs
    0x0102_1997, // 9p
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS
    0x6b41_4653, // kAFS
    0x7375_7245, // Coda
    0x7461_636f, // OCFS2
    0x0116_1970, // GFS2
    0x0bd0_0bd0, // Lustre
    0x1983_0326, // BeeGFS
    0x2003_0528, // OrangeFS
    0x786f_4256, // VirtualBox's
    0x564c,      // NCP
    0x0187,      // autofs
];

/// Its files are mapped by huge pages, and not written to.
const HUGETLBFS: i64 = 0x9584_58f6;

/// What is missing of its files has no disk that cannot be read.
const TMPFS: i64 = 0x0102_1994;

/// Those in memory, which may say that they have no blocks although their files
/// are ordinary ones.
const MEMORY: [i64; 4] = [
    TMPFS,
    0x8584_58f6, // ramfs
    HUGETLBFS,
    libc::OVERLAYFS_SUPER_MAGIC, // says what its upper layer says
];

/// Those that answer with what another one says.
const LAYERED: [i64; 2] = [libc::OVERLAYFS_SUPER_MAGIC, libc::ECRYPTFS_SUPER_MAGIC];

/// Those that have nothing to tell when a file is closed: they have no `flush` among
/// their `file_operations`.
const SILENT_AT_CLOSE: [i64; 4] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // btrfs
    TMPFS,
];

/// What a file system is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostFs {
    /// A file's creation time stays the same for its whole life.
    pub(super) stable_birth: bool,
    /// Files are made when they are read, and their size says nothing: procfs,
    /// sysfs, cgroups and their like. The guest must not go by the size, nor
    /// keep what it read.
    pub(super) synthetic: bool,
    /// Whatever is asked of it may wait for somebody else.
    pub(super) may_stall: bool,
    /// The attributes of a node that it has at hand are always true.
    pub(super) up_to_date: bool,
    /// A file's pages can be mapped, and are the same for everybody who does:
    /// those of overlayfs are another file's once it is copied up. To touch one
    /// waits for nobody: a processor of the guest could not be stopped.
    pub(super) mappable: bool,
    /// To read a hole by a mapping takes memory, of which there may be none.
    pub(super) holes_take_room: bool,
    /// Closing a file may tell that it could not be stored.
    pub(super) tells_at_close: bool,
}

impl HostFs {
    /// That of the node open as `fd`.
    pub(super) fn of(fd: impl AsFd) -> Self {
        match rustix::fs::fstatfs(fd) {
            Ok(status) => Self::judge(status.f_type, status.f_blocks),
            Err(_) => Self {
                stable_birth: false,
                synthetic: false,
                may_stall: true,
                up_to_date: false,
                mappable: false,
                holes_take_room: false,
                tells_at_close: true,
            },
        }
    }

    /// By its type and its size in blocks. What stores files on anything has a
    /// size; a file system of the kernel's own makes has none
    /// (`simple_statfs`), whatever its name.
    fn judge(kind: i64, blocks: u64) -> Self {
        let synthetic = blocks == 0 && !MEMORY.contains(&kind);
        let may_stall = synthetic || REMOTE.contains(&kind);
        Self {
            // Overlayfs answers with the creation time of the layer a file is
            // in, which changes when the file is copied up.
            stable_birth: kind != libc::OVERLAYFS_SUPER_MAGIC,
            synthetic,
            may_stall,
            up_to_date: !may_stall && !LAYERED.contains(&kind),
            mappable: !may_stall && !LAYERED.contains(&kind) && kind != HUGETLBFS,
            holes_take_room: kind == TMPFS,
            tells_at_close: !SILENT_AT_CLOSE.contains(&kind),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(path: &str) -> HostFs {
        HostFs::of(std::fs::File::open(path).unwrap())
    }

    #[test]
    fn what_the_kernel_makes_up_is_synthetic_and_what_is_stored_is_not() {
        for path in ["/proc/self", "/proc/sys", "/sys"] {
            let fs = of(path);
            assert!(fs.synthetic && fs.may_stall, "{path}");
        }
        let directory = tempfile::tempdir().unwrap();
        assert!(!of(directory.path().to_str().unwrap()).synthetic);
    }

    #[test]
    fn a_file_system_nobody_listed_goes_by_its_size() {
        let unknown = 0x1234_5678;
        assert!(HostFs::judge(unknown, 0).synthetic);
        assert!(!HostFs::judge(unknown, 1).synthetic);
        assert!(!HostFs::judge(unknown, 1).may_stall);
        for memory in MEMORY {
            assert!(!HostFs::judge(memory, 0).synthetic);
        }
        for remote in REMOTE {
            let fs = HostFs::judge(remote, 1000);
            assert!(fs.may_stall && !fs.synthetic, "{remote:#x}");
            assert!(
                !fs.up_to_date && !fs.mappable && fs.tells_at_close,
                "{remote:#x}"
            );
        }
        for layered in LAYERED {
            let fs = HostFs::judge(layered, 1000);
            assert!(!fs.up_to_date && !fs.may_stall, "{layered:#x}");
            assert!(!fs.mappable && fs.tells_at_close, "{layered:#x}");
        }
        assert!(HostFs::judge(unknown, 1).tells_at_close);
        for silent in SILENT_AT_CLOSE {
            let fs = HostFs::judge(silent, 1000);
            assert!(!fs.tells_at_close && fs.up_to_date, "{silent:#x}");
        }
        assert!(HostFs::judge(unknown, 1).up_to_date);
        assert!(HostFs::judge(unknown, 1).mappable);
        assert!(!HostFs::judge(unknown, 0).mappable);
        assert!(HostFs::judge(MEMORY[0], 0).mappable);
        assert!(!HostFs::judge(HUGETLBFS, 0).mappable);
    }
}
