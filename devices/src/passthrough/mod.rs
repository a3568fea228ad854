//! A directory of the host as a file system for the guest.
//!
//! [`Passthrough`] is what a `--share DIR` becomes: the FUSE server calls it
//! through [`FileSystem`], and it does to the
//! host's tree what the guest asks.
//!
//! | file | what |
//! | --- | --- |
//! | `lookup`, `create`, `remove`, `attributes`, `files`, `directories`, `xattrs`, `locks`, `ioctls`, `mappings` | the operations |
//! | `copying` | data that goes from file to file without the guest |
//! | `opening`, `handle`, `cursor` | what the guest has open |
//! | `inode`, `inodes` | nodes the guest knows, and their table |
//! | `names`, `clock` | the names by which the guest knows a node, and when it was told |
//! | `budget` | how many descriptors a share may hold of those of the process |
//! | `capacity` | how many nodes and names a guest can make it remember |
//! | `descriptors`, `second_chance` | which inodes have one |
//! | `finding` | how the others are found again |
//! | `exporting` | nodes of which the guest has the number alone |
//! | `coherence`, `refusals` | whether what the guest has in its cache is true |
//! | `confinement` | what the host moved out of the share |
//! | `root`, `mount`, `stat` | the share's root and every path-taking open, the file systems under it, what tells nodes apart |
//! | `grants` | set-ID bits that outlive a change of the owner |
//! | `host_fs` | kinds of file systems that are served in another way |
//! | `attribute_names` | which extended attributes the guest has, and what the host calls them |
//! | `acl`, `acls`, `kept_acls` | POSIX ACLs, whom they name, and those that are kept |
//! | `turns` | servers that change what is kept of one node |
//! | `labels` | security labels of new nodes |
//! | `lacks` | options that the file system has no use for |
//! | `owners`, `kept_owners`, `override_stat` | whose the files are, in the guest and on the host |
//! | `kept_devices` | files of a user namespace that stand in for devices |
//! | `permissions` | who may do what to a node of which the guest sees more than the host has |
//! | `hashing` | tables by numbers that no guest chooses |
//! | `credentials` | acting as the guest's caller |
//! | `dirty` | data that the guest may not have sent yet |
//! | `durability` | what is on the disk before an answer |
//! | `needs` | what a thread that serves has to be able to do |
//! | `config` | options and what follows from a cache policy |
//! | `sys` | the unsafe system calls |
//!
//! # What holds against the guest
//!
//! The guest names files by numbers we gave out and by single path
//! components. No component is ever `.` or `..` or has a slash, no symbolic
//! link is ever followed, and every system call starts at a descriptor of a
//! node the guest has reached from the root this way. So it reaches the tree
//! under the share and nothing else.
//!
//! The host may move things meanwhile. A directory that it moves out of the
//! share is `ESTALE` the next time the guest asks anything of it. A file has
//! only names to be found by: once none that the guest knows leads to it, it is
//! `ESTALE` to whoever wants to open, change or link it, until the guest has
//! looked it up; what the guest has open it may go on using (see
//! `confinement`).
//!
//! Inodes that were let go for want of descriptors come back by the kernel's
//! file handle, by a name, or by what the guest has open; always their identity
//! is verified, and a node that the host replaced is `ESTALE` (see `finding`).
//!
//! # Shares on NFS, SMB, 9p, FUSE and their like
//!
//! Whatever is asked of such a file system may wait for its server, so nearly
//! every request for a node there is served by the device's pool, from a
//! private copy. That costs two switches of threads for each, and for a READ or
//! WRITE a copy of the data and the memory for it.
//!
//! # Locks
//!
//! No lock is held over a system call of the host, with two exceptions: the
//! cursor of an open directory, whose position is part of the call, and the
//! locks of a file, which the host and the table are to know alike. The locks
//! are, in the order in which they may be taken: cursor, clock of
//! descriptors, shard of inodes, place of an inode; and by themselves those of
//! `locks`: host, list of files or waits, table.

mod acl;
mod acls;
mod attribute_names;
mod attributes;
mod budget;
mod cached_attributes;
mod capacity;
mod clock;
mod coherence;
mod config;
mod confinement;
mod copying;
mod create;
mod credentials;
mod cursor;
mod descriptors;
mod directories;
mod dirty;
mod durability;
mod error;
mod exporting;
mod files;
mod finding;
mod grants;
mod handle;
mod hashing;
mod host_fs;
mod inode;
mod inodes;
mod ioctls;
mod kept_acls;
mod kept_devices;
mod kept_owners;
mod labels;
mod lacks;
mod locks;
mod lookup;
mod mappings;
mod mount;
mod names;
mod needs;
mod opening;
mod override_stat;
mod owners;
mod permissions;
mod refusals;
mod remove;
mod root;
mod second_chance;
mod stat;
mod sys;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

mod turns;
mod without_open;
mod xattrs;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::io::Errno;

use crate::filesystem::{self, Agreement, Capabilities, FileSystem, NodeId, Result};
use crate::window::Window;

pub use budget::DescriptorPool;
pub use config::{CachePolicy, Config};
pub use error::Error;
pub use lacks::Lack;
pub use needs::Needs;
pub use owners::Owners;

use attribute_names::{AttributeNames, has_names_like};
use budget::{Descriptor, Part, Purpose};
use capacity::Capacity;
use clock::Clock;
use credentials::Privileges;
use grants::Grants;
use handle::Handles;
use inode::Inode;
use inodes::Inodes;
use locks::Locks;
use mount::Mounts;
use owners::Ownership;
use refusals::Refusals;
use root::Root;
use second_chance::SecondChance;
use stat::{Kind, Stat};
use turns::Turns;

/// A host directory as a file system.
#[derive(Debug)]
pub struct Passthrough {
    config: Config,
    root: Root,
    clock: Clock,
    mounts: Mounts,
    inodes: Arc<Inodes>,
    part: Arc<Part>,
    capacity: Arc<Capacity>,
    second_chance: SecondChance,
    handles: Handles,
    locks: Locks,
    /// Held while a file gets its fs-verity.
    enabling_verity: Mutex<()>,
    refusals: Refusals,
    privileges: Privileges,
    ownership: Ownership,
    turns: Option<Turns>,
    grants: Grants,
    attribute_names: AttributeNames,
    /// Whether a guest has changed anything, or was about to. Never taken back:
    /// what is under way while the host syncs is to be synced later.
    changed: AtomicBool,
    /// The generation of the nodes, which no earlier share had.
    generation: u64,
    agreement: RwLock<Agreement>,
    window: Option<Arc<Window>>,
    /// No other file system is mounted in the tree, nor is it made up; known where
    /// that matters.
    is_plain: bool,
}

impl Passthrough {
    /// Shares the directory at `root`, the only share of the process.
    ///
    /// Opens everything the share needs from outside of it. The limit of open
    /// files (`RLIMIT_NOFILE`) counts as it is then. A process that may change
    /// its user does so for what guest users create; for one that may not,
    /// everything belongs to its own user.
    ///
    /// # Errors
    ///
    /// When `root` cannot be opened or is not a directory, when there is no
    /// `/proc`, or when options contradict each other.
    pub fn new(root: &Path, config: Config) -> std::result::Result<Self, Error> {
        Self::in_pool(root, config, &DescriptorPool::of_one())
    }

    /// As [`new`](Self::new), for one of several shares of the process, which
    /// divide `pool` among them.
    ///
    /// # Errors
    ///
    /// As of [`new`](Self::new), and when there is no part of the pool for it.
    pub fn in_pool(
        path: &Path,
        config: Config,
        pool: &Arc<DescriptorPool>,
    ) -> std::result::Result<Self, Error> {
        if config.posix_acl && !config.xattr {
            return Err(Error::AclWithoutXattr);
        }
        let root = Root::open(path)?;
        if config.posix_acl && !root.sets_apart() {
            return Err(Error::AclWithoutUmask);
        }
        if config.owners == Owners::Xattr && !has_names_like(&root, override_stat::NAME) {
            return Err(Error::NoAttributes { path: path.into() });
        }
        let examine = |error: Errno| Error::Examine {
            path: path.into(),
            source: error.into(),
        };
        let status = Stat::of(root.fd()).map_err(examine)?;
        let part = pool.part(config.fd_budget)?;
        let permit = |purpose| part.permit(purpose).map_err(|_| Error::Descriptors);
        let leave = match config.file_handles {
            true => Some([permit(Purpose::Mount)?, permit(Purpose::Work)?]),
            false => None,
        };
        let capacity = Capacity::new(config.max_inodes);
        let mounts = Mounts::new(&root, &status, leave, &capacity);
        let mount = mounts.of_root();
        let is_plain = without_open::is_plain(&config, path, &mount);
        let privileges = Privileges::of_process();
        let may_switch = privileges.may_switch();
        let ownership = Ownership::new(config.owners, config.forget_owners, may_switch);
        let privileges = match ownership.policy() {
            Owners::Automatic | Owners::Host => privileges,
            Owners::Mapped => privileges.without_strangers(),
            Owners::User | Owners::Xattr => privileges.squashed(),
        };
        let keeps = ownership.policy() == Owners::Xattr;
        let turns = keeps.then(Turns::new).transpose().map_err(examine)?;
        let own = root.fd().try_clone_to_owned();
        let own = own.map_err(|source| Error::Examine {
            path: path.into(),
            source,
        })?;
        let node = Inode::new(
            filesystem::ROOT,
            mount.identity(&status),
            Kind::Directory,
            mount,
            false,
            Arc::new(Descriptor::new(own, permit(Purpose::Work)?)),
        );
        Ok(Self {
            config,
            root,
            clock: Clock::default(),
            mounts,
            inodes: Arc::new(Inodes::new(Arc::new(node), config.remembered)),
            part,
            capacity,
            second_chance: SecondChance::default(),
            handles: Handles::default(),
            locks: Locks::default(),
            enabling_verity: Mutex::default(),
            refusals: Refusals::default(),
            privileges,
            ownership,
            turns,
            grants: Grants::default(),
            attribute_names: AttributeNames::of_process(ownership.policy()),
            changed: AtomicBool::new(false),
            generation: exporting::new_generation(),
            agreement: RwLock::default(),
            window: None,
            is_plain,
        })
    }

    /// Whether what guest users create belongs to them on the host too; if
    /// not, it belongs to the user this process runs as.
    #[cfg(test)]
    fn keeps_owners(&self) -> bool {
        self.privileges.may_switch()
    }

    /// How many inodes the guest holds, the root not counted.
    #[cfg(test)]
    fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// How many files and directories the guest has open.
    #[cfg(test)]
    fn open_count(&self) -> usize {
        self.handles.open()
    }

    /// How many descriptors are held for inodes and by operations.
    #[cfg(test)]
    fn descriptor_count(&self) -> usize {
        self.part.work()
    }

    fn agreement(&self) -> Agreement {
        *self
            .agreement
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever is about to change something asks first: `EROFS` on a read-only
    /// share.
    fn writable(&self) -> Result<()> {
        if self.config.read_only {
            return Err(Errno::ROFS);
        }
        if !self.changed.load(Ordering::Relaxed) {
            self.changed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn agree(&self, agreement: Agreement) {
        *self
            .agreement
            .write()
            .unwrap_or_else(PoisonError::into_inner) = agreement;
    }
}

impl FileSystem for Passthrough {
    fn capabilities(&self) -> Capabilities {
        let cache = self.config.cache;
        Capabilities {
            agreement: Agreement {
                writeback_cache: self.config.writeback && !self.config.read_only,
                kill_privileges: true,
                dont_mask: self.config.posix_acl,
                posix_acl: self.config.posix_acl,
                submounts: self.config.announce_submounts,
                direct_mappings: cache.bypasses_pages(),
                locks: self.config.locks,
                no_open: self.needs_no_open(),
            },
            // Attributes that may not be trusted are not worth their cost.
            readdirplus: cache != CachePolicy::Never,
            readdirplus_auto: cache != CachePolicy::Never,
            atomic_truncate: self.config.atomic_truncate,
            idmap: self.config.idmap,
            labels: self.config.xattr && !self.config.read_only,
            export: self.config.remembered > 0,
            cache_symlinks: cache == CachePolicy::Always,
            auto_invalidate: cache != CachePolicy::Always,
            mappings: self.window.is_some(),
        }
    }

    fn may_stall(&self, node: NodeId) -> bool {
        // The second question is only for shares that have met such a mount.
        self.mounts.some_may_stall()
            && (self.inodes.get(node)).is_ok_and(|inode| inode.mount.host_fs.may_stall)
    }

    fn init(&self, agreement: Agreement) {
        self.destroy();
        self.agree(agreement);
    }

    fn destroy(&self) {
        if let Some(window) = &self.window {
            window.clear();
        }
        self.handles.clear();
        self.locks.clear();
        self.inodes.clear();
        self.agree(Agreement::default());
    }
}
