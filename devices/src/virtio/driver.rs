//! The driver's side of a device, for tests: sets up queues over the
//! registers, makes requests available, looks at what was used.

use std::time::{Duration, Instant};

use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
};
use virtio_bindings::virtio_mmio as reg;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::mmio::MmioTransport;
use super::queue::QueueConfig;
use crate::bus::BusDevice;

pub(crate) const NEXT: u16 = VRING_DESC_F_NEXT as u16;
pub(crate) const WRITE: u16 = VRING_DESC_F_WRITE as u16;
pub(crate) const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

/// Longer than anything here takes on a busy machine, shorter than a person's
/// patience with a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Room for a request, and for a reply.
const BUFFER: u64 = 0x1000;

pub(crate) fn read32(transport: &mut MmioTransport, offset: u32) -> u32 {
    let mut data = [0xee; 4];
    transport.read(u64::from(offset), &mut data);
    let value = u32::from_le_bytes(data);
    // As if it were mapped, where it can be; the first two change at any time.
    if offset > reg::VIRTIO_MMIO_STATUS {
        assert_eq!(transport.page().load(offset), value, "register {offset:#x}");
    }
    value
}

pub(crate) fn write32(transport: &mut MmioTransport, offset: u32, value: u32) {
    transport.write(u64::from(offset), &value.to_le_bytes());
}

/// Takes a device from reset to FEATURES_OK, with these features.
pub(crate) fn negotiate(transport: &mut MmioTransport, features: u64) {
    for status in [0, 1, 3] {
        write32(transport, reg::VIRTIO_MMIO_STATUS, status);
    }
    for half in 0..2 {
        let bits = (features >> (32 * half)) & u64::from(u32::MAX);
        write32(transport, reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        write32(
            transport,
            reg::VIRTIO_MMIO_DRIVER_FEATURES,
            u32::try_from(bits).unwrap(),
        );
    }
    write32(transport, reg::VIRTIO_MMIO_STATUS, 0xb);
    assert_eq!(read32(transport, reg::VIRTIO_MMIO_STATUS), 0xb);
}

/// Sets DRIVER_OK.
pub(crate) fn go_live(transport: &mut MmioTransport) {
    write32(transport, reg::VIRTIO_MMIO_STATUS, 0xf);
}

/// A queue as the driver has it, with a request and a reply buffer for each
/// pair of descriptors.
pub(crate) struct DriverQueue {
    memory: GuestMemoryMmap,
    base: u64,
    pub(crate) size: u16,
    made: u16,
    seen: u16,
}

impl DriverQueue {
    /// A queue whose rings and buffers are in the memory from `base` on:
    /// `size` * 8 KiB and 64 KiB.
    pub(crate) fn new(memory: &GuestMemoryMmap, base: u64, size: u16) -> Self {
        memory
            .write_slice(&[0; 0x1_0000], GuestAddress(base))
            .unwrap();
        Self {
            memory: memory.clone(),
            base,
            size,
            made: 0,
            seen: 0,
        }
    }

    pub(crate) fn descriptors(&self) -> u64 {
        self.base
    }

    pub(crate) fn available(&self) -> u64 {
        self.base + 0x8000
    }

    pub(crate) fn used_ring(&self) -> u64 {
        self.base + 0xa000
    }

    /// Where the request buffer of the pair at `head` is; the reply's follows.
    pub(crate) fn buffer(&self, head: u16) -> u64 {
        self.base + 0x1_0000 + u64::from(head / 2) * 2 * BUFFER
    }

    /// What the registers would say.
    pub(crate) fn config(&self) -> QueueConfig {
        let mut config = QueueConfig::new(self.size);
        config.ready = true;
        config.descriptors = self.descriptors();
        config.available = self.available();
        config.used = self.used_ring();
        config
    }

    /// Tells the device of the queue, as its number `index`.
    pub(crate) fn set_up(&self, transport: &mut MmioTransport, index: u32) {
        write32(transport, reg::VIRTIO_MMIO_QUEUE_SEL, index);
        write32(transport, reg::VIRTIO_MMIO_QUEUE_NUM, u32::from(self.size));
        for (low, high, address) in [
            (
                reg::VIRTIO_MMIO_QUEUE_DESC_LOW,
                reg::VIRTIO_MMIO_QUEUE_DESC_HIGH,
                self.descriptors(),
            ),
            (
                reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
                reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
                self.available(),
            ),
            (
                reg::VIRTIO_MMIO_QUEUE_USED_LOW,
                reg::VIRTIO_MMIO_QUEUE_USED_HIGH,
                self.used_ring(),
            ),
        ] {
            write32(
                transport,
                low,
                u32::try_from(address & 0xffff_ffff).unwrap(),
            );
            write32(transport, high, u32::try_from(address >> 32).unwrap());
        }
        write32(transport, reg::VIRTIO_MMIO_QUEUE_READY, 1);
    }

    /// Writes descriptor `index`.
    pub(crate) fn describe(&self, index: u16, descriptor: (u64, u32, u16, u16)) {
        let at = GuestAddress(self.descriptors() + 16 * u64::from(index));
        self.describe_at(at, descriptor);
    }

    /// Writes a descriptor anywhere, as in an indirect table.
    pub(crate) fn describe_at(
        &self,
        at: GuestAddress,
        (addr, len, flags, next): (u64, u32, u16, u16),
    ) {
        self.memory
            .write_obj(Descriptor::new(addr, len, flags, next), at)
            .unwrap();
    }

    /// Makes the chain at `head` available.
    pub(crate) fn publish(&mut self, head: u16) {
        self.enter(head);
        self.set_available(self.made);
    }

    /// Puts the chain at `head` into the available ring, beyond its index.
    fn enter(&mut self, head: u16) {
        let slot = u64::from(self.made % self.size);
        self.memory
            .write_obj(head, GuestAddress(self.available() + 4 + 2 * slot))
            .unwrap();
        self.made = self.made.wrapping_add(1);
    }

    /// Sets the available index.
    pub(crate) fn set_available(&self, index: u16) {
        self.memory
            .store(
                index,
                GuestAddress(self.available() + 2),
                std::sync::atomic::Ordering::Release,
            )
            .unwrap();
    }

    /// Sets `used_event`: interrupt when this many were used, and one more.
    pub(crate) fn set_used_event(&self, index: u16) {
        let at = self.available() + 4 + 2 * u64::from(self.size);
        self.memory.write_obj(index, GuestAddress(at)).unwrap();
    }

    /// Makes a request available with room for `reply` bytes, and returns its
    /// head. Descriptors are taken in turn.
    pub(crate) fn submit(&mut self, request: &[u8], reply: u32) -> u16 {
        let head = self.place(request, reply);
        self.set_available(self.made);
        head
    }

    /// As [`submit`](Self::submit), for several that the device sees at once
    /// or not at all.
    pub(crate) fn submit_together(&mut self, requests: &[(&[u8], u32)]) {
        for (request, reply) in requests {
            self.place(request, *reply);
        }
        self.set_available(self.made);
    }

    fn place(&mut self, request: &[u8], reply: u32) -> u16 {
        let head = (self.made % (self.size / 2)) * 2;
        let buffer = self.buffer(head);
        self.memory
            .write_slice(request, GuestAddress(buffer))
            .unwrap();
        let len = u32::try_from(request.len()).unwrap();
        if reply > 0 {
            self.describe(head, (buffer, len, NEXT, head + 1));
            self.describe(head + 1, (buffer + BUFFER, reply, WRITE, 0));
        } else {
            self.describe(head, (buffer, len, 0, 0));
        }
        self.enter(head);
        head
    }

    /// The reply to the request at `head`.
    pub(crate) fn reply(&self, head: u16, len: usize) -> Vec<u8> {
        let mut reply = vec![0; len];
        self.memory
            .read_slice(&mut reply, GuestAddress(self.buffer(head) + BUFFER))
            .unwrap();
        reply
    }

    /// The next used element: the head and the length.
    pub(crate) fn used(&mut self) -> Option<(u16, u32)> {
        let index: u16 = self
            .memory
            .load(
                GuestAddress(self.used_ring() + 2),
                std::sync::atomic::Ordering::Acquire,
            )
            .unwrap();
        if index == self.seen {
            return None;
        }
        let slot = u64::from(self.seen % self.size);
        let at = GuestAddress(self.used_ring() + 4 + 8 * slot);
        let [head, len]: [u32; 2] = self.memory.read_obj(at).unwrap();
        self.seen = self.seen.wrapping_add(1);
        Some((u16::try_from(head).unwrap(), len))
    }

    /// Whether the device, without EVENT_IDX, wants no notification.
    pub(crate) fn is_unnotified(&self) -> bool {
        let flags: u16 = self
            .memory
            .read_obj(GuestAddress(self.used_ring()))
            .unwrap();
        flags & 1 != 0
    }

    /// Waits for the next used element.
    pub(crate) fn wait_used(&mut self) -> (u16, u32) {
        wait_for("a used element", || self.used())
    }
}

/// Asks until there is something.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "no {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
