//! Measurements of the microVM and of the guest's driver, made in the lab.

pub mod compare;
