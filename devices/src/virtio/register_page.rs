//! What a driver reads of a device's registers while it runs, as a page of memory:
//! mapped read-only where they are, a read is no exit from the guest.
//!
//! The page has InterruptStatus and all that follows, the configuration space among
//! it. QueueNotify is before them and not in the page: where nothing is mapped, a
//! hypervisor finds out sooner what a write is for. Nothing before InterruptStatus is
//! read but while a driver begins.

use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::virtio_mmio as reg;

/// Bytes of a page, as many as a device's window has.
const SIZE: usize = 0x1000;
/// A register's size in bytes.
const WORD: usize = size_of::<u32>();

/// The registers and the configuration space. Aligned so that it can be mapped
/// alone.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct RegisterPage([AtomicU32; SIZE / WORD]);

impl RegisterPage {
    /// The offset of the first register in it.
    pub const FIRST: u32 = reg::VIRTIO_MMIO_INTERRUPT_STATUS;

    /// A page of zeros.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self([const { AtomicU32::new(0) }; SIZE / WORD])
    }

    /// The register at `offset`, little-endian as the driver reads it; 0 where
    /// there is none.
    #[must_use]
    pub fn load(&self, offset: u32) -> u32 {
        (self.word(offset)).map_or(0, |word| u32::from_le(word.load(Ordering::Acquire)))
    }

    pub(crate) fn store(&self, offset: u32, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value.to_le(), Ordering::Release);
        }
    }

    pub(crate) fn set_bits(&self, offset: u32, bits: u32) {
        if let Some(word) = self.word(offset) {
            word.fetch_or(bits.to_le(), Ordering::AcqRel);
        }
    }

    pub(crate) fn clear_bits(&self, offset: u32, bits: u32) {
        if let Some(word) = self.word(offset) {
            word.fetch_and(!bits.to_le(), Ordering::AcqRel);
        }
    }

    fn word(&self, offset: u32) -> Option<&AtomicU32> {
        let offset = usize::try_from(offset.checked_sub(Self::FIRST)?).ok()?;
        offset
            .is_multiple_of(WORD)
            .then(|| self.0.get(offset / WORD))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_page_of_words() {
        let page = RegisterPage::new();
        assert_eq!(size_of_val(&page), SIZE);
        assert_eq!((&raw const page).addr() % SIZE, 0);
        page.store(0x60, 0b101);
        page.set_bits(0x60, 0b10);
        page.clear_bits(0x60, 0b1);
        assert_eq!(page.load(0x60), 0b110);
        // None of these is a register.
        for offset in [0x5c, 0x61, 0x1060, u32::MAX] {
            page.store(offset, 1);
            assert_eq!(page.load(offset), 0);
        }
    }
}
