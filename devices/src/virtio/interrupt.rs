//! A device's interrupt: what it is about, and the line it is raised on.
//!
//! Workers raise it, the transport lets the driver read and acknowledge it.
//! The line is an edge: each cause writes the eventfd once, after the status
//! bit is set. Linux reads the status, acknowledges it and only then looks at
//! the rings, so a cause between any two of these steps is seen, and devices
//! can share a line: every edge makes the guest ask all of them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The interrupt of one device.
#[derive(Debug)]
pub struct Interrupt {
    /// InterruptStatus (virtio 1.2, 4.2.2).
    status: AtomicU32,
    needs_reset: AtomicBool,
    irq: EventFd,
}

impl Interrupt {
    /// An interrupt with no cause pending, on a line of its own.
    ///
    /// # Errors
    ///
    /// The host has no eventfd to give.
    pub fn new() -> io::Result<Self> {
        EventFd::new(EFD_NONBLOCK).map(Self::on_line)
    }

    /// An interrupt with no cause pending, on a line that other devices may
    /// have as well. They need the same eventfd, not only the same pin: a pin
    /// behind two eventfds is raised and lowered by each on its own, and an
    /// edge that one of them raises while the other holds the pin up is lost.
    #[must_use]
    pub fn on_line(irq: EventFd) -> Self {
        Self {
            status: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            irq,
        }
    }

    /// The line: written once for each edge, to be registered as irqfd.
    #[must_use]
    pub fn irq(&self) -> &EventFd {
        &self.irq
    }

    /// Tells the driver that buffers were used (virtio 1.2, 2.3).
    pub fn signal_used(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// Tells the driver that only a reset can mend the device, which DEVICE_NEEDS_RESET
    /// in the status and a configuration change notification do together
    /// (virtio 1.2, 2.1.2).
    pub fn signal_needs_reset(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    /// Whether [`signal_needs_reset`](Self::signal_needs_reset) was called
    /// since the last [`clear`](Self::clear).
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// The causes that are pending (InterruptStatus).
    #[must_use]
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    /// The driver has seen the causes in `bits` (InterruptACK).
    pub fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::AcqRel);
    }

    /// Forgets every cause, as a reset does. An edge that is under way cannot
    /// be called back; a driver that finds no cause ignores it.
    pub fn clear(&self) {
        self.needs_reset.store(false, Ordering::Release);
        self.status.store(0, Ordering::Release);
    }

    fn raise(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::AcqRel);
        // The counter holds 2^64 - 2 edges that nobody consumed: it cannot
        // fill up, and there is no other way to fail.
        if let Err(error) = self.irq.write(1) {
            log::error!("cannot raise an interrupt: {error}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_one_edge_and_stays_until_acknowledged() {
        let interrupt = Interrupt::new().unwrap();
        interrupt.signal_used();
        interrupt.signal_used();
        interrupt.signal_needs_reset();
        assert_eq!(interrupt.irq().read().unwrap(), 3);
        assert_eq!(interrupt.status(), 0b11);

        interrupt.acknowledge(VIRTIO_MMIO_INT_VRING);
        assert_eq!(interrupt.status(), VIRTIO_MMIO_INT_CONFIG);
        interrupt.acknowledge(!0);
        assert_eq!(interrupt.status(), 0);
        assert!(interrupt.needs_reset());
    }

    #[test]
    fn a_cause_after_the_acknowledgement_is_a_new_edge() {
        let interrupt = Interrupt::new().unwrap();
        interrupt.signal_used();
        interrupt.irq().read().unwrap();
        interrupt.acknowledge(VIRTIO_MMIO_INT_VRING);
        interrupt.signal_used();
        assert_eq!(interrupt.irq().read().unwrap(), 1);
        assert_eq!(interrupt.status(), VIRTIO_MMIO_INT_VRING);
    }

    #[test]
    fn an_acknowledgement_on_a_shared_line_leaves_the_other_device_alone() {
        // Both devices raise; the guest's handler asks and acknowledges each.
        let (ours, other) = (Interrupt::new().unwrap(), Interrupt::new().unwrap());
        ours.signal_used();
        other.signal_used();
        ours.acknowledge(ours.status());
        assert_eq!(ours.status(), 0);
        assert_eq!(other.status(), VIRTIO_MMIO_INT_VRING);
    }

    #[test]
    fn clear_forgets_causes_and_the_need_for_a_reset() {
        let interrupt = Interrupt::new().unwrap();
        interrupt.signal_needs_reset();
        interrupt.clear();
        assert_eq!(interrupt.status(), 0);
        assert!(!interrupt.needs_reset());
    }
}
