//! Ends the machine.

use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};
use rustix::system::RebootCommand;

/// How long processes that were killed may take to go away. Only a task stuck
/// in the kernel takes longer, and no wait would help against that.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills every process but this one and waits until they are gone. Says
/// whether they all are.
pub fn kill_everything() -> bool {
    // With the process ID 1 this is kill(-1): everything but the caller.
    let _ = rustix::process::kill_process_group(Pid::INIT, Signal::KILL);
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) if std::time::Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(None) => return false,
            // ECHILD: nobody is left.
            Err(_) => return true,
        }
    }
}

/// Kills every process that this one or its children have started, and waits until
/// they are gone; this process has to be a reaper of orphans
/// (`PR_SET_CHILD_SUBREAPER`). Says whether they all are.
pub fn kill_descendants() -> bool {
    let deadline = std::time::Instant::now() + PATIENCE;
    let own = rustix::process::getpid();
    loop {
        // Those of a child that was killed are this process's.
        for child in children_of(own) {
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) if std::time::Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

/// The children of a process, by `/proc`.
fn children_of(parent: Pid) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let child = |entry: std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before may have anything in it.
        let (_, fields) = stat.rsplit_once(')')?;
        let above: i32 = fields.split_whitespace().nth(1)?.parse().ok()?;
        (above == parent.as_raw_nonzero().get()).then_some(())?;
        Pid::from_raw(number)
    };
    entries.filter_map(child).collect()
}

/// Ends the machine: by powering it off where it `can_power_off`, else by a
/// restart, which ends a virtual machine as well.
pub fn off(can_power_off: bool) -> ! {
    if can_power_off {
        let _ = rustix::system::reboot(RebootCommand::PowerOff);
    }
    let _ = rustix::system::reboot(RebootCommand::Restart);
    // Neither worked. When the init ends, the kernel panics, and a panic is
    // seen from outside where a hang is not.
    std::process::exit(1)
}
