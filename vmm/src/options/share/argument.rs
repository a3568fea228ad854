//! What the options of a share say, as far as they were given.

use std::path::PathBuf;

use devices::passthrough::Config;
use devices::virtio::fs::Queues;

use crate::options::size::Size;

/// A `--share` or `--root` as the user wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShareArgument {
    pub directory: PathBuf,
    pub tag: Option<String>,
    pub at: Option<PathBuf>,
    pub service: Service,
    /// The most that the overlay of a read-only root takes of the guest's
    /// memory.
    pub overlay_size: Option<Size>,
}

/// How a share is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Service {
    pub server: Config,
    pub queues: Queues,
    /// The device offers `VIRTIO_F_ACCESS_PLATFORM`.
    pub access_platform: bool,
}
