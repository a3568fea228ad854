//! A guest's memory and the registers of a device that serves a directory, as its
//! driver finds them.

use std::fs::{self, File};
use std::io::Seek;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use devices::bus::BusDevice;
use devices::filesystem::FileSystem;
use devices::fuse::Server;
use devices::passthrough::{Config, Passthrough};
use devices::virtio::fs::{Fs, Queues, Tag};
use devices::virtio::mmio::MmioTransport;
use guest_init::protocol::{Plan, WindowSize};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use virtio_bindings::virtio_mmio as reg;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sandbox::{Keeper, Mode, Place, Sandbox};
use vmm_session::{Session, Streams};

use crate::input::Input;

/// Bytes of the guest's memory.
pub(crate) const MEMORY: u64 = 0x20_0000;
/// Where the driver has its buffers, from there on.
pub(crate) const BUFFERS: u64 = 0x1_0000;
/// Elements of a queue.
pub(crate) const SIZE: u16 = 64;
/// Where the rings of a queue are: descriptors, available, used.
const RINGS: [[u64; 3]; 2] = [[0x1000, 0x2000, 0x3000], [0x4000, 0x5000, 0x6000]];
/// `VIRTIO_F_VERSION_1`, indirect descriptors, EVENT_IDX.
const FEATURES: u64 = 1 << 32 | 1 << 28 | 1 << 29;
/// The status with which a device is live, and that of one that needs a reset.
const LIVE: u32 = 0xf;
const NEEDS_RESET: u32 = 0x40;
/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a file of the share may grow to: the host's disk is not what is tested.
const LARGEST: u64 = 4 << 20;

/// The guest of a target, which is made for its first run.
pub(crate) struct OnlyGuest {
    guest: Mutex<Option<Guest>>,
    make: fn() -> Guest,
}

impl OnlyGuest {
    pub(crate) const fn new(make: fn() -> Guest) -> Self {
        Self {
            guest: Mutex::new(None),
            make,
        }
    }

    /// Does with it what `data` says, from the beginning.
    pub(crate) fn run(&self, data: &[u8], run: impl FnOnce(&mut Guest, &mut Input<'_>)) {
        let mut guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
        let guest = guest.get_or_insert_with(self.make);
        guest.begin();
        run(guest, &mut Input::new(data));
    }
}

/// The sandbox of a run; none by `TEST_SANDBOX=off`.
#[allow(clippy::unwrap_used)]
fn sandbox() -> Sandbox {
    let off = std::env::var_os("TEST_SANDBOX").is_some_and(|mode| mode == "off");
    Sandbox::plan(if off { Mode::Off } else { Mode::Best }).unwrap()
}

/// The guest, and what it is served.
pub(crate) struct Guest {
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) transport: MmioTransport,
    served: Served,
    /// Requests that were made available on each queue.
    made: [u16; 2],
}

/// What the device serves.
enum Served {
    /// The directory `share` in this one.
    Directory(tempfile::TempDir),
    /// A session, whose standard output and error are these.
    Session {
        session: Arc<Session>,
        streams: [File; 2],
        /// What it was told so far.
        told: u16,
    },
}

impl Guest {
    /// One whose device serves a directory of its own.
    #[allow(clippy::unwrap_used)]
    pub(crate) fn with_share() -> Self {
        limit_this_process();
        let top = tempfile::tempdir().unwrap();
        let share = top.path().join("share");
        fs::create_dir(&share).unwrap();
        let sandbox = sandbox();
        let config = Config {
            file_handles: !sandbox.is_on(),
            posix_acl: true,
            announce_submounts: true,
            remembered: 16,
            max_inodes: 4096,
            fd_budget: Some(64),
            ..Config::default()
        };
        let passthrough = Passthrough::new(&share, config).unwrap();
        let place = passthrough.needs().unwrap().into();
        let fs = Arc::new(passthrough);
        Self::new(fs, &sandbox, Some(place), Served::Directory(top))
    }

    /// One whose device serves a session.
    #[allow(clippy::unwrap_used)]
    pub(crate) fn with_session() -> Self {
        limit_this_process();
        let plan = Plan {
            command: vec!["true".into()],
            environment: Vec::new(),
            working_directory: None,
            hostname: "vm".into(),
            init: None,
            user: None,
            root: None,
            modules: None,
            shares: Vec::new(),
            terminal: Some(WindowSize::default()),
            interactive: false,
            power_off: true,
        };
        let streams = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        let [stdout, stderr] = [&streams[0], &streams[1]].map(|file| file.try_clone().unwrap());
        let stdin = None;
        let ends = Streams {
            stdin,
            stdout,
            stderr,
        };
        let session = Arc::new(Session::new(&plan, ends, || ()).unwrap());
        let sandbox = sandbox();
        let served = Served::Session {
            session: session.clone(),
            streams,
            told: 0,
        };
        Self::new(session, &sandbox, None, served)
    }

    #[allow(clippy::unwrap_used)]
    fn new(
        fs: Arc<dyn FileSystem>,
        sandbox: &Sandbox,
        place: Option<Place>,
        served: Served,
    ) -> Self {
        let keeper = Keeper::new(sandbox, "fuzz", place);
        keeper.start().unwrap();
        let server = Arc::new(Server::new(fs));
        let queues = Queues {
            requests: 1,
            size: SIZE,
        };
        let device = Fs::new(Tag::new("fuzz").unwrap(), server, queues).unwrap();
        let device = device.with_threads(Arc::new(keeper));
        let size = usize::try_from(MEMORY).unwrap();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size)]).unwrap();
        Self {
            transport: MmioTransport::new(memory.clone(), Box::new(device)).unwrap(),
            memory,
            served,
            made: [0; 2],
        }
    }

    /// A driver takes over a device that serves what it did at first.
    pub(crate) fn begin(&mut self) {
        self.write32(reg::VIRTIO_MMIO_STATUS, 0);
        self.served.renew();
        for status in [1, 3] {
            self.write32(reg::VIRTIO_MMIO_STATUS, status);
        }
        for half in 0..2 {
            #[allow(clippy::cast_possible_truncation)]
            let bits = (FEATURES >> (32 * half)) as u32;
            self.write32(reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            self.write32(reg::VIRTIO_MMIO_DRIVER_FEATURES, bits);
        }
        self.write32(reg::VIRTIO_MMIO_STATUS, 0xb);
        for (queue, rings) in (0_u32..).zip(RINGS) {
            self.set_up(queue, rings);
        }
        self.made = [0; 2];
        self.write32(reg::VIRTIO_MMIO_STATUS, LIVE);
        assert_eq!(
            self.read32(reg::VIRTIO_MMIO_STATUS),
            LIVE,
            "the device is not live"
        );
    }

    fn set_up(&mut self, queue: u32, rings: [u64; 3]) {
        let zeros = [0; 0x1000];
        self.write32(reg::VIRTIO_MMIO_QUEUE_SEL, queue);
        self.write32(reg::VIRTIO_MMIO_QUEUE_NUM, SIZE.into());
        let registers = [
            reg::VIRTIO_MMIO_QUEUE_DESC_LOW,
            reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
            reg::VIRTIO_MMIO_QUEUE_USED_LOW,
        ];
        for (register, ring) in registers.into_iter().zip(rings) {
            self.store(ring, &zeros);
            #[allow(clippy::cast_possible_truncation)]
            self.write32(register, ring as u32);
        }
        self.write32(reg::VIRTIO_MMIO_QUEUE_READY, 1);
    }

    /// Puts a descriptor into the table of `queue`.
    pub(crate) fn describe(&self, queue: usize, index: u16, descriptor: &[u8]) {
        self.store(RINGS[queue][0] + u64::from(index % SIZE) * 16, descriptor);
    }

    /// Makes the chain that begins at `head` available, and waits until it is used.
    pub(crate) fn exchange(&mut self, queue: usize, head: u16) {
        self.offer(queue, head);
        self.settle(queue);
    }

    /// Makes the chain that begins at `head` available.
    pub(crate) fn offer(&mut self, queue: usize, head: u16) {
        let [_, available, _] = RINGS[queue];
        let made = self.made[queue];
        let slot = available + 4 + u64::from(made % SIZE) * 2;
        self.store(slot, &head.to_le_bytes());
        self.made[queue] = made.wrapping_add(1);
        self.store(available + 2, &self.made[queue].to_le_bytes());
    }

    /// Notifies the device, and waits until every request of the queue is used, or
    /// the device needs a reset.
    pub(crate) fn settle(&mut self, queue: usize) {
        self.kick(queue);
        let [_, _, used] = RINGS[queue];
        let begun = Instant::now();
        while self.load16(used + 2) != self.made[queue] {
            if self.read32(reg::VIRTIO_MMIO_STATUS) & NEEDS_RESET != 0 {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "a request is not answered");
            self.served.tell();
            thread::yield_now();
        }
    }

    pub(crate) fn kick(&self, queue: usize) {
        // A counter that is full is not added to, and wakes all the same.
        let _ = self.transport.kicks()[queue].write(1);
    }

    pub(crate) fn read32(&mut self, register: u32) -> u32 {
        let mut value = [0; 4];
        self.transport.read(register.into(), &mut value);
        u32::from_le_bytes(value)
    }

    pub(crate) fn write32(&mut self, register: u32, value: u32) {
        self.transport.write(register.into(), &value.to_le_bytes());
    }

    /// Writes to memory, as far as there is any.
    pub(crate) fn store(&self, at: u64, bytes: &[u8]) {
        let _ = self.memory.write(bytes, GuestAddress(at));
    }

    fn load16(&self, at: u64) -> u16 {
        let mut bytes = [0; 2];
        let _ = self.memory.read(&mut bytes, GuestAddress(at));
        u16::from_le_bytes(bytes)
    }
}

impl Served {
    #[allow(clippy::unwrap_used)]
    fn renew(&mut self) {
        match self {
            Self::Directory(top) => renew(&top.path().join("share")),
            Self::Session { streams, .. } => {
                for stream in streams {
                    stream.rewind().unwrap();
                    stream.set_len(0).unwrap();
                }
            }
        }
    }

    /// Has something for those who wait for news.
    fn tell(&mut self) {
        if let Self::Session { session, told, .. } = self {
            *told = told.wrapping_add(1);
            session.resize(WindowSize {
                rows: *told,
                columns: 80,
            });
            session.signal(i32::from(*told));
        }
    }
}

/// Makes the directory at `share` what it was at first.
#[allow(clippy::unwrap_used)]
fn renew(share: &Path) {
    for entry in fs::read_dir(share).unwrap() {
        let path = entry.unwrap().path();
        let is_directory = path.symlink_metadata().is_ok_and(|m| m.is_dir());
        match is_directory {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
    fs::create_dir_all(share.join("d/e")).unwrap();
    fs::write(share.join("f"), [b'f'; 5000]).unwrap();
    fs::write(share.join("d/g"), b"g").unwrap();
    symlink("../f", share.join("d/l")).unwrap();
}

/// Files stay small, and can be removed again.
#[allow(clippy::unwrap_used)]
fn limit_this_process() {
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGXFSZ);
    blocked.thread_block().unwrap();
    let largest = Rlimit {
        current: Some(LARGEST),
        maximum: Some(LARGEST),
    };
    setrlimit(Resource::Fsize, largest).unwrap();
    let mut sets = capabilities(None).unwrap();
    for set in [&mut sets.effective, &mut sets.permitted] {
        set.remove(CapabilitySet::LINUX_IMMUTABLE);
    }
    set_capabilities(None, sets).unwrap();
}
