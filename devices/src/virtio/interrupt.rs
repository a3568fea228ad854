//! A device's interrupt: what it is about, and the line it is raised on.
//!
//! Workers raise it, the transport lets the driver read and acknowledge it.
//! The line is an edge: each cause writes the eventfd once, after the status
//! bit is set. Linux reads the status, acknowledges it and only then looks at
//! the rings, so a cause between any two of these steps is seen, and devices
//! can share a line: every edge makes the guest ask all of them.
//!
//! InterruptStatus is a word of the [`RegisterPage`], and of what a driver does with
//! it only the acknowledgement is known here. That of [`USED`] alone need not come
//! either: the VMM may take it from the guest without an exit, and the bit stays.
//! Linux then looks at rings in which there is nothing new, where the line is shared.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_STATUS,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::register_page::RegisterPage;
use super::status::NEEDS_RESET;

/// The cause that is a used buffer, as a bit of InterruptStatus (virtio 1.2, 4.2.2).
pub(super) const USED: u32 = VIRTIO_MMIO_INT_VRING;

/// The interrupt of one device.
#[derive(Debug)]
pub struct Interrupt {
    /// With InterruptStatus (virtio 1.2, 4.2.2).
    page: Arc<RegisterPage>,
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
            page: Arc::new(RegisterPage::new()),
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
        self.raise(USED);
    }

    /// Tells the driver that only a reset can mend the device, which DEVICE_NEEDS_RESET
    /// in the status and a configuration change notification do together
    /// (virtio 1.2, 2.1.2).
    pub fn signal_needs_reset(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.page.set_bits(VIRTIO_MMIO_STATUS, NEEDS_RESET);
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
        self.page.load(VIRTIO_MMIO_INTERRUPT_STATUS)
    }

    /// The driver has seen the causes in `bits` (InterruptACK).
    pub fn acknowledge(&self, bits: u32) {
        self.page.clear_bits(VIRTIO_MMIO_INTERRUPT_STATUS, bits);
    }

    /// Forgets every cause, as a reset does. An edge that is under way cannot
    /// be called back; a driver that finds no cause ignores it.
    pub fn clear(&self) {
        self.needs_reset.store(false, Ordering::Release);
        self.page.store(VIRTIO_MMIO_INTERRUPT_STATUS, 0);
    }

    /// What the driver reads.
    #[must_use]
    pub fn page(&self) -> &Arc<RegisterPage> {
        &self.page
    }

    /// The status of the device without DEVICE_NEEDS_RESET, which a worker may set at
    /// any time, becomes what the driver reads.
    pub(super) fn publish_status(&self, bits: u32) {
        self.page.store(VIRTIO_MMIO_STATUS, bits);
        if self.needs_reset() {
            self.page.set_bits(VIRTIO_MMIO_STATUS, NEEDS_RESET);
        }
    }

    fn raise(&self, bit: u32) {
        self.page.set_bits(VIRTIO_MMIO_INTERRUPT_STATUS, bit);
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
