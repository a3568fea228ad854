//! A run on a terminal leaves the terminal as it was found.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::stretched;

const PATIENCE: Duration = Duration::from_secs(8);

pub(crate) fn theme() -> Theme {
    let tests = [("quit", 3), ("usr1", 10)]
        .into_iter()
        .map(|(name, number)| {
            Test::new(
                format!("sig{name}_restores_the_terminal"),
                PATCHED,
                move |fixtures| restored_after(fixtures, number),
            )
        });
    Theme::new("terminal", tests)
}

fn restored_after(fixtures: &Fixtures, number: i32) -> Result<()> {
    let (master, slave) = terminal()?;
    let local = || -> Result<LocalModes> { Ok(tcgetattr(&slave)?.local_modes) };
    let before = local()?;
    ensure!(before.contains(LocalModes::ICANON));

    // A session of its own, whose terminal this is: only then `vmm` is in its
    // foreground. busybox executes it in the same process.
    let mut vmm = Command::new(&fixtures.busybox)
        .args(["setsid", "-c"])
        .arg(&fixtures.vmm)
        .args(["run", "--kernel"])
        .arg(fixtures.kernel(Kernel::PATCHED)?.join("bzImage"))
        .args(["--", "sh", "-c", "echo started; sleep 1000"])
        .env("VMM_BUSYBOX", &fixtures.busybox)
        .stdin(slave.try_clone()?)
        .stdout(slave.try_clone()?)
        .stderr(slave.try_clone()?)
        .spawn()
        .context("cannot run busybox")?;
    let result = (|| {
        wait_for(&master, b"started")?;
        ensure!(!local()?.contains(LocalModes::ICANON), "not in raw mode");
        let sent = Command::new("kill")
            .arg(format!("-{number}"))
            .arg(vmm.id().to_string())
            .status()?;
        ensure!(sent.success(), "cannot send the signal");
        let deadline = Instant::now() + stretched(PATIENCE);
        let status = loop {
            if let Some(status) = vmm.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "vmm does not end");
            thread::sleep(Duration::from_millis(20));
        };
        ensure!(local()? == before, "the terminal is left in {:?}", local()?);
        ensure!(status.code() == Some(128 + number), "{status}");
        Ok(())
    })();
    let _ = vmm.kill();
    let _ = vmm.wait();
    result
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
