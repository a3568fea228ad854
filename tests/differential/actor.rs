//! Those who do what a sequence says.

use crate::operation::{Caller, Op};
use crate::outcome::Outcome;

/// Where a node or an open file is in the list of all that there ever were.
pub(crate) type NodeId = usize;

pub(crate) trait Actor {
    /// What the table of known differences calls it.
    fn name(&self) -> &'static str;

    /// Does it; the slots in `op` are places in the lists. What is found and was
    /// not known is added to the end of its list.
    fn perform(&mut self, caller: &Caller, op: &Op) -> Outcome;
}
