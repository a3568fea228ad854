//! The virtio-fs devices of a run: the session and the shares.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use devices::filesystem::FileSystem;
use devices::fuse::Server;
use devices::passthrough::DescriptorPool;
use devices::virtio::VirtioDevice;
use devices::virtio::fs::{Fs, FsError, Tag, TagError};
use devices::window::{Window, Windows};
use guest_init::protocol::{Plan, SESSION_TAG};

use crate::console::keys::Keys;
use crate::machine::windows;
use crate::outcome::metrics::MeteredDevice;
use crate::outcome::notes::Notes;
use crate::prepare::serving;
use crate::prepare::shares::{self, Share};
use vmm_options::share::Service;
use vmm_options::size::Size;
use vmm_owners::Planned;
use vmm_sandbox::{Keeper, Place, Sandbox};
use vmm_session::{Session, Streams};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Share(#[from] serving::Error),
    #[error("cannot reserve addresses for dax={0}; use less")]
    Window(Size, #[source] std::io::Error),
    #[error(transparent)]
    Windows(#[from] windows::Error),
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error(transparent)]
    Device(#[from] FsError),
    #[error("cannot describe the run to the guest")]
    Plan(#[from] serde_json::Error),
    #[error("cannot use the standard streams")]
    Streams(#[source] std::io::Error),
    #[error("the host has no descriptor left; raise the limit of open files (ulimit -n)")]
    Needs(#[source] std::io::Error),
}

/// Devices in the order in which the guest finds them, and their counters.
pub(super) struct Exports {
    /// What the shares divide among themselves.
    descriptors: Arc<DescriptorPool>,
    pub(super) devices: Vec<Box<dyn VirtioDevice>>,
    /// Those of the shares, in their order.
    windows: Vec<Arc<Window>>,
    /// Where those go that are still to come.
    places: VecDeque<u64>,
    pub(super) metered: Vec<MeteredDevice>,
    sandbox: Sandbox,
    keepers: Vec<Arc<Keeper>>,
}

impl Exports {
    /// None yet, of a machine with `cpus` processors, `memory` bytes and `shares`.
    pub(super) fn new(
        cpus: u8,
        memory: u64,
        shares: &[Share],
        sandbox: &Sandbox,
    ) -> Result<Self, Error> {
        Ok(Self {
            descriptors: serving::descriptors(cpus, shares),
            devices: Vec::new(),
            windows: Vec::new(),
            places: windows::place(memory, &shares::windows(shares))?.into(),
            metered: Vec::new(),
            sandbox: sandbox.clone(),
            keepers: Vec::new(),
        })
    }

    /// What starts the threads of the devices, confined: it has to be
    /// [started](Keeper::start) itself.
    pub(super) fn keepers(&mut self) -> Vec<Arc<Keeper>> {
        std::mem::take(&mut self.keepers)
    }

    /// The windows of all shares.
    pub(super) fn windows(&self) -> Windows {
        self.windows.iter().cloned().collect()
    }

    /// Exports the session for `plan`; `reported` is called once the guest has
    /// said how its command ended.
    pub(super) fn add_session(
        &mut self,
        plan: &Plan,
        keys: &Keys,
        reported: impl Fn() + Send + Sync + 'static,
    ) -> Result<Arc<Session>, Error> {
        let streams = Streams {
            stdin: keys.session_input().map_err(Error::Streams)?,
            stdout: duplicate(rustix::stdio::stdout())?,
            stderr: duplicate(rustix::stdio::stderr())?,
        };
        let session = Arc::new(Session::new(plan, streams, reported)?);
        self.add(SESSION_TAG, session.clone(), Service::default(), None, None)?;
        Ok(session)
    }

    /// Exports a directory of the host to a guest with `memory` bytes, and tells what
    /// it is served without.
    pub(super) fn add_share(
        &mut self,
        share: &Share,
        owners: &Planned,
        memory: u64,
        notes: &mut Notes,
    ) -> Result<(), Error> {
        let mut passthrough =
            share.serve(owners, memory, &self.descriptors, &self.sandbox, notes)?;
        let window = self.window(share)?;
        if let Some(window) = &window {
            passthrough = passthrough.with_window(Arc::clone(window));
        }
        let place = passthrough.needs().map_err(Error::Needs)?.into();
        let fs = Arc::new(passthrough);
        self.add(&share.tag, fs, share.service, window, Some(place))
    }

    /// The window of a share, if it has one.
    fn window(&mut self, share: &Share) -> Result<Option<Arc<Window>>, Error> {
        let Some(size) = share.service.window else {
            return Ok(None);
        };
        let base = self.places.pop_front().unwrap_or_default();
        let window = Window::reserve(base, size.bytes());
        let window = Arc::new(window.map_err(|error| Error::Window(size, error.into()))?);
        self.windows.push(Arc::clone(&window));
        Ok(Some(window))
    }

    fn add(
        &mut self,
        tag: &str,
        fs: Arc<dyn FileSystem>,
        service: Service,
        window: Option<Arc<Window>>,
        place: Option<Place>,
    ) -> Result<(), Error> {
        let server = Arc::new(Server::new(fs));
        let mut device =
            Fs::new(Tag::new(tag)?, server.clone(), service.queues)?.with_window(window);
        if self.sandbox.is_on() {
            let keeper = Arc::new(Keeper::new(&self.sandbox, tag, place));
            device = device.with_threads(keeper.clone());
            self.keepers.push(keeper);
        }
        if service.access_platform {
            device = device.with_access_platform();
        }
        self.metered.push(MeteredDevice {
            tag: tag.to_owned(),
            server,
            queues: device.counters(),
        });
        self.devices.push(Box::new(device));
        Ok(())
    }
}

pub(super) fn duplicate(stream: BorrowedFd<'_>) -> Result<File, Error> {
    Ok(stream.try_clone_to_owned().map_err(Error::Streams)?.into())
}
