//! The file systems that serve the shares, and the descriptors that they have.

use std::sync::Arc;

use devices::passthrough::{self, Config, DescriptorPool, Lack, Passthrough};

use vmm_options::share::Service;
use vmm_owners::Planned;
use vmm_sandbox::Sandbox;

use super::shares::Share;
use crate::outcome::notes::Notes;

/// Why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot share {directory}")]
pub(crate) struct Error {
    directory: String,
    source: passthrough::Error,
}

/// Descriptors of a run that are for no share: some forty, and one for each
/// request of the session that can wait at once, which are the 64 threads of
/// its pool and those of its two queues.
const RESERVE: usize = 112;
/// Descriptors of a share but for the files in it: the doorbell of its hiprio
/// queue, its interrupt, its root, its mount and `/proc`.
const RESERVE_PER_SHARE: usize = 5;

/// The descriptors for `shares` of a machine with `cpus` processors.
pub(crate) fn descriptors(cpus: u8, shares: &[Share]) -> Arc<DescriptorPool> {
    let queues = |share: &Share| usize::from(share.service.queues.requests);
    let of_shares = shares.iter().map(|share| RESERVE_PER_SHARE + queues(share));
    let reserve = RESERVE + usize::from(cpus) + of_shares.sum::<usize>();
    DescriptorPool::of_process(shares.len(), reserve)
}

/// What an option of a share wants of the directory's file system that there is a run
/// without.
type Want = (Lack, fn(&Service) -> bool, &'static str);
const OPTIONAL: [Want; 3] = [
    (
        Lack::Pages,
        |service| service.window.is_some(),
        "nothing can be mapped, so dax= does nothing but for what is mounted below: it takes a \
         file system such as ext4, xfs, btrfs or tmpfs",
    ),
    (
        Lack::Acls,
        |service| service.server.posix_acl,
        "there are no ACLs, so acl does nothing but for what is mounted below: it takes a file \
         system that has them and is mounted so, or owners=xattr",
    ),
    (
        Lack::Files,
        |service| service.server.writeback,
        "the kernel makes files up when they are read, so writeback does nothing but for what is \
         mounted below",
    ),
];

impl Share {
    /// The file system that serves it, with the owners that were planned, to a guest
    /// with `memory` bytes. What it is served without is told.
    pub(crate) fn serve(
        &self,
        owners: &Planned,
        memory: u64,
        descriptors: &Arc<DescriptorPool>,
        sandbox: &Sandbox,
        notes: &mut Notes,
    ) -> Result<Passthrough, Error> {
        let config = Config {
            // Landlock has no directory for what is opened by one.
            file_handles: !sandbox.is_on(),
            max_inodes: Config::inodes_for(memory),
            ..self.service.server
        };
        let served = Passthrough::in_pool(&owners.path(&self.directory), config, descriptors)
            .map_err(|source| Error {
                directory: self.directory.display().to_string(),
                source,
            })?;
        for (lack, option, text) in OPTIONAL {
            if option(&self.service) && served.lacks(lack) {
                notes.tell(&format!("in {} {text}", self.directory.display()));
            }
        }
        Ok(served)
    }
}
