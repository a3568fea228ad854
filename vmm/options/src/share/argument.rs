//! What the options of a share say, as far as they were given.

use std::path::PathBuf;

use devices::passthrough::Config;
use devices::virtio::fs::Queues;

use super::ids::IdMaps;
use crate::size::Size;

/// A `--share` or `--root` as the user wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareArgument {
    /// The directory, as it was written.
    pub directory: PathBuf,
    /// The tag, if one was given.
    pub tag: Option<String>,
    /// Where the guest is to mount it, if that was said.
    pub at: Option<PathBuf>,
    /// How it is to be served.
    pub service: Service,
    /// With `owners=map`: who the guest's users are, as far as that was said.
    pub maps: IdMaps,
    /// The most that the overlay of a read-only root takes of the guest's
    /// memory.
    pub overlay_size: Option<Size>,
}

/// How a share is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// What the server does.
    pub server: Config,
    /// How requests reach it.
    pub queues: Queues,
    /// The device offers `VIRTIO_F_ACCESS_PLATFORM`.
    pub access_platform: bool,
    /// How large a window the guest has to map files in (DAX): a multiple of
    /// [`UNIT`](devices::window::UNIT), or nothing for none.
    pub window: Option<Size>,
}
