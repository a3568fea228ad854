//! A `vmm` to which the host refuses system calls, as the profiles of containers do.

use std::process::{Child, Command};
use std::thread;

use anyhow::{Context, Result, anyhow};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use super::Vm;

impl Vm {
    /// Has the host answer each of `calls` by `action`.
    pub(crate) fn refused(mut self, calls: &[i64], action: &SeccompAction) -> Result<Self> {
        let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
        let otherwise = SeccompAction::Allow;
        let filter = SeccompFilter::new(rules, otherwise, action.clone(), TargetArch::x86_64)?;
        self.profile = Some(filter.try_into()?);
        Ok(self)
    }
}

/// Starts `command`. A filter is of a thread, and of what that starts.
pub(super) fn spawn(command: &mut Command, profile: Option<&BpfProgram>) -> Result<Child> {
    let Some(profile) = profile else {
        return command.spawn().context("cannot run vmm");
    };
    let confined = || {
        seccompiler::apply_filter(profile).context("cannot filter system calls")?;
        command.spawn().context("cannot run vmm")
    };
    let outcome = thread::scope(|scope| scope.spawn(confined).join());
    outcome.map_err(|_| anyhow!("the thread that starts vmm panicked"))?
}
