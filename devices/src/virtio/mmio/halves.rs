//! Halves of values of 64 bits: a register has 32.

/// Half number `select` of the 64 feature bits; there are no more.
pub(super) fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => low(features),
        1 => high(features),
        _ => 0,
    }
}

#[allow(clippy::cast_possible_truncation)] // The low half is what is asked for.
pub(super) fn low(value: u64) -> u32 {
    value as u32
}

pub(super) fn high(value: u64) -> u32 {
    low(value >> 32)
}

pub(super) fn set_low(value: &mut u64, bits: u32) {
    *value = *value & !u64::from(u32::MAX) | u64::from(bits);
}

pub(super) fn set_high(value: &mut u64, bits: u32) {
    *value = *value & u64::from(u32::MAX) | u64::from(bits) << 32;
}
