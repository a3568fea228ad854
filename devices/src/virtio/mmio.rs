//! Virtio over MMIO: the register file (virtio 1.2, 4.2.2).
//!
//! The VMM puts a [`MmioTransport`] on the memory bus, registers its
//! [`kicks`](MmioTransport::kicks) as ioeventfds and its
//! [`irq`](MmioTransport::irq) as irqfd. Everything here runs on the vCPU that
//! touched a register, under the device's lock on the bus.

mod halves;
mod publishing;
mod queues;

use std::fmt;
use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_mmio as reg;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use self::halves::{half, high, low, set_high, set_low};
use self::queues::unconfigured;
use super::queue::QueueConfig;
use super::status::{NEEDS_RESET, Status, Step};
use super::{
    ActivateError, Activation, Complaints, Interrupt, LiveQueue, RegisterPage, SharedMemory,
    VirtioDevice, interrupt,
};
use crate::bus::BusDevice;
use crate::window::Windows;

/// Bytes of guest-physical addresses a device takes up.
pub const WINDOW: u64 = 0x1000;
/// Where a driver writes a queue's index, as 4 bytes, to notify it: the
/// address and the data match of the ioeventfds.
pub const NOTIFY_OFFSET: u64 = reg::VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// Where it acknowledges interrupts, and what it writes there for used buffers alone.
/// That may be taken from it without an exit, and need not arrive here.
pub const ACKNOWLEDGE_OFFSET: u64 = reg::VIRTIO_MMIO_INTERRUPT_ACK as u64;
/// See [`ACKNOWLEDGE_OFFSET`].
pub const ACKNOWLEDGE_USED: u32 = interrupt::USED;

/// "virt", little-endian.
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
/// The only version that is not legacy.
const VERSION: u32 = 2;
/// No vendor: nobody matches on it.
const VENDOR: u32 = 0;
/// Where the device configuration space begins.
const CONFIG: u64 = reg::VIRTIO_MMIO_CONFIG as u64;
/// The base and the length of a shared memory region that is not there (virtio
/// 1.3, 4.2.2). Linux takes any other length for a region, and a virtio-fs
/// driver with DAX then fails to bind.
const NO_REGION: SharedMemory = SharedMemory {
    base: u64::MAX,
    len: u64::MAX,
};

/// A device as the driver sees it: registers in front of a [`VirtioDevice`].
pub struct MmioTransport {
    memory: GuestMemoryMmap,
    device: Box<dyn VirtioDevice>,
    interrupt: Arc<Interrupt>,
    /// One for each queue. They outlive activations, as they stay registered.
    kicks: Vec<Arc<EventFd>>,
    queues: Vec<QueueConfig>,
    status: Status,
    accepted: u64,
    device_features_select: u32,
    driver_features_select: u32,
    queue_select: u32,
    shared_memory_select: u32,
    windows: Windows,
    complaints: Complaints,
}

impl MmioTransport {
    /// A transport for `device`, which gets to see `memory`.
    ///
    /// # Errors
    ///
    /// The host has no eventfd to give.
    pub fn new(memory: GuestMemoryMmap, device: Box<dyn VirtioDevice>) -> io::Result<Self> {
        Self::with_interrupt(memory, device, Interrupt::new()?)
    }

    /// The same with an interrupt whose line other devices may have as well,
    /// see [`Interrupt::on_line`].
    ///
    /// # Errors
    ///
    /// The host has no eventfd to give.
    pub fn with_interrupt(
        memory: GuestMemoryMmap,
        device: Box<dyn VirtioDevice>,
        interrupt: Interrupt,
    ) -> io::Result<Self> {
        // Blocking: a worker waits in a read of its kick.
        let kicks = (device.queue_sizes().iter())
            .map(|_| EventFd::new(0).map(Arc::new))
            .collect::<io::Result<_>>()?;
        let transport = Self {
            interrupt: Arc::new(interrupt),
            queues: unconfigured(device.as_ref()),
            kicks,
            memory,
            device,
            status: Status::default(),
            accepted: 0,
            device_features_select: 0,
            driver_features_select: 0,
            queue_select: 0,
            shared_memory_select: 0,
            windows: Windows::default(),
            complaints: Complaints::default(),
        };
        transport.publish_config();
        transport.publish();
        Ok(transport)
    }

    /// The same for a guest that has `windows` beside its memory, and may pass
    /// pages of them to the device.
    #[must_use]
    pub fn with_windows(mut self, windows: Windows) -> Self {
        self.windows = windows;
        self
    }

    /// The doorbells, by queue index. To be registered as ioeventfds: 4 bytes
    /// at [`NOTIFY_OFFSET`] of the window, data match = the index.
    #[must_use]
    pub fn kicks(&self) -> &[Arc<EventFd>] {
        &self.kicks
    }

    /// The interrupt line, written once for each edge: to be registered as
    /// irqfd. Devices can share a line.
    #[must_use]
    pub fn irq(&self) -> &EventFd {
        self.interrupt.irq()
    }

    /// What the driver reads, kept true by every write that arrives here and by the
    /// device's threads: to be mapped at the window, if anything is.
    #[must_use]
    pub fn page(&self) -> &Arc<RegisterPage> {
        self.interrupt.page()
    }

    /// Back to what the device was before a driver found it: the workers are
    /// joined, so this waits for a request that is being served.
    pub fn reset(&mut self) {
        self.device.reset();
        self.interrupt.clear();
        self.queues = unconfigured(self.device.as_ref());
        self.status.reset();
        self.accepted = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.queue_select = 0;
        self.shared_memory_select = 0;
        self.publish();
    }

    fn read_register(&self, offset: u32) -> u32 {
        match offset {
            reg::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            reg::VIRTIO_MMIO_VERSION => VERSION,
            reg::VIRTIO_MMIO_DEVICE_ID => self.device.id(),
            reg::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            reg::VIRTIO_MMIO_DEVICE_FEATURES => {
                half(self.device.features(), self.device_features_select)
            }
            reg::VIRTIO_MMIO_QUEUE_NUM_MAX => {
                (self.queue()).map_or(0, |queue| u32::from(queue.max_size()))
            }
            reg::VIRTIO_MMIO_QUEUE_READY => self.queue().map_or(0, |queue| u32::from(queue.ready)),
            reg::VIRTIO_MMIO_INTERRUPT_STATUS => self.interrupt.status(),
            reg::VIRTIO_MMIO_STATUS => self.status_register(),
            reg::VIRTIO_MMIO_SHM_LEN_LOW => low(self.shared_memory().len),
            reg::VIRTIO_MMIO_SHM_LEN_HIGH => high(self.shared_memory().len),
            reg::VIRTIO_MMIO_SHM_BASE_LOW => low(self.shared_memory().base),
            reg::VIRTIO_MMIO_SHM_BASE_HIGH => high(self.shared_memory().base),
            // The configuration space does not change, see `VirtioDevice::config`.
            reg::VIRTIO_MMIO_CONFIG_GENERATION => 0,
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u32, value: u32) {
        match offset {
            reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_features_select = value,
            reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_features_select = value,
            reg::VIRTIO_MMIO_DRIVER_FEATURES => self.accept_features(value),
            reg::VIRTIO_MMIO_QUEUE_SEL => self.queue_select = value,
            reg::VIRTIO_MMIO_SHM_SEL => self.shared_memory_select = value,
            reg::VIRTIO_MMIO_QUEUE_NUM => self.configure(|queue| queue.size = value),
            reg::VIRTIO_MMIO_QUEUE_READY => self.write_ready(value),
            reg::VIRTIO_MMIO_QUEUE_NOTIFY => self.notify(value),
            reg::VIRTIO_MMIO_INTERRUPT_ACK => self.interrupt.acknowledge(value),
            reg::VIRTIO_MMIO_STATUS => self.write_status(value),
            reg::VIRTIO_MMIO_QUEUE_DESC_LOW => {
                self.configure(|queue| set_low(&mut queue.descriptors, value));
            }
            reg::VIRTIO_MMIO_QUEUE_DESC_HIGH => {
                self.configure(|queue| set_high(&mut queue.descriptors, value));
            }
            reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW => {
                self.configure(|queue| set_low(&mut queue.available, value));
            }
            reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => {
                self.configure(|queue| set_high(&mut queue.available, value));
            }
            reg::VIRTIO_MMIO_QUEUE_USED_LOW => {
                self.configure(|queue| set_low(&mut queue.used, value));
            }
            reg::VIRTIO_MMIO_QUEUE_USED_HIGH => {
                self.configure(|queue| set_high(&mut queue.used, value));
            }
            _ => {}
        }
    }

    fn status_register(&self) -> u32 {
        let needs_reset = if self.interrupt.needs_reset() {
            NEEDS_RESET
        } else {
            0
        };
        self.status.bits() | needs_reset
    }

    fn write_status(&mut self, value: u32) {
        if value == 0 {
            self.reset();
            return;
        }
        let offered = self.device.features();
        match self.status.advance(value, offered, self.accepted) {
            Step::Taken | Step::Repeated => {}
            Step::Activate => {
                if let Err(error) = self.activate() {
                    let level = self.complaints.level();
                    log::log!(
                        level,
                        "virtio device {}: {}",
                        self.device.id(),
                        chain(&error)
                    );
                    self.interrupt.signal_needs_reset();
                }
            }
            Step::Refused => log::debug!(
                "virtio device {}: status {:#x} -> {value:#x} refused, features {:#x} of {offered:#x}",
                self.device.id(),
                self.status.bits(),
                self.accepted,
            ),
        }
    }

    /// Hands the queues that are ready to the device.
    fn activate(&mut self) -> Result<(), ActivateError> {
        let event_idx = self.accepted & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        let mut queues = Vec::with_capacity(self.queues.len());
        for ((index, config), kick) in (0..).zip(&self.queues).zip(&self.kicks) {
            if config.ready {
                let queue = config
                    .build(&self.memory, event_idx)
                    .map_err(|source| ActivateError::Queue { index, source })?;
                let kick = Arc::clone(kick);
                queues.push(LiveQueue { index, queue, kick });
            }
        }
        self.device.activate(Activation {
            memory: self.memory.clone(),
            windows: self.windows.clone(),
            features: self.accepted,
            interrupt: Arc::clone(&self.interrupt),
            queues,
        })
    }

    fn accept_features(&mut self, value: u32) {
        if self.status.negotiating() {
            match self.driver_features_select {
                0 => set_low(&mut self.accepted, value),
                1 => set_high(&mut self.accepted, value),
                // Bits from 64 on: there are none, and accepting one is no use.
                _ => {}
            }
        }
    }

    /// The selected shared memory region.
    fn shared_memory(&self) -> SharedMemory {
        let region = self.device.shared_memory(self.shared_memory_select);
        region.unwrap_or(NO_REGION)
    }

    /// Reads of any width and alignment; bytes past the end are zero.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let tail = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.device.config().get(offset..));
        for (to, from) in data.iter_mut().zip(tail.unwrap_or_default()) {
            *to = *from;
        }
    }
}

impl BusDevice for MmioTransport {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.read_config(offset, data);
            return;
        }
        // Registers are 32 bits wide and aligned, and accessed so (4.2.2.2);
        // what is not gives zero.
        let value = match u32::try_from(offset) {
            Ok(offset) if data.len() == 4 => self.read_register(offset),
            _ => 0,
        };
        data.fill(0);
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        // No device here has configuration that a driver may write.
        if offset < CONFIG
            && let (Ok(offset), Ok(bytes)) = (u32::try_from(offset), data.try_into())
        {
            self.write_register(offset, u32::from_le_bytes(bytes));
            self.publish();
        }
    }
}

impl fmt::Debug for MmioTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MmioTransport")
            .field("device", &self.device.id())
            .field("status", &self.status)
            .field("accepted", &self.accepted)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

/// The error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
