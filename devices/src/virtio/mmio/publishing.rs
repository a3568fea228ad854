//! What registers say becomes what the driver reads in the page that may be mapped
//! for it.

use virtio_bindings::virtio_mmio as reg;

use super::MmioTransport;

/// The registers of the page that have something to read, but for the two that the
/// device's threads change.
const READABLE: [u32; 5] = [
    reg::VIRTIO_MMIO_SHM_LEN_LOW,
    reg::VIRTIO_MMIO_SHM_LEN_HIGH,
    reg::VIRTIO_MMIO_SHM_BASE_LOW,
    reg::VIRTIO_MMIO_SHM_BASE_HIGH,
    reg::VIRTIO_MMIO_CONFIG_GENERATION,
];

impl MmioTransport {
    /// The registers become what the driver reads.
    pub(super) fn publish(&self) {
        for offset in READABLE {
            self.page().store(offset, self.read_register(offset));
        }
        self.interrupt.publish_status(self.status.bits());
    }

    /// The configuration space, which does not change.
    pub(super) fn publish_config(&self) {
        let words = self.device.config().chunks(4);
        for (offset, bytes) in (reg::VIRTIO_MMIO_CONFIG..).step_by(4).zip(words) {
            let mut word = [0; 4];
            for (to, from) in word.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.page().store(offset, u32::from_le_bytes(word));
        }
    }
}
