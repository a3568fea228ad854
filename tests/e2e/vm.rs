//! One run of `vmm run`: its arguments on the way in, everything it left
//! behind on the way out.

mod profile;
mod user;

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use seccompiler::BpfProgram;
use serde_json::Value;
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;
use tests::native::inject::{self, Injection};

pub(crate) use user::ORDINARY;

/// How long a guest may take on a machine with hardware virtualization, before
/// the test calls it a hang.
const PATIENCE: Duration = Duration::from_secs(8);

/// What `vmm` says where a system call is on no list.
pub(crate) const REFUSED: &str = "the sandbox refused";

/// A time limit for hardware virtualization, as it is where we run.
pub(crate) fn stretched(limit: Duration) -> Duration {
    let slowness = std::env::var("E2E_SLOWNESS")
        .ok()
        .and_then(|text| text.parse().ok());
    limit * slowness.unwrap_or(1)
}

/// A `vmm run` being put together.
pub(crate) struct Vm {
    command: Command,
    scratch: TempDir,
    arguments: Vec<OsString>,
    argv: Vec<OsString>,
    patience: Duration,
    stdout: Stdio,
    /// What the host refuses to `vmm`.
    profile: Option<BpfProgram>,
}

impl Vm {
    /// Boots the kernel with our series.
    pub(crate) fn patched(fixtures: &Fixtures) -> Result<Self> {
        Self::booting(fixtures, Kernel::PATCHED)
    }

    /// Boots `kernel`, with the modules that it needs for a share.
    pub(crate) fn booting(fixtures: &Fixtures, kernel: Kernel) -> Result<Self> {
        let directory = fixtures.kernel(kernel)?;
        let vm = Self::new(fixtures, &directory.join("bzImage"))?;
        Ok(match kernel {
            Kernel::Built(..) => vm,
            Kernel::Debian(_) => vm.option("--modules", directory.join("modules")),
        })
    }

    /// Boots the file `kernel`.
    pub(crate) fn new(fixtures: &Fixtures, kernel: &Path) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let mut command = Command::new(&fixtures.vmm);
        command.env("VMM_BUSYBOX", &fixtures.busybox);
        let vm = Self {
            command,
            arguments: Vec::new(),
            argv: Vec::new(),
            patience: stretched(PATIENCE),
            stdout: Stdio::piped(),
            profile: None,
            scratch,
        };
        let file = |name: &str| vm.scratch.path().join(name);
        let (report, console, metrics) = (file("report"), file("console"), file("metrics"));
        Ok(vm
            .option("--kernel", kernel)
            .option("--report", report)
            .option("--console-log", console)
            .option("--metrics", metrics)
            // Warnings belong to what is checked, whatever the kernel's own
            // level for its console is.
            .option("--cmdline", "ignore_loglevel"))
    }

    pub(crate) fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.arguments.push(name.into());
        self.arguments.push(value.as_ref().to_owned());
        self
    }

    /// Sets a variable of `vmm`'s own environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// An option without a value.
    pub(crate) fn flag(mut self, name: &str) -> Self {
        self.arguments.push(name.into());
        self
    }

    /// Lets `vmm` have at most `count` descriptors.
    pub(crate) fn limit_files(self, count: u32) -> Self {
        self.limit("-n", count)
    }

    /// Lets `vmm` write no file beyond `blocks`, which are of 512 bytes or, in
    /// some shells, of 1024.
    pub(crate) fn limit_file_size(self, blocks: u32) -> Self {
        self.limit("-f", blocks)
    }

    fn limit(self, option: &str, value: u32) -> Self {
        self.after(&mut Command::new("sh"), &format!("ulimit {option} {value}"))
    }

    /// Mounts a tmpfs of `size` at `directory`, which only `vmm` sees.
    pub(crate) fn tmpfs(self, size: &str, directory: &Path) -> Self {
        let mut shell = Command::new("unshare");
        // Who may not mount may in a namespace of his own.
        let root = rustix::process::geteuid().is_root();
        shell.args([if root { "-m" } else { "-rm" }, "sh"]);
        let at = directory.display();
        let mount = format!("mount -t tmpfs -o size={size} none '{at}'");
        self.after(&mut shell, &mount)
    }

    /// Has `shell` run a command before `vmm`.
    pub(crate) fn after(mut self, shell: &mut Command, command: &str) -> Self {
        shell.arg("-ec");
        shell.arg(format!("{command}; exec \"$0\" \"$@\""));
        shell.arg(self.command.get_program());
        shell.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        self.command = std::mem::replace(shell, Command::new("sh"));
        self
    }

    /// Writes the console to `log` in place of the file that the test reads.
    pub(crate) fn console_log(mut self, log: &Path) -> Self {
        let option = (self.arguments.iter()).position(|argument| argument == "--console-log");
        if let Some(value) = option.and_then(|option| self.arguments.get_mut(option + 1)) {
            *value = log.into();
        }
        self
    }

    /// Sends the command's standard output to `file`.
    pub(crate) fn stdout(mut self, file: impl Into<Stdio>) -> Self {
        self.stdout = file.into();
        self
    }

    /// Shares `directory`, with further options as `--share` takes them.
    pub(crate) fn share(self, directory: &Path, options: &str) -> Self {
        let mut value = directory.as_os_str().to_owned();
        if !options.is_empty() {
            value.push(",");
            value.push(options);
        }
        self.option("--share", value)
    }

    /// The command to run in the guest.
    pub(crate) fn command<S: AsRef<OsStr>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.argv = argv
            .into_iter()
            .map(|argument| argument.as_ref().to_owned())
            .collect();
        self
    }

    /// A shell script to run in the guest.
    pub(crate) fn script(self, script: &str) -> Self {
        self.command(["sh", "-c", script])
    }

    /// Lets the run take longer than usual, on hardware.
    pub(crate) fn patience(mut self, limit: Duration) -> Self {
        self.patience = stretched(limit);
        self
    }

    /// Runs to the end with nothing on standard input.
    pub(crate) fn run(self) -> Result<Run> {
        self.start(Stdio::null())?.finish()
    }

    /// Runs to the end with `input` on standard input.
    pub(crate) fn run_with_input(self, input: Vec<u8>) -> Result<Run> {
        let mut running = self.start(Stdio::piped())?;
        let mut stdin = running.stdin()?;
        // A command may end before its input does.
        thread::spawn(move || stdin.write_all(&input));
        running.finish()
    }

    /// Starts the run with system calls that fail or wait.
    pub(crate) fn start_under(self, injection: Injection) -> Result<(Running, inject::Running)> {
        injection.around(std::io::stderr(), || self.start(Stdio::piped()))
    }

    /// Starts the run.
    pub(crate) fn start(mut self, stdin: Stdio) -> Result<Running> {
        self.command.arg("run").args(&self.arguments);
        if !self.argv.is_empty() {
            self.command.arg("--").args(&self.argv);
        }
        self.command
            .stdin(stdin)
            .stdout(self.stdout)
            .stderr(Stdio::piped());
        let mut child = profile::spawn(&mut self.command, self.profile.as_ref())?;
        let stdout = child.stdout.take();
        let stderr = child.stderr.take().context("no standard error")?;
        Ok(Running {
            scratch: self.scratch,
            deadline: Instant::now() + self.patience,
            stdout,
            stderr: read_all(stderr),
            child,
        })
    }
}

/// A `vmm` that runs. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    scratch: TempDir,
    deadline: Instant,
    stdout: Option<std::process::ChildStdout>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Running {
    pub(crate) fn stdin(&mut self) -> Result<std::process::ChildStdin> {
        self.child.stdin.take().context("no standard input")
    }

    /// The process id of `vmm`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The command's standard output, to be read by the test itself.
    pub(crate) fn take_stdout(&mut self) -> Result<std::process::ChildStdout> {
        self.stdout.take().context("the output is taken already")
    }

    /// Reads one line of the command's output.
    pub(crate) fn read_line(&mut self) -> Result<String> {
        let stdout = self
            .stdout
            .as_mut()
            .context("the output is taken already")?;
        let mut line = Vec::new();
        let mut byte = [0];
        while stdout.read(&mut byte)? == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        if byte != *b"\n" {
            bail!("the output ended with {:?}", String::from_utf8_lossy(&line));
        }
        Ok(String::from_utf8(line)?)
    }

    /// Waits for the end. A `vmm` that does not come to it is a failure.
    pub(crate) fn finish(mut self) -> Result<Run> {
        let stdout = self.stdout.take().map(read_all);
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > self.deadline {
                let console = self.file("console");
                bail!("vmm hangs; the end of its console:\n{}", tail(&console));
            }
            thread::sleep(Duration::from_millis(20));
        };
        let join = |reader: JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
        let stderr = std::mem::replace(&mut self.stderr, thread::spawn(Vec::new));
        let run = Run {
            status,
            stdout: stdout.map(join).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&join(stderr)).into_owned(),
            console: self.file("console"),
            report: serde_json::from_str(&self.file("report")).unwrap_or_default(),
            metrics: serde_json::from_str(&self.file("metrics")).unwrap_or_default(),
        };
        run.expect_nothing_refused()?;
        Ok(run)
    }

    fn file(&self, name: &str) -> String {
        let bytes = std::fs::read(self.scratch.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut source: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is what there is.
        let _ = source.read_to_end(&mut bytes);
        bytes
    })
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// The kernel's console.
    pub(crate) console: String,
    /// `--report`, or null.
    pub(crate) report: Value,
    /// `--metrics`, or null.
    pub(crate) metrics: Value,
}

impl Run {
    /// Fails unless `vmm` exited with `code` and reports `outcome`.
    pub(crate) fn expect(self, code: i32, outcome: &str) -> Result<Self> {
        let reported = self.report["outcome"].as_str().unwrap_or("no report");
        ensure!(
            self.status.code() == Some(code) && reported == outcome,
            "wanted {code} ({outcome}), got {} ({reported})\n{}",
            self.status,
            self.account()
        );
        ensure!(
            self.report["code"] == code,
            "the report says {}",
            self.report["code"]
        );
        Ok(self)
    }

    /// Fails unless the command exited with 0 and the kernel had nothing to
    /// complain about.
    pub(crate) fn expect_success(self) -> Result<Self> {
        let run = self.expect(0, "exited")?;
        run.expect_quiet_kernel()?;
        Ok(run)
    }

    /// Fails if the kernel's log has a warning with a trace.
    pub(crate) fn expect_quiet_kernel(&self) -> Result<()> {
        match complaint(&self.console) {
            Some(line) => bail!("the kernel complains: {line}\n{}", self.account()),
            None => Ok(()),
        }
    }

    /// Fails if a thread of `vmm` made a system call that is not on its list.
    fn expect_nothing_refused(&self) -> Result<()> {
        let reported = &self.report["sandbox"]["refused"];
        ensure!(
            !self.stderr.contains(REFUSED) && reported.as_array().is_none_or(Vec::is_empty),
            "the sandbox refused {reported}\n{}",
            self.account()
        );
        Ok(())
    }

    /// The standard output as text.
    pub(crate) fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.stdout).context("the output is not text")
    }

    /// Everything, for a failure's message.
    pub(crate) fn account(&self) -> String {
        format!(
            "stdout: {}\nstderr: {}\nreport: {}\nconsole:\n{}",
            tail(&String::from_utf8_lossy(&self.stdout)),
            tail(&self.stderr),
            self.report,
            tail(&self.console)
        )
    }
}

/// The first line of a kernel log that says something is wrong in it.
pub(crate) fn complaint(log: &str) -> Option<&str> {
    const SIGNS: [&str; 7] = [
        "WARNING: CPU:",
        "Call Trace",
        "BUG:",
        "Oops",
        "INFO: task",
        "rcu: INFO",
        "Kernel panic",
    ];
    log.lines()
        .find(|line| SIGNS.iter().any(|sign| line.contains(sign)))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A directory on the host with `files` in it.
pub(crate) fn directory(files: &[(&str, &[u8])]) -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        std::fs::write(path, content)?;
    }
    Ok(directory)
}

/// The path of `name` in `directory`.
pub(crate) fn below(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(name)
}
