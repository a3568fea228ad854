//! The comparison of the ways in which the guest's virtiofs driver hands the
//! arguments of a request to the device.
//!
//! `measure` runs in the lab: it starts guests with `vmm run`, has them read
//! and write through a share, and counts. What it found is [`results`], a JSON
//! file; [`markdown`], [`plot`] and [`letter`] show it.

pub mod exits;
pub mod guest;
pub mod letter;
pub mod markdown;
pub mod measure;
pub mod plan;
pub mod plot;
pub mod results;
pub mod stock;
mod table;
mod verify;
