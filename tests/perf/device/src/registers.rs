//! The registers of virtio-mmio (virtio 1.2, 4.2.2), as the driver uses them.

use anyhow::{Result, ensure};
use devices::bus::BusDevice;
use devices::virtio::mmio::MmioTransport;
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio as reg;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// What Linux's virtiofs uses of what the device offers.
const FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

const FOUND: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
const AGREED: u32 = FOUND | VIRTIO_CONFIG_S_FEATURES_OK;
const LIVE: u32 = AGREED | VIRTIO_CONFIG_S_DRIVER_OK;

pub(crate) fn read32(transport: &mut MmioTransport, offset: u32) -> u32 {
    let mut data = [0; 4];
    transport.read(u64::from(offset), &mut data);
    u32::from_le_bytes(data)
}

pub(crate) fn write32(transport: &mut MmioTransport, offset: u32, value: u32) {
    transport.write(u64::from(offset), &value.to_le_bytes());
}

/// Takes a device from reset to `FEATURES_OK`. Says whether `VIRTIO_F_EVENT_IDX` was agreed
/// on: Linux does without as well.
pub(crate) fn negotiate(transport: &mut MmioTransport) -> Result<bool> {
    for status in [0, VIRTIO_CONFIG_S_ACKNOWLEDGE, FOUND] {
        write32(transport, reg::VIRTIO_MMIO_STATUS, status);
    }
    let mut agreed = 0;
    for half in 0..2 {
        write32(transport, reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
        let offered = u64::from(read32(transport, reg::VIRTIO_MMIO_DEVICE_FEATURES));
        agreed |= FEATURES & (offered << (32 * half));
        write32(transport, reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        #[allow(clippy::cast_possible_truncation)] // the half that is meant
        let bits = (agreed >> (32 * half)) as u32;
        write32(transport, reg::VIRTIO_MMIO_DRIVER_FEATURES, bits);
    }
    set_status(transport, AGREED)?;
    Ok(agreed & (1 << VIRTIO_RING_F_EVENT_IDX) != 0)
}

/// Sets `DRIVER_OK`.
pub(crate) fn go_live(transport: &mut MmioTransport) -> Result<()> {
    set_status(transport, LIVE)
}

fn set_status(transport: &mut MmioTransport, status: u32) -> Result<()> {
    write32(transport, reg::VIRTIO_MMIO_STATUS, status);
    let found = read32(transport, reg::VIRTIO_MMIO_STATUS);
    ensure!(found == status, "the device has status {found:#x}");
    Ok(())
}

/// What the interrupt's handler does.
pub(crate) fn acknowledge(transport: &mut MmioTransport) {
    let cause = read32(transport, reg::VIRTIO_MMIO_INTERRUPT_STATUS);
    write32(transport, reg::VIRTIO_MMIO_INTERRUPT_ACK, cause);
}
