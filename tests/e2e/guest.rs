//! A guest that is asked one thing after the other.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use anyhow::Result;
use tests::fixtures::{Fixtures, PRELUDE};
use tests::kernels::Kernel;

use crate::rebind::FIND_DEVICE;
use crate::vm::{Running, Vm};

/// It is stretched once more where it is slow: a test asks many things.
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest that does what it is told, one command after the other.
pub(crate) struct Guest {
    running: Running,
    input: ChildStdin,
}

impl Guest {
    pub(crate) fn start(vm: Vm, share: &Path, options: &str) -> Result<Self> {
        Self::after("", vm, share, options)
    }

    /// One that has programs of the host, and `find_device`.
    pub(crate) fn with_tools(
        fixtures: &Fixtures,
        kernel: Kernel,
        share: &Path,
        options: &str,
    ) -> Result<Self> {
        let vm = Vm::booting(fixtures, kernel)?;
        let vm = vm.share(&fixtures.tools, "tag=tools,ro,cache=always");
        let first = format!("{PRELUDE}\nfind_device() {{\n{FIND_DEVICE}\n}}");
        Self::after(&first, vm, share, options)
    }

    fn after(first: &str, vm: Vm, share: &Path, options: &str) -> Result<Self> {
        let script = format!(
            "{first}\ncd /mnt/t; while read -r line; do eval \"$line\" 2>&1; echo '=='; done"
        );
        let mut running = vm
            .share(share, &format!("tag=t,{options}"))
            .patience(PATIENCE)
            .script(&script)
            .start(Stdio::piped())?;
        let input = running.stdin()?;
        Ok(Self { running, input })
    }

    /// What a command says, its lines joined by spaces.
    pub(crate) fn ask(&mut self, command: &str) -> Result<String> {
        self.begin(command)?;
        self.answer()
    }

    /// What the command that was begun says.
    pub(crate) fn answer(&mut self) -> Result<String> {
        let mut said = Vec::new();
        loop {
            let line = self.running.read_line()?;
            // The last line may have no end, as that of a file that is cut off.
            let Some(last) = line.strip_suffix("==") else {
                said.push(line);
                continue;
            };
            if !last.is_empty() {
                said.push(last.to_owned());
            }
            return Ok(said.join(" "));
        }
    }

    /// Has it do something, and does not wait.
    pub(crate) fn begin(&mut self, command: &str) -> Result<()> {
        Ok(writeln!(self.input, "{command}")?)
    }

    /// Ends its machine as a loss of power would, and `vmm` with it.
    pub(crate) fn kill(self) {
        drop(self.running);
    }

    pub(crate) fn finish(self) -> Result<()> {
        drop(self.input);
        self.running.finish()?.expect_success().map(drop)
    }
}
