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
