//! A virtqueue as Linux's driver keeps it (virtio 1.2, 2.7): every request is one
//! descriptor with an indirect table.

use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, ensure};
use devices::virtio::mmio::MmioTransport;
use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY,
};
use virtio_bindings::virtio_mmio as reg;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::registers::write32;

/// Elements of a queue.
pub(crate) const SIZE: u16 = 1024;
/// Bytes of guest memory that the three rings take.
pub(crate) const SPACE: u64 = 0x1_0000;

const DESCRIPTOR: u64 = 16;
const AVAILABLE: u64 = 0x8000;
const USED: u64 = 0xa000;

/// A piece of guest memory that a request reads or writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) len: u32,
    /// The device writes it.
    pub(crate) writable: bool,
}

/// One queue, from the driver's side.
#[derive(Debug)]
pub(crate) struct Ring {
    memory: GuestMemoryMmap,
    base: u64,
    /// Whether it was agreed on.
    event_idx: bool,
    made: u16,
    /// What was made when the device was last notified.
    told: u16,
    seen: u16,
}

impl Ring {
    /// Rings at `base`, of which the device is told as its queue `index`.
    pub(crate) fn new(
        memory: &GuestMemoryMmap,
        base: u64,
        transport: &mut MmioTransport,
        index: u32,
        event_idx: bool,
    ) -> Self {
        write32(transport, reg::VIRTIO_MMIO_QUEUE_SEL, index);
        write32(transport, reg::VIRTIO_MMIO_QUEUE_NUM, u32::from(SIZE));
        for (low, high, address) in [
            (
                reg::VIRTIO_MMIO_QUEUE_DESC_LOW,
                reg::VIRTIO_MMIO_QUEUE_DESC_HIGH,
                base,
            ),
            (
                reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW,
                reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
                base + AVAILABLE,
            ),
            (
                reg::VIRTIO_MMIO_QUEUE_USED_LOW,
                reg::VIRTIO_MMIO_QUEUE_USED_HIGH,
                base + USED,
            ),
        ] {
            #[allow(clippy::cast_possible_truncation)] // the half that is meant
            write32(transport, low, address as u32);
            write32(transport, high, (address >> 32) as u32);
        }
        write32(transport, reg::VIRTIO_MMIO_QUEUE_READY, 1);
        Self {
            memory: memory.clone(),
            base,
            event_idx,
            made: 0,
            told: 0,
            seen: 0,
        }
    }

    /// Puts a request of `segments` into descriptor `slot`, with its table at
    /// `table`. The device does not see it before [`publish`](Self::publish).
    pub(crate) fn add(&mut self, slot: u16, table: u64, segments: &[Segment]) -> Result<()> {
        let mut left = segments.len();
        for (number, segment) in (0..).zip(segments) {
            left -= 1;
            let mut flags = 0;
            if segment.writable {
                flags |= VRING_DESC_F_WRITE;
            }
            if left > 0 {
                flags |= VRING_DESC_F_NEXT;
            }
            let at = table + DESCRIPTOR * u64::from(number);
            self.describe(at, segment.address, segment.len, flags, number + 1)?;
        }
        let len = u32::try_from(segments.len())? * 16;
        let at = self.base + DESCRIPTOR * u64::from(slot);
        self.describe(at, table, len, VRING_DESC_F_INDIRECT, 0)?;
        let entry = self.base + AVAILABLE + 4 + 2 * u64::from(self.made % SIZE);
        self.memory.write_obj(slot, GuestAddress(entry))?;
        self.made = self.made.wrapping_add(1);
        Ok(())
    }

    fn describe(&self, at: u64, address: u64, len: u32, flags: u32, next: u16) -> Result<()> {
        let flags = u16::try_from(flags)?;
        self.memory.write_obj(address, GuestAddress(at))?;
        self.memory.write_obj(len, GuestAddress(at + 8))?;
        self.memory.write_obj(flags, GuestAddress(at + 12))?;
        self.memory.write_obj(next, GuestAddress(at + 14))?;
        Ok(())
    }

    /// Makes what was added available, and says whether the device wants to be
    /// notified (virtio 1.2, 2.7.10: `avail_event`, or a flag).
    pub(crate) fn publish(&mut self) -> Result<bool> {
        let index = GuestAddress(self.base + AVAILABLE + 2);
        self.memory.store(self.made, index, Ordering::Release)?;
        fence(Ordering::SeqCst);
        if !self.event_idx {
            let flags = GuestAddress(self.base + USED);
            let flags: u16 = self.memory.load(flags, Ordering::Acquire)?;
            return Ok(u32::from(flags) & VRING_USED_F_NO_NOTIFY == 0);
        }
        let event = self.base + USED + 4 + 8 * u64::from(SIZE);
        let event: u16 = self.memory.load(GuestAddress(event), Ordering::Acquire)?;
        let passed = self.made.wrapping_sub(event).wrapping_sub(1);
        let wanted = passed < self.made.wrapping_sub(self.told);
        self.told = self.made;
        Ok(wanted)
    }

    /// Whether the device has used all that was made available.
    pub(crate) fn is_idle(&self) -> Result<bool> {
        Ok(self.used_index()? == self.made)
    }

    fn used_index(&self) -> Result<u16> {
        let index = GuestAddress(self.base + USED + 2);
        Ok(self.memory.load(index, Ordering::Acquire)?)
    }

    /// The next used element: its slot, and how many bytes were written.
    pub(crate) fn take(&mut self) -> Result<(u16, u32)> {
        ensure!(self.used_index()? != self.seen, "nothing was used");
        let at = self.base + USED + 4 + 8 * u64::from(self.seen % SIZE);
        let slot: u32 = self.memory.read_obj(GuestAddress(at))?;
        let len = self.memory.read_obj(GuestAddress(at + 4))?;
        self.seen = self.seen.wrapping_add(1);
        let slot = u16::try_from(slot).context("the device used a slot there is not")?;
        Ok((slot, len))
    }

    /// Asks for an interrupt at the next used element (2.7.7: `used_event`).
    pub(crate) fn enable_interrupt(&self) -> Result<()> {
        let event = self.base + AVAILABLE + 4 + 2 * u64::from(SIZE);
        (self.memory).store(self.seen, GuestAddress(event), Ordering::Release)?;
        fence(Ordering::SeqCst);
        Ok(())
    }
}
