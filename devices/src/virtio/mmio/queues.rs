//! The registers of the queues: which is selected, what the driver sets up in it,
//! and its doorbell.

use super::MmioTransport;
use crate::virtio::VirtioDevice;
use crate::virtio::queue::QueueConfig;

impl MmioTransport {
    pub(super) fn queue(&self) -> Option<&QueueConfig> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    /// Changes the selected queue, if there is one and it may be changed: its
    /// registers are out of bounds once it is ready (virtio 1.2, 4.2.2.2).
    pub(super) fn configure(&mut self, change: impl FnOnce(&mut QueueConfig)) {
        let index = usize::try_from(self.queue_select);
        if let Some(queue) = index.ok().and_then(|index| self.queues.get_mut(index))
            && self.status.configuring()
            && !queue.ready
        {
            change(queue);
        }
    }

    pub(super) fn write_ready(&mut self, value: u32) {
        if value == 1 {
            self.configure(|queue| queue.ready = true);
            return;
        }
        let index = usize::try_from(self.queue_select);
        if let Some(queue) = index.ok().and_then(|index| self.queues.get_mut(index))
            && value == 0
            && queue.ready
        {
            // "To stop using the queue the driver writes zero to QueueReady
            // and reads it back" (virtio 1.2, 4.2.2.2).
            queue.ready = false;
            if self.status.live()
                && let Ok(index) = u16::try_from(self.queue_select)
            {
                self.device.stop_queue(index);
            }
        }
    }

    /// Rings the doorbell for a driver whose write came here and not to the
    /// ioeventfd.
    pub(super) fn notify(&self, value: u32) {
        let index = usize::try_from(value);
        if let Some(kick) = index.ok().and_then(|index| self.kicks.get(index))
            && let Err(error) = kick.write(1)
        {
            log::error!("cannot notify queue {value}: {error}");
        }
    }
}

pub(super) fn unconfigured(device: &dyn VirtioDevice) -> Vec<QueueConfig> {
    let sizes = device.queue_sizes().iter();
    sizes.map(|size| QueueConfig::new(*size)).collect()
}
