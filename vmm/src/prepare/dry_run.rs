//! `--dry-run`: what a run would be refused for, and what it would be.

use std::path::Path;

use guest_init::protocol::Text;
use regex::Regex;
use serde_json::json;

use super::shares::{self, Share};
use super::{Boot, Configuration, Error, serving};
use crate::machine::boot::command_line;
use crate::machine::limits;
use crate::outcome::line;
use crate::outcome::output_file::OutputFile;
use vmm_kernel::Discovery;

impl Configuration {
    /// Whether the machine can be made, as far as that needs no KVM.
    pub(super) fn check_machine(&mut self) -> Result<(), Error> {
        limits::check(
            &self.kernel,
            &self.initramfs,
            &self.cmdline,
            (self.cpus, self.devices()),
            (self.memory.bytes(), &shares::windows(&self.shares)),
        )?;
        let descriptors = serving::descriptors(self.cpus, &self.shares);
        if let Some(refused) = self.owners.enter()? {
            self.notes.tell(&line::of_error(&refused));
        }
        for (share, owners) in self.shares.iter().zip(&self.owners.shares) {
            let (memory, sandbox) = (self.memory.bytes(), &self.sandbox);
            share.serve(owners, memory, &descriptors, sandbox, &mut self.notes)?;
        }
        Ok(())
    }

    /// The configuration for `--dry-run`.
    #[must_use]
    pub(crate) fn json(&self) -> Vec<u8> {
        let discovery = self.kernel.discovery();
        let text = |path: Option<&Path>| path.map(Text::from);
        let directory = (self.modules.as_ref()).map(|modules| modules.modules().directory());
        let value = json!({
            "schema": crate::outcome::report::SCHEMA,
            "kernel": {
                "path": text(Some(&self.kernel_path)),
                "version": self.kernel.version,
                "discovery": match discovery {
                    Discovery::Acpi => "acpi",
                    Discovery::CommandLine => "command-line",
                },
            },
            "cmdline": command_line::compose(discovery, self.devices(), &self.cmdline),
            "boot": match self.boot {
                Boot::Command => "command",
                Boot::Unit => "unit",
                Boot::System => "system",
                Boot::Initramfs => "initramfs",
            },
            "cpus": self.cpus,
            "memory_bytes": self.memory.bytes(),
            "initramfs_bytes": self.initramfs.len(),
            "modules": self.packed_modules,
            "modules_directory": text(directory),
            "shares": self.shares.iter().map(Share::json).collect::<Vec<_>>(),
            "plan": self.plan,
            "grace_ms": self.grace.as_millis(),
            "fail_on": self.policy.fail_on.name(),
            "allow_splats": self.policy.allow.iter().map(Regex::as_str).collect::<Vec<_>>(),
            "console_log": text(self.console_log.as_deref()),
            "metrics": text(self.metrics.as_ref().map(OutputFile::path)),
            "report": text(self.report.as_ref().map(OutputFile::path)),
            "junit": text(self.junit.as_ref().map(OutputFile::path)),
            "gdb": self.gdb.as_ref().map(|gdb| gdb.address().to_string()),
            "sandbox": self.sandbox.holds(),
            "notes": self.notes.list(),
            "verbose": self.verbose,
            "timeout_ms": self.timeout.map(|limit| limit.as_millis()),
        });
        crate::outcome::report::json(&value)
    }
}
