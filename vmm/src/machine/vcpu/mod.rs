//! The guest's processors and their threads.

mod alarm;
mod parking;
mod processor;
mod registers;
mod roll_call;
mod setup;
mod threads;

pub(super) use alarm::Alarm;
pub(super) use parking::{DebugExit, Parking};
pub(super) use processor::{Vcpu, VcpuContext};
pub(super) use roll_call::RollCall;
pub(crate) use setup::Error as SetupError;
pub(crate) use threads::Error as ThreadError;
#[cfg(test)]
pub(super) use threads::KICK;
pub(super) use threads::{Kicker, VcpuLaunch, VcpuThreads};
