//! What a thread keeps of what root may.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::error::Error;

/// What the main thread keeps: to write a report where only root may.
pub(crate) const OF_MAIN: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER);

/// Leaves the calling thread with those of `some` that it has.
pub(crate) fn keep(some: CapabilitySet) -> Result<(), Error> {
    let refused = |error: rustix::io::Errno| Error::Capabilities(error.into());
    let had = capabilities(None).map_err(refused)?;
    let left = CapabilitySets {
        effective: had.effective & some,
        permitted: had.permitted & some,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, left).map_err(refused)
}
