//! The file systems that serve the shares, and the descriptors that they have.

use std::sync::Arc;

use devices::passthrough::{self, Config, DescriptorPool, Passthrough};

use vmm_owners::Planned;
use vmm_sandbox::Sandbox;

use super::shares::Share;

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

impl Share {
    /// The file system that serves it, with the owners that were planned, to a guest
    /// with `memory` bytes.
    pub(crate) fn serve(
        &self,
        owners: &Planned,
        memory: u64,
        descriptors: &Arc<DescriptorPool>,
        sandbox: &Sandbox,
    ) -> Result<Passthrough, Error> {
        let config = Config {
            // Landlock has no directory for what is opened by one.
            file_handles: !sandbox.is_on(),
            max_inodes: Config::inodes_for(memory),
            ..self.service.server
        };
        Passthrough::in_pool(&owners.path(&self.directory), config, descriptors).map_err(|source| {
            Error {
                directory: self.directory.display().to_string(),
                source,
            }
        })
    }
}
