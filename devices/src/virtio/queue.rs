//! A queue while the driver sets it up, before it is live.
//!
//! The transport keeps one [`QueueConfig`] for each queue and builds the live
//! queue of it at DRIVER_OK, when everything the driver said is checked at
//! once: from there on the rings are known to lie in guest memory.

use thiserror::Error;
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryMmap};

/// What the driver said about a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueConfig {
    max_size: u16,
    /// QueueNum, in elements.
    pub(crate) size: u32,
    /// QueueReady.
    pub(crate) ready: bool,
    /// Where the descriptor table is.
    pub(crate) descriptors: u64,
    /// Where the driver area (available ring) is.
    pub(crate) available: u64,
    /// Where the device area (used ring) is.
    pub(crate) used: u64,
}

/// What is wrong with a queue.
#[derive(Debug, Error)]
pub enum QueueError {
    /// The number of elements is not a power of two from 1 to the maximum.
    #[error("a size of {size} is not a power of two up to {max}")]
    Size {
        /// What the driver said.
        size: u32,
        /// The largest size allowed.
        max: u16,
    },
    /// A ring is not where guest memory is.
    #[error("the {ring} at {address:#x} is not in guest memory")]
    Memory {
        /// Which ring.
        ring: &'static str,
        /// Where the driver said it is.
        address: u64,
        /// What is wrong with the address.
        source: GuestMemoryError,
    },
    /// The rings violate an alignment (virtio 1.2, 2.7) or begin at 0.
    #[error("the {ring} cannot be at {address:#x}")]
    Alignment {
        /// Which ring.
        ring: &'static str,
        /// Where the driver said it is.
        address: u64,
    },
    /// The device asks for a queue that cannot be.
    #[error("the queue cannot be built")]
    Build(#[source] virtio_queue::Error),
}

impl QueueConfig {
    /// A queue that is not set up, of at most `max_size` elements.
    #[must_use]
    pub(crate) fn new(max_size: u16) -> Self {
        Self {
            max_size,
            size: u32::from(max_size),
            ready: false,
            descriptors: 0,
            available: 0,
            used: 0,
        }
    }

    /// QueueNumMax, in elements.
    #[must_use]
    pub(crate) fn max_size(&self) -> u16 {
        self.max_size
    }

    /// The live queue, with its rings in `memory`. `event_idx` is whether
    /// `VIRTIO_F_EVENT_IDX` was agreed on.
    ///
    /// # Errors
    ///
    /// What the driver said makes no queue.
    pub(crate) fn build(
        &self,
        memory: &GuestMemoryMmap,
        event_idx: bool,
    ) -> Result<Queue, QueueError> {
        let size = u16::try_from(self.size)
            .ok()
            .filter(|size| size.is_power_of_two() && *size <= self.max_size)
            .ok_or(QueueError::Size {
                size: self.size,
                max: self.max_size,
            })?;
        // Sizes and alignments of the parts: virtio 1.2, 2.7. Each ring has to
        // be one piece of host memory. `Queue::is_valid` of virtio-queue only
        // looks at the address behind the end, and so lets a hole in the
        // middle pass and refuses a ring at the very end of memory.
        let elements = usize::from(size);
        check(
            memory,
            "descriptor table",
            self.descriptors,
            16 * elements,
            16,
        )?;
        check(
            memory,
            "available ring",
            self.available,
            6 + 2 * elements,
            2,
        )?;
        check(memory, "used ring", self.used, 6 + 8 * elements, 4)?;

        let mut queue = Queue::new(self.max_size).map_err(QueueError::Build)?;
        queue.try_set_size(size).map_err(QueueError::Build)?;
        queue
            .try_set_desc_table_address(GuestAddress(self.descriptors))
            .map_err(QueueError::Build)?;
        queue
            .try_set_avail_ring_address(GuestAddress(self.available))
            .map_err(QueueError::Build)?;
        queue
            .try_set_used_ring_address(GuestAddress(self.used))
            .map_err(QueueError::Build)?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        Ok(queue)
    }
}

fn check(
    memory: &GuestMemoryMmap,
    ring: &'static str,
    address: u64,
    len: usize,
    alignment: u64,
) -> Result<(), QueueError> {
    // virtio-queue takes address 0 for "not set up".
    if address == 0 || !address.is_multiple_of(alignment) {
        return Err(QueueError::Alignment { ring, address });
    }
    memory
        .get_slice(GuestAddress(address), len)
        .map(|_| ())
        .map_err(|source| QueueError::Memory {
            ring,
            address,
            source,
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOLE: u64 = 0x1_0000;

    /// Memory with a hole from 0x1_0000 to 0x2_0000.
    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[
            (GuestAddress(0), 0x1_0000),
            (GuestAddress(0x2_0000), 0x1_0000),
        ])
        .unwrap()
    }

    fn config() -> QueueConfig {
        QueueConfig {
            size: 16,
            ready: true,
            descriptors: 0x1000,
            available: 0x2000,
            used: 0x3000,
            ..QueueConfig::new(64)
        }
    }

    #[test]
    fn a_good_queue_is_built_as_the_driver_said() {
        let queue = config().build(&memory(), true).unwrap();
        assert_eq!(queue.size(), 16);
        assert_eq!(queue.desc_table(), 0x1000);
        assert_eq!(queue.avail_ring(), 0x2000);
        assert_eq!(queue.used_ring(), 0x3000);
        assert!(queue.event_idx_enabled() && queue.ready());
    }

    #[test]
    fn a_queue_at_the_very_end_of_memory_is_good() {
        let config = QueueConfig {
            used: HOLE - (6 + 8 * 16 + 2),
            ..config()
        };
        config.build(&memory(), false).unwrap();
    }

    #[test]
    fn sizes_that_are_no_power_of_two_or_too_large_are_refused() {
        for size in [0, 3, 128, 0x1_0000, 0x1_0010, u32::MAX] {
            let config = QueueConfig { size, ..config() };
            let error = config.build(&memory(), false).unwrap_err();
            assert!(matches!(error, QueueError::Size { .. }), "{error}");
        }
    }

    #[test]
    fn rings_outside_memory_are_refused() {
        for config in [
            QueueConfig {
                descriptors: HOLE - 16,
                ..config()
            },
            QueueConfig {
                available: HOLE,
                ..config()
            },
            // Each ring from its last piece of memory into the hole: the
            // event index of the available ring, its last element.
            QueueConfig {
                available: HOLE - (6 + 2 * 16) + 2,
                ..config()
            },
            QueueConfig {
                used: HOLE - (6 + 8 * 16) + 2,
                ..config()
            },
            QueueConfig {
                descriptors: HOLE - 16 * 15,
                ..config()
            },
            // And from the hole into memory.
            QueueConfig {
                available: 0x2_0000 - 8,
                ..config()
            },
            QueueConfig {
                used: u64::MAX - 3,
                ..config()
            },
        ] {
            let error = config.build(&memory(), false).unwrap_err();
            assert!(matches!(error, QueueError::Memory { .. }), "{error}");
        }
    }

    #[test]
    fn rings_that_are_not_aligned_or_at_zero_are_refused() {
        for config in [
            QueueConfig {
                descriptors: 0x1008,
                ..config()
            },
            QueueConfig {
                available: 0x2001,
                ..config()
            },
            QueueConfig {
                used: 0x3002,
                ..config()
            },
            QueueConfig {
                available: 0,
                ..config()
            },
        ] {
            let error = config.build(&memory(), false).unwrap_err();
            assert!(matches!(error, QueueError::Alignment { .. }), "{error}");
        }
    }
}
