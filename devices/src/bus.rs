//! The bus: which device answers at which address.
//!
//! The machine builds one [`Bus`] for ports and one for memory-mapped
//! registers, fills it, and freezes it in an `Arc` before the first vCPU
//! runs. A lookup then needs no lock; each device has its own, and holds no
//! other while it is served, so the order of locks is one deep.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

/// A device that answers at a range of addresses.
pub trait BusDevice: Send {
    /// Fills `data` with what the guest reads `offset` bytes into the range.
    /// `data` lies wholly inside the range.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// Takes what the guest writes `offset` bytes into the range. `data` lies
    /// wholly inside the range.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// Why a device cannot be put on the bus.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BusError {
    /// The range is empty or runs past the end of the address space.
    #[error("range of {len:#x} bytes at {base:#x} is empty or wraps around")]
    Range {
        /// First address of the range.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The range has addresses that another device answers at.
    #[error("range of {len:#x} bytes at {base:#x} overlaps the device at {other:#x}")]
    Overlap {
        /// First address of the range.
        base: u64,
        /// Length in bytes.
        len: u64,
        /// First address of the device that is there already.
        other: u64,
    },
}

struct Slot {
    base: u64,
    /// Last address of the range, so that a range may end the address space.
    last: u64,
    device: Arc<Mutex<dyn BusDevice>>,
}

/// Devices by address: sorted ranges that do not overlap.
#[derive(Default)]
pub struct Bus {
    slots: Vec<Slot>,
}

impl Bus {
    /// A bus with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `device` at the `len` bytes from `base`.
    ///
    /// # Errors
    ///
    /// The range is empty, wraps around, or overlaps another one.
    pub fn insert(
        &mut self,
        base: u64,
        len: u64,
        device: Arc<Mutex<dyn BusDevice>>,
    ) -> Result<(), BusError> {
        let last = len
            .checked_sub(1)
            .and_then(|span| base.checked_add(span))
            .ok_or(BusError::Range { base, len })?;
        let at = self.slots.partition_point(|slot| slot.last < base);
        if let Some(next) = self.slots.get(at)
            && next.base <= last
        {
            let other = next.base;
            return Err(BusError::Overlap { base, len, other });
        }
        self.slots.insert(at, Slot { base, last, device });
        Ok(())
    }

    /// Reads `data.len()` bytes at `address`. Where no device answers, or the
    /// access runs past the end of one, every bit reads as one, as on a PC.
    /// Says whether a device answered.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let Some((slot, offset)) = self.find(address, data.len()) else {
            data.fill(0xff);
            return false;
        };
        // A device whose last access panicked still answers: its registers may
        // be wrong, but ending the vCPU as well helps nobody.
        let mut device = slot.device.lock().unwrap_or_else(PoisonError::into_inner);
        device.read(offset, data);
        true
    }

    /// Writes `data` at `address`; nobody hears a write where no device is.
    /// Says whether a device took it.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        let Some((slot, offset)) = self.find(address, data.len()) else {
            return false;
        };
        let mut device = slot.device.lock().unwrap_or_else(PoisonError::into_inner);
        device.write(offset, data);
        true
    }

    fn find(&self, address: u64, len: usize) -> Option<(&Slot, u64)> {
        let span = u64::try_from(len).ok()?.checked_sub(1)?;
        let last = address.checked_add(span)?;
        let at = self.slots.partition_point(|slot| slot.last < address);
        let slot = self.slots.get(at)?;
        let offset = address.checked_sub(slot.base)?;
        (last <= slot.last).then_some((slot, offset))
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                self.slots
                    .iter()
                    .map(|slot| format!("{:#x}..={:#x}", slot.base, slot.last)),
            )
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Reads give the offset, writes are kept.
    #[derive(Default)]
    struct Probe {
        written: Vec<(u64, Vec<u8>)>,
    }

    impl BusDevice for Probe {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }

        fn write(&mut self, offset: u64, data: &[u8]) {
            self.written.push((offset, data.to_vec()));
        }
    }

    fn probe() -> Arc<Mutex<Probe>> {
        Arc::default()
    }

    #[test]
    fn an_access_reaches_the_device_with_its_offset() {
        let (low, high) = (probe(), probe());
        let mut bus = Bus::new();
        bus.insert(0x2000, 0x10, high.clone()).unwrap();
        bus.insert(0x1000, 0x10, low.clone()).unwrap();

        let mut data = [0; 2];
        assert!(bus.read(0x2003, &mut data));
        assert_eq!(data, [3, 3]);
        assert!(bus.write(0x100f, &[7]));
        assert_eq!(low.lock().unwrap().written, [(0xf, vec![7])]);
        assert!(high.lock().unwrap().written.is_empty());
    }

    #[test]
    fn an_unmapped_read_gives_all_ones() {
        let mut bus = Bus::new();
        bus.insert(0x1000, 0x10, probe()).unwrap();

        let mut data = [0; 4];
        assert!(!bus.read(0xfff, &mut data[..1]));
        assert!(!bus.read(0x1010, &mut data));
        assert_eq!(data, [0xff; 4]);
        assert!(!bus.write(0x1010, &[0]));
    }

    #[test]
    fn an_access_past_the_end_of_a_device_is_unmapped() {
        let device = probe();
        let mut bus = Bus::new();
        bus.insert(0x1000, 0x10, device.clone()).unwrap();

        let mut data = [0; 4];
        assert!(!bus.read(0x100e, &mut data));
        assert_eq!(data, [0xff; 4]);
        assert!(!bus.write(0x100e, &[0; 4]));
        assert!(!bus.read(u64::MAX, &mut data));
        assert!(!bus.read(0x1000, &mut []));
        assert!(device.lock().unwrap().written.is_empty());
    }

    #[test]
    fn ranges_that_overlap_or_wrap_are_refused() {
        let mut bus = Bus::new();
        bus.insert(0x1000, 0x1000, probe()).unwrap();

        let overlap = |base, len| BusError::Overlap {
            base,
            len,
            other: 0x1000,
        };
        assert_eq!(bus.insert(0xfff, 2, probe()), Err(overlap(0xfff, 2)));
        assert_eq!(bus.insert(0x1fff, 1, probe()), Err(overlap(0x1fff, 1)));
        assert_eq!(bus.insert(0, 0x9000, probe()), Err(overlap(0, 0x9000)));
        assert_eq!(
            bus.insert(u64::MAX, 2, probe()),
            Err(BusError::Range {
                base: u64::MAX,
                len: 2
            })
        );
        assert_eq!(
            bus.insert(0, 0, probe()),
            Err(BusError::Range { base: 0, len: 0 })
        );
        bus.insert(u64::MAX, 1, probe()).unwrap();
        bus.insert(0x2000, 1, probe()).unwrap();
        bus.insert(0, 0x1000, probe()).unwrap();
        assert!(bus.read(u64::MAX, &mut [0]));
    }

    #[test]
    fn a_device_that_panicked_once_still_answers() {
        struct Panics(bool);
        impl BusDevice for Panics {
            fn read(&mut self, _: u64, data: &mut [u8]) {
                assert!(std::mem::replace(&mut self.0, true), "first access");
                data.fill(5);
            }
            fn write(&mut self, _: u64, _: &[u8]) {}
        }
        let mut bus = Bus::new();
        bus.insert(0, 1, Arc::new(Mutex::new(Panics(false))))
            .unwrap();
        let bus = Arc::new(bus);

        let first = Arc::clone(&bus);
        std::thread::spawn(move || first.read(0, &mut [0]))
            .join()
            .unwrap_err();
        let mut data = [0];
        assert!(bus.read(0, &mut data));
        assert_eq!(data, [5]);
    }
}
