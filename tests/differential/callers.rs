//! The calling thread as somebody else.

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::operation::{Caller, ROOT};

/// Whether permission bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    Override,
    Plain,
}

/// Does `act` as `caller`.
pub(crate) fn assume<T>(
    caller: &Caller,
    power: Power,
    act: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    if *caller == ROOT {
        return act();
    }
    let saved = capabilities(None).unwrap();
    let groups = rustix::process::getgroups().unwrap();
    let group = caller.group.map(Gid::from_raw);
    set_thread_groups(group.as_slice()).unwrap();
    set_thread_res_gid(None, Gid::from_raw(caller.gid), None).unwrap();
    set_thread_res_uid(None, Uid::from_raw(caller.uid), None).unwrap();
    if caller.uid != 0 {
        let keep = match power {
            Power::Override => CapabilitySet::DAC_OVERRIDE,
            Power::Plain => CapabilitySet::empty(),
        };
        let effective = saved.effective & keep;
        set_capabilities(None, CapabilitySets { effective, ..saved }).unwrap();
    }
    let outcome = act();
    set_capabilities(None, saved).unwrap();
    set_thread_res_uid(None, Uid::ROOT, None).unwrap();
    set_thread_res_gid(None, Gid::ROOT, None).unwrap();
    set_thread_groups(&groups).unwrap();
    set_capabilities(None, saved).unwrap();
    outcome
}
