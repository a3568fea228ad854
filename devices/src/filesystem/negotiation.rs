//! What a file system and the guest agree on at INIT.

/// What a file system and the guest agreed on at INIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Agreement {
    /// The guest caches writes (`FUSE_WRITEBACK_CACHE`).
    pub writeback_cache: bool,
    /// The server clears set-ID bits and capabilities when told to
    /// (`FUSE_HANDLE_KILLPRIV_V2`).
    pub kill_privileges: bool,
    /// The server applies the umask, or a default ACL in its place
    /// (`FUSE_DONT_MASK`).
    pub dont_mask: bool,
    /// POSIX ACLs are on (`FUSE_POSIX_ACL`).
    pub posix_acl: bool,
    /// Mount points below the share are announced (`FUSE_SUBMOUNTS`).
    pub submounts: bool,
    /// Files that bypass the page cache can be mapped shared, and have pages
    /// there for as long (`FUSE_DIRECT_IO_ALLOW_MMAP`).
    pub direct_mappings: bool,
    /// The guest leaves locks to the server: those of `fcntl(2)`
    /// (`FUSE_POSIX_LOCKS`) and of `flock(2)` (`FUSE_FLOCK_LOCKS`), or those
    /// of the two that it can.
    pub locks: bool,
    /// The guest opens neither files nor directories: it names handle 0 with what it
    /// does to them (`FUSE_NO_OPEN_SUPPORT`, `FUSE_NO_OPENDIR_SUPPORT`). OPEN and
    /// OPENDIR, of which it tries one each, are then `ENOSYS`.
    pub no_open: bool,
}

/// What a file system can do, and wants where the guest can do it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What it is told of once it is agreed on.
    pub agreement: Agreement,
    /// It serves READDIRPLUS (`FUSE_DO_READDIRPLUS`).
    pub readdirplus: bool,
    /// The guest may choose between READDIR and READDIRPLUS by need
    /// (`FUSE_READDIRPLUS_AUTO`).
    pub readdirplus_auto: bool,
    /// OPEN with `O_TRUNC` truncates (`FUSE_ATOMIC_O_TRUNC`), if the guest caches
    /// writes.
    pub atomic_truncate: bool,
    /// The guest may map users for a mount (`FUSE_ALLOW_IDMAP`): it then says
    /// who asks only where something is created.
    pub idmap: bool,
    /// It labels what it makes as the guest asks (`FUSE_SECURITY_CTX`).
    pub labels: bool,
    /// The guest may look nodes up by their number (`FUSE_EXPORT_SUPPORT`).
    pub export: bool,
    /// The guest may cache symbolic links' targets (`FUSE_CACHE_SYMLINKS`).
    pub cache_symlinks: bool,
    /// The guest drops cached pages when the modification time changed
    /// (`FUSE_AUTO_INVAL_DATA`).
    pub auto_invalidate: bool,
    /// Files can be mapped in a window (`FUSE_MAP_ALIGNMENT`), and each node
    /// says whether it is to be (`FUSE_HAS_INODE_DAX`).
    pub mappings: bool,
}
