//! The device's own window, and buffers that are in windows.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;
use crate::filesystem::WindowPart;
use crate::window::{FilePart, PAGE, UNIT, Window, Windows};

const BASE: u64 = 4 << 30;

fn device(server: &Arc<Server>) -> Fs {
    let behind: Arc<dyn RequestServer> = Arc::clone(server) as _;
    Fs::new(Tag::new("tag").unwrap(), behind, Queues::default()).unwrap()
}

/// A machine with a window of another device, in which a file of two pages is
/// mapped.
struct Beside {
    machine: Machine,
    file: File,
}

fn beside(device: impl FnOnce(&Arc<Server>) -> Fs) -> Beside {
    let window = Arc::new(Window::reserve(BASE, UNIT).unwrap());
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 * PAGE).unwrap();
    let place = WindowPart {
        offset: 0,
        len: 4 * PAGE,
    };
    let part = FilePart {
        node: 1,
        offset: 0,
        writable: true,
    };
    window.map(place, &file, part).unwrap();
    let server = Arc::new(Server::default());
    let device = device(&server);
    let windows = Windows::from_iter([window]);
    Beside {
        machine: Machine::beside(windows, server, device),
        file,
    }
}

impl Beside {
    /// Sends a request of these parts, each an address and a length, and gives
    /// the length of the answer.
    fn exchange(&mut self, request: &[(u64, u32)], reply: &[(u64, u32)]) -> u32 {
        let parts = request.iter().map(|part| (part, 0));
        let parts: Vec<_> = parts
            .chain(reply.iter().map(|part| (part, WRITE)))
            .collect();
        let queue = &mut self.machine.request;
        for (index, ((address, len), flags)) in (0..).zip(&parts) {
            let next = if usize::from(index) + 1 < parts.len() {
                NEXT
            } else {
                0
            };
            queue.describe(index, (*address, *len, flags | next, index + 1));
        }
        queue.publish(0);
        self.machine.kick(1);
        let (head, len) = self.machine.request.wait_used();
        assert_eq!(head, 0);
        len
    }

    fn in_file(&self, len: usize, at: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn memory(&self, len: usize, at: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let memory = &self.machine.memory;
        memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }
}

#[test]
fn the_region_for_files_is_the_device_s_window() {
    let server = Arc::new(Server::default());
    let base = (5 << 32) + (1 << 30);
    let window = Arc::new(Window::reserve(base, 6 * UNIT).unwrap());
    let mut machine = Machine::of(
        Arc::clone(&server),
        device(&server).with_window(Some(window)),
    );
    let mut region = |id: Option<u32>| {
        let transport = &mut machine.transport;
        if let Some(id) = id {
            write32(transport, reg::VIRTIO_MMIO_SHM_SEL, id);
        }
        [
            reg::VIRTIO_MMIO_SHM_LEN_LOW,
            reg::VIRTIO_MMIO_SHM_LEN_HIGH,
            reg::VIRTIO_MMIO_SHM_BASE_LOW,
            reg::VIRTIO_MMIO_SHM_BASE_HIGH,
        ]
        .map(|register| read32(transport, register))
    };
    let there = [6 << 21, 0, 1 << 30, 5];
    assert_eq!(region(Some(0)), there);
    for other in [1, 2, 0x100, 0x1_0000, u32::MAX] {
        assert_eq!(region(Some(other)), [u32::MAX; 4], "{other}");
    }
    write32(&mut machine.transport, reg::VIRTIO_MMIO_STATUS, 0);
    let mut low = |register| read32(&mut machine.transport, register);
    assert_eq!(low(reg::VIRTIO_MMIO_SHM_LEN_LOW), 6 << 21);
    write32(&mut machine.transport, reg::VIRTIO_MMIO_SHM_SEL, 0);
    assert_eq!(
        read32(&mut machine.transport, reg::VIRTIO_MMIO_SHM_BASE_HIGH),
        5
    );
}

#[test]
fn buffers_in_a_window_are_read_and_written() {
    for without_threads in [false, true] {
        let mut beside = beside(|server| {
            let mut device = device(server);
            if without_threads {
                device.pool = Arc::new(Pool::without_threads());
            }
            device
        });
        beside.file.write_all_at(b"cd", PAGE - 1).unwrap();
        let memory = beside.machine.memory.clone();
        memory.write_slice(b"ab", GuestAddress(0x1000)).unwrap();
        let request = [(0x1000, 2), (BASE + PAGE - 1, 2)];
        let reply = [(0x2000, 1), (BASE + 8, 2), (0x2001, 100)];
        assert_eq!(beside.exchange(&request, &reply), 4);
        assert_eq!(beside.memory(2, 0x2000), b"AD");
        assert_eq!(beside.in_file(2, 8), b"BC");
        // All of it there.
        assert_eq!(beside.exchange(&[(BASE + 8, 2)], &[(BASE + 64, 8)]), 2);
        assert_eq!(beside.in_file(2, 64), b"BC");
    }
}

#[test]
fn buffers_that_the_host_cut_off_are_a_fault_and_no_more() {
    let mut beside = beside(device);
    let memory = beside.machine.memory.clone();
    memory.write_slice(b"ab", GuestAddress(0x1000)).unwrap();
    let here = (0x1000, 2);
    for gone in [BASE + 2 * PAGE, BASE + 2 * PAGE - 1, BASE + UNIT - 2] {
        let answered = || beside.machine.server.answered.load(Ordering::SeqCst);
        let before = answered();
        // A request that is not all there is not executed.
        assert_eq!(beside.exchange(&[here, (gone, 2)], &[(0x2000, 64)]), 5);
        assert_eq!(beside.memory(5, 0x2000), b"fault");
        let answered = || beside.machine.server.answered.load(Ordering::SeqCst);
        assert_eq!(answered(), before);
        // A reply that has no room is one of another kind.
        memory.write_slice(&[0; 5], GuestAddress(0x2000)).unwrap();
        let reply = [(0x2000, 1), (gone, 1 + 1), (0x3000, 64)];
        beside.exchange(&[here], &reply);
    }
    let reply = [(0x2000, 8), (BASE + 2 * PAGE, 8)];
    memory
        .write_slice(b"long enough", GuestAddress(0x1000))
        .unwrap();
    assert_eq!(beside.exchange(&[(0x1000, 11)], &reply), 5);
    assert_eq!(beside.memory(5, 0x2000), b"fault");
    assert_eq!(beside.exchange(&[here], &[(BASE + 3 * PAGE, 8)]), 0);
    // And it lives on.
    assert_eq!(beside.machine.exchange(b"hello"), b"HELLO");
}

#[test]
fn what_is_in_no_window_and_no_memory_is_refused_as_before() {
    let mut beside = beside(device);
    for nowhere in [BASE - 2, BASE + UNIT - 1, BASE + UNIT, u64::MAX - 1] {
        assert_eq!(beside.exchange(&[(nowhere, 2)], &[(0x2000, 64)]), 0);
    }
    // Nothing of the rings is read from a window.
    let queue = &mut beside.machine.request;
    queue.describe(0, (BASE, 32, INDIRECT, 0));
    queue.publish(0);
    beside.machine.kick(1);
    assert_eq!(beside.machine.request.wait_used(), (0, 0));
    assert_eq!(beside.machine.exchange(b"hello"), b"HELLO");
}
