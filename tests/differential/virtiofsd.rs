//! The `virtiofsd` of the crate with that name, over vhost-user: the driver's side
//! of one queue, with one request at a time.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tests::native::driver::Request;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::poll::PollContext;

use crate::client::Transport;
use crate::operation::{Op, ROOT, Step};

const QUEUE_SIZE: u16 = 16;
/// The high-priority queue, and the first of requests.
const QUEUES: usize = 2;
const REQUESTS: usize = 1;

const RINGS: u64 = 0x1000;
const RING_SPACE: u64 = 0x1000;
const AVAILABLE: u64 = 0x400;
const USED: u64 = 0x800;
const REQUEST: u64 = 0x10_0000;
const REPLY: u64 = 0x40_0000;
const MEMORY: usize = 0xc0_0000;

/// `VIRTIO_F_VERSION_1`, `VHOST_USER_F_PROTOCOL_FEATURES`.
const FEATURES: u64 = 1 << 32 | 1 << 30;

/// How long an answer may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Virtiofsd {
    process: Child,
    _frontend: Frontend,
    memory: GuestMemoryMmap,
    kick: EventFd,
    call: EventFd,
    called: PollContext<u32>,
    /// So many requests were sent.
    sent: u16,
    _others: Vec<EventFd>,
}

/// Whether it is compared in this: not where it does not do a thing at all, or
/// not in one; and not for users who are not root, whose rights it has the host
/// check once more.
pub(crate) fn is_asked(step: &Step) -> bool {
    let lacks = match &step.op {
        Op::Statx(_) | Op::Tmpfile(..) | Op::Getlk(..) | Op::Setlk(..) | Op::Flock(..) => true,
        Op::Copy(.., wide) => *wide,
        // It leaves this out for whoever opens.
        Op::Open(_, flags) | Op::Create(.., flags) => *flags & libc::O_NOATIME != 0,
        // It panics where no file has bytes.
        Op::Read(_, at, _) | Op::Write(_, at, _) => i64::try_from(*at).is_err(),
        // It leaves out what it does not know.
        Op::Rename(.., Some(flags)) => *flags > 7,
        // The others are the host's there, which it has not all the rights to set.
        Op::Setxattr(_, name, ..) | Op::Getxattr(_, name, _) | Op::Removexattr(_, name) => {
            !name.0.starts_with(b"user.")
        }
        // To it the owner -1 is none to change to.
        Op::Setattr(_, _, change) => {
            let nobody = Some(u32::MAX);
            change.is_manifold() || change.uid == nobody || change.gid == nobody
        }
        _ => false,
    };
    step.caller == ROOT && !lacks && !step.op.names_nothing()
}

impl Virtiofsd {
    pub(crate) fn new(program: &Path, root: &Path, socket: &Path) -> Self {
        let process = Command::new(program)
            .arg("--socket-path")
            .arg(socket)
            .arg("--shared-dir")
            .arg(root)
            .args([
                "--sandbox=none",
                "--cache=auto",
                "--xattr",
                "--log-level=error",
            ])
            .args(["--inode-file-handles=never", "--seccomp=none"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < PATIENCE, "virtiofsd has no socket");
            std::thread::sleep(Duration::from_millis(2));
        }
        let memory = memory();
        let mut frontend = Frontend::connect(socket, QUEUES as u64).unwrap();
        let queues = connect(&mut frontend, &memory);
        let [hiprio, (kick, call)] = <[_; QUEUES]>::try_from(queues).unwrap();
        let called = PollContext::new().unwrap();
        called.add(&call, 0).unwrap();
        Self {
            process,
            called,
            _frontend: frontend,
            memory,
            kick,
            call,
            sent: 0,
            _others: vec![hiprio.0, hiprio.1],
        }
    }

    fn wait(&mut self) {
        let used = GuestAddress(ring(REQUESTS) + USED + 2);
        while self.memory.load::<u16>(used, Ordering::Acquire).unwrap() != self.sent {
            let events = self.called.wait_timeout(PATIENCE).unwrap();
            assert!(events.iter().count() > 0, "virtiofsd does not answer");
            // Called for an earlier one, or for this.
            let _ = self.call.read();
        }
    }
}

impl Transport for Virtiofsd {
    fn name(&self) -> &'static str {
        "virtiofsd"
    }

    fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        let request = Request::read(bytes, bytes.len()).unwrap();
        let memory = &self.memory;
        memory.write_slice(bytes, GuestAddress(REQUEST)).unwrap();
        let narrow = |length: usize| u32::try_from(length).unwrap();
        let flag = |flag: u32| u16::try_from(flag).unwrap();
        let (next, write) = (flag(VRING_DESC_F_NEXT), flag(VRING_DESC_F_WRITE));
        let descriptors = [
            Descriptor::new(REQUEST, narrow(bytes.len()), next, 1),
            Descriptor::new(REPLY, narrow(request.room()), write, 0),
        ];
        let ring = ring(REQUESTS);
        for (descriptor, at) in descriptors.into_iter().zip([0, 16]) {
            memory
                .write_obj(descriptor, GuestAddress(ring + at))
                .unwrap();
        }
        let at = ring + AVAILABLE + 4 + u64::from(self.sent % QUEUE_SIZE) * 2;
        memory.write_obj(0_u16, GuestAddress(at)).unwrap();
        let place = ring + USED + 4 + u64::from(self.sent % QUEUE_SIZE) * 8;
        self.sent = self.sent.wrapping_add(1);
        let index = GuestAddress(ring + AVAILABLE + 2);
        memory.store(self.sent, index, Ordering::Release).unwrap();
        self.kick.write(1).unwrap();
        self.wait();
        let length: u32 = self.memory.read_obj(GuestAddress(place + 4)).unwrap();
        let mut reply = vec![0; length as usize];
        self.memory
            .read_slice(&mut reply, GuestAddress(REPLY))
            .unwrap();
        reply
    }
}

impl Drop for Virtiofsd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where the rings of a queue are.
fn ring(queue: usize) -> u64 {
    RINGS + queue as u64 * RING_SPACE
}

fn memory() -> GuestMemoryMmap {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = File::from(rustix::fs::memfd_create(c"guest", flags).unwrap());
    file.set_len(MEMORY as u64).unwrap();
    let all = (GuestAddress(0), MEMORY, Some(FileOffset::new(file, 0)));
    GuestMemoryMmap::from_ranges_with_files([all]).unwrap()
}

/// Sets the queues up; what kicks and what calls for each.
fn connect(frontend: &mut Frontend, memory: &GuestMemoryMmap) -> Vec<(EventFd, EventFd)> {
    frontend.set_owner().unwrap();
    let features = frontend.get_features().unwrap();
    assert_eq!(features & FEATURES, FEATURES);
    frontend.set_features(FEATURES).unwrap();
    let offered = frontend.get_protocol_features().unwrap();
    let wanted = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
    frontend.set_protocol_features(offered & wanted).unwrap();
    let region = memory.iter().next().unwrap();
    let info = VhostUserMemoryRegionInfo::from_guest_region(region).unwrap();
    assert_eq!(region.len(), MEMORY as u64);
    frontend.set_mem_table(&[info]).unwrap();
    let address = |at: u64| memory.get_host_address(GuestAddress(at)).unwrap() as u64;
    let queue = |queue| {
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let (kick, call) = (event(), event());
        let rings = VringConfigData {
            queue_max_size: QUEUE_SIZE,
            queue_size: QUEUE_SIZE,
            flags: 0,
            desc_table_addr: address(ring(queue)),
            used_ring_addr: address(ring(queue) + USED),
            avail_ring_addr: address(ring(queue) + AVAILABLE),
            log_addr: None,
        };
        frontend.set_vring_num(queue, QUEUE_SIZE).unwrap();
        frontend.set_vring_addr(queue, &rings).unwrap();
        frontend.set_vring_base(queue, 0).unwrap();
        frontend.set_vring_call(queue, &call).unwrap();
        frontend.set_vring_kick(queue, &kick).unwrap();
        frontend.set_vring_enable(queue, true).unwrap();
        (kick, call)
    };
    (0..QUEUES).map(queue).collect()
}
