//! A run on a terminal: the guest has its keys and its size, and it is left as it was
//! found.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::stretched;

const PATIENCE: Duration = Duration::from_secs(8);

pub(crate) fn theme() -> Theme {
    let restored = [("quit", 3), ("usr1", 10)]
        .into_iter()
        .map(|(name, number)| {
            Test::new(
                format!("sig{name}_restores_the_terminal"),
                PATCHED,
                move |fixtures| restored_after(fixtures, number),
            )
        });
    let keys = [
        Test::new("keys_are_the_shells", PATCHED, shell),
        Test::new("the_escape_leaves_the_machine", PATCHED, escape),
    ];
    Theme::new("terminal", restored.chain(keys))
}

/// A `vmm` with a terminal of its own. Dropping it kills it.
struct OnTerminal {
    vmm: Child,
    master: File,
    slave: File,
    before: LocalModes,
    /// Where its report is.
    scratch: tempfile::TempDir,
}

impl OnTerminal {
    fn start(fixtures: &Fixtures, command: &[&str]) -> Result<Self> {
        let (master, slave) = terminal()?;
        let before = tcgetattr(&slave)?.local_modes;
        ensure!(before.contains(LocalModes::ICANON));
        tcsetwinsize(&slave, size(30, 100))?;
        let scratch = tempfile::tempdir()?;
        // A session of its own, whose terminal this is: only then `vmm` is in its
        // foreground. busybox executes it in the same process.
        let vmm = Command::new(&fixtures.busybox)
            .args(["setsid", "-c"])
            .arg(&fixtures.vmm)
            .args(["run", "--kernel"])
            .arg(fixtures.kernel(Kernel::PATCHED)?.join("bzImage"))
            .arg("--report")
            .arg(scratch.path().join("report"))
            .args(command)
            .env("VMM_BUSYBOX", &fixtures.busybox)
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave.try_clone()?)
            .spawn()
            .context("cannot run busybox")?;
        Ok(Self {
            vmm,
            master,
            slave,
            before,
            scratch,
        })
    }

    fn local(&self) -> Result<LocalModes> {
        Ok(tcgetattr(&self.slave)?.local_modes)
    }

    /// Types `keys`, and waits until `text` is shown.
    fn dialogue(&self, keys: &str, text: &str) -> Result<()> {
        { &self.master }.write_all(keys.as_bytes())?;
        wait_for(&self.master, text.as_bytes()).with_context(|| format!("after {keys:?}"))
    }

    /// Waits for the end, which leaves the terminal as it was.
    fn expect(mut self, code: i32) -> Result<()> {
        let deadline = Instant::now() + stretched(PATIENCE);
        let status = loop {
            if let Some(status) = self.vmm.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "vmm does not end");
            thread::sleep(Duration::from_millis(20));
        };
        let local = self.local()?;
        ensure!(local == self.before, "the terminal is left in {local:?}");
        ensure!(status.code() == Some(code), "{status}");
        let report = std::fs::read(self.scratch.path().join("report"))?;
        let report: serde_json::Value = serde_json::from_slice(&report)?;
        let refused = &report["sandbox"]["refused"];
        ensure!(*refused == serde_json::json!([]), "refused: {refused}");
        Ok(())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // It has usually ended already.
        let _ = self.vmm.kill();
        let _ = self.vmm.wait();
    }
}

fn restored_after(fixtures: &Fixtures, number: i32) -> Result<()> {
    let script = "echo started; sleep 1000";
    let run = OnTerminal::start(fixtures, &["--", "sh", "-c", script])?;
    run.dialogue("", "started")?;
    let local = run.local()?;
    ensure!(!local.contains(LocalModes::ICANON), "not in raw mode");
    let sent = Command::new("kill")
        .arg(format!("-{number}"))
        .arg(run.vmm.id().to_string())
        .status()?;
    ensure!(sent.success(), "cannot send the signal");
    run.expect(128 + number)
}

/// Quotes keep what is typed from being taken for what is said.
fn shell(fixtures: &Fixtures) -> Result<()> {
    let run = OnTerminal::start(fixtures, &[])?;
    run.dialogue("", "# ")?;
    run.dialogue("stty size\r", "30 100")?;
    let job = "sh -c 'echo st\"\"arted; exec sleep 1000'\r";
    run.dialogue(job, "started")?;
    run.dialogue("\x03echo code $?\r", "code 130")?;
    run.dialogue(job, "started")?;
    run.dialogue("\x1a", "Stopped")?;
    run.dialogue("jobs | wc -l\r", "1\r\n")?;
    run.dialogue("fg\r", "sleep 1000")?;
    run.dialogue("\x03echo code $?\r", "code 130")?;
    tcsetwinsize(&run.slave, size(50, 132))?;
    let until = "until stty size | grep '^50 132$'; do sleep 1; done\r";
    run.dialogue(until, "\n50 132\r")?;
    { &run.master }.write_all(b"exit 9\r")?;
    run.expect(9)
}

fn escape(fixtures: &Fixtures) -> Result<()> {
    let run = OnTerminal::start(fixtures, &[])?;
    run.dialogue("", "# ")?;
    { &run.master }.write_all(b"\x01x")?;
    run.expect(130)
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// A new terminal: its master, and the end that programs have.
fn terminal() -> Result<(File, File)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).context("cannot open a terminal")?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
        .open(Path::new(name.to_str()?))?;
    Ok((master.into(), slave))
}

/// Reads what is shown until `text` is.
fn wait_for(master: &File, text: &[u8]) -> Result<()> {
    let deadline = Instant::now() + stretched(PATIENCE);
    let mut shown = Vec::new();
    let mut buffer = [0; 1024];
    while Instant::now() < deadline {
        let mut polled = [rustix::event::PollFd::new(
            master,
            rustix::event::PollFlags::IN,
        )];
        let moment = rustix::event::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        if rustix::event::poll(&mut polled, Some(&moment))? == 0 {
            continue;
        }
        let count = { master }.read(&mut buffer)?;
        shown.extend_from_slice(&buffer[..count]);
        if shown.windows(text.len()).any(|window| window == text) {
            return Ok(());
        }
    }
    bail!("shown is only {:?}", String::from_utf8_lossy(&shown))
}
