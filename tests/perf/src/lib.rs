//! Measurements: of the guest's driver, in the lab, and of the device, by itself.

pub mod compare;
pub mod regression;
