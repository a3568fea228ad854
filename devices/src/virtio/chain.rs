//! The walk of a request's chain of descriptors: from its head to the slices
//! of guest memory that it names.
//!
//! It is walked once, and every address and length in it is read once: what
//! the driver changes afterwards changes nothing. Descriptors are bounded by
//! the table they are in, and the walk ends at the first that makes no sense: a
//! chain of an honest but mistaken driver is refused as a whole and not served in
//! part.

use thiserror::Error;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, VolatileMemory, VolatileSlice};

use super::buffers::{Readable, Writable};

/// Longest chain served, in descriptors: what one vectored read or write of
/// the host takes (`IOV_MAX`), so that each chain is one system call.
pub(crate) const MAX_DESCRIPTORS: usize = 1024;

/// Why a chain is not served.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum ChainError {
    /// The first descriptor is not in the table, or an indirect table is bad:
    /// empty, not whole descriptors, nested.
    #[error("it has no descriptor")]
    Empty,
    /// More descriptors than [`MAX_DESCRIPTORS`].
    #[error("it has over {MAX_DESCRIPTORS} descriptors")]
    TooLong,
    /// It does not end: a loop, a descriptor outside the table, or over 4 GiB
    /// in sum.
    #[error("it breaks off")]
    Unfinished,
    /// A descriptor the device reads behind one it writes (virtio 1.2,
    /// 2.7.4.2).
    #[error("a readable descriptor follows a writable one")]
    Order,
    /// There is nothing else wrong with it, but some of what it names is no
    /// memory of the guest's.
    #[error("it names what is not in memory")]
    Outside,
}

/// Where the descriptors of a queue are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DescriptorTable {
    pub(crate) address: GuestAddress,
    /// How many there are.
    pub(crate) size: u16,
}

/// What the last chain that was walked names. It is used again for the next,
/// so that there is no allocation for each.
#[derive(Debug)]
pub(crate) struct Walk<'m> {
    memory: &'m GuestMemoryMmap,
    slices: Vec<VolatileSlice<'m>>,
    /// How many of these the device reads.
    readable: usize,
}

impl<'m> Walk<'m> {
    /// One of chains in `memory`.
    pub(crate) fn new(memory: &'m GuestMemoryMmap) -> Self {
        Self {
            memory,
            slices: Vec::new(),
            readable: 0,
        }
    }

    /// Walks the chain that begins at descriptor `head` of `table`.
    ///
    /// # Errors
    ///
    /// What is wrong with it. There are no buffers then.
    pub(crate) fn walk(&mut self, table: DescriptorTable, head: u16) -> Result<(), ChainError> {
        self.clear();
        let outcome = self.collect(table, head);
        if outcome.is_err() {
            self.clear();
        }
        outcome
    }

    fn clear(&mut self) {
        self.slices.clear();
        self.readable = 0;
    }

    fn collect(&mut self, table: DescriptorTable, head: u16) -> Result<(), ChainError> {
        let mut table = Table::direct(self.memory, table)?;
        let mut index = head;
        let mut count = 0;
        let mut bytes = 0_u32;
        let mut writable = false;
        let mut outside = false;
        loop {
            let broken = if count == 0 {
                ChainError::Empty
            } else {
                ChainError::Unfinished
            };
            let descriptor = table.get(index).ok_or(broken)?;
            if descriptor.refers_to_indirect_table() {
                table = (table.indirect(self.memory, descriptor)).ok_or(broken)?;
                index = 0;
                continue;
            }
            count += 1;
            if count > MAX_DESCRIPTORS {
                return Err(ChainError::TooLong);
            }
            if descriptor.is_write_only() {
                writable = true;
            } else if writable {
                return Err(ChainError::Order);
            }
            bytes = (bytes.checked_add(descriptor.len())).ok_or(ChainError::Unfinished)?;
            outside |= !self.add(descriptor);
            if !descriptor.has_next() {
                break;
            }
            index = descriptor.next();
        }
        if outside {
            return Err(ChainError::Outside);
        }
        Ok(())
    }

    /// Notes what `descriptor` names; says whether that is in memory.
    fn add(&mut self, descriptor: Descriptor) -> bool {
        // 32 bits, and usize has 64.
        let len = descriptor.len() as usize;
        if len == 0 {
            return true;
        }
        let Ok(slice) = self.memory.get_slice(descriptor.addr(), len) else {
            return false;
        };
        self.slices.push(slice);
        if !descriptor.is_write_only() {
            self.readable = self.slices.len();
        }
        true
    }

    /// What the device reads.
    pub(crate) fn readable(&self) -> Readable<'_> {
        Readable::new(self.slices.get(..self.readable).unwrap_or_default())
    }

    /// What it writes.
    pub(crate) fn writable(&self) -> Writable<'_> {
        Writable::new(self.slices.get(self.readable..).unwrap_or_default())
    }
}

/// A table of descriptors while a chain is walked.
struct Table<'m> {
    descriptors: VolatileSlice<'m>,
    /// How many more may be looked at before the chain must be a loop.
    left: usize,
    indirect: bool,
}

impl<'m> Table<'m> {
    fn direct(memory: &'m GuestMemoryMmap, table: DescriptorTable) -> Result<Self, ChainError> {
        let left = usize::from(table.size);
        let descriptors = (memory.get_slice(table.address, left * size_of::<Descriptor>()))
            .map_err(|_| ChainError::Empty)?;
        Ok(Self {
            descriptors,
            left,
            indirect: false,
        })
    }

    /// The table that `descriptor` of this one refers to (virtio 1.2, 2.7.5.3);
    /// `None` where it is no whole number of descriptors that are all in memory,
    /// or this one is such a table already.
    fn indirect(&self, memory: &'m GuestMemoryMmap, descriptor: Descriptor) -> Option<Self> {
        let len = descriptor.len() as usize;
        let left = len / size_of::<Descriptor>();
        if self.indirect || left == 0 || !len.is_multiple_of(size_of::<Descriptor>()) {
            return None;
        }
        // The index of the next descriptor has 16 bits.
        u16::try_from(left).ok()?;
        Some(Self {
            descriptors: memory.get_slice(descriptor.addr(), len).ok()?,
            left,
            indirect: true,
        })
    }

    /// Descriptor `index`, or `None` where there is none or as many were seen as
    /// there are.
    fn get(&mut self, index: u16) -> Option<Descriptor> {
        self.left = self.left.checked_sub(1)?;
        let at = usize::from(index) * size_of::<Descriptor>();
        Some(self.descriptors.get_ref::<Descriptor>(at).ok()?.load())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
