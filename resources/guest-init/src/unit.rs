//! A command as a service of another init: the root's own has the machine, and
//! this program is started by it, mounts the session and runs the command.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::mount::MountFlags;

use crate::mounts;
use crate::power;

/// The directory for what this needs, in the guest's memory.
const DIRECTORY: &str = "/run/vmm";
/// This program, for the root's init to run.
pub const PROGRAM: &str = "/run/vmm/command";
/// Where it mounts the session for a moment.
pub const SESSION: &str = "/run/vmm/session";
/// The inits that are told so by this file.
const INITTAB: &str = "/etc/inittab";
/// What is mounted over it.
const OWN_INITTAB: &str = "/run/vmm/inittab";
/// Where systemd looks for units that last until the end of the machine.
const UNITS: &str = "/run/systemd/system";
const UNIT: &str = "vmm-command.service";
/// How long an init may take to end the machine. The VMM waits no longer either.
const PATIENCE: Duration = Duration::from_secs(100);

/// Why the root's init cannot be told to run the command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its files in the guest's memory cannot be made.
    #[error("cannot make the command a service of the root's init")]
    Files(#[source] io::Error),
    /// There is no memory for them.
    #[error("cannot make the command a service of the root's init")]
    Mount(#[from] mounts::Error),
    /// What it would be told by is not there.
    #[error(
        "the root's init is busybox and its {INITTAB} is missing, by which it would be told to run \
         COMMAND: make one"
    )]
    NoInittab,
}

/// An init, by what it is told to do something by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Systemd,
    /// sysvinit.
    Sysvinit,
    Busybox,
    /// Has to run [`PROGRAM`] by itself.
    Other,
}

impl Kind {
    fn of(init: &Path) -> Self {
        let program = fs::canonicalize(init).unwrap_or_else(|_| init.to_owned());
        match program.file_name().and_then(|name| name.to_str()) {
            Some("systemd") => Self::Systemd,
            Some("busybox") => Self::Busybox,
            Some("init") if Path::new(INITTAB).exists() => Self::Sysvinit,
            _ => Self::Other,
        }
    }
}

/// Has `init` run the command once the system is up. Nothing of the root changes on the
/// host.
pub fn install(init: &Path, can_power_off: bool) -> Result<(), Error> {
    if !is_mount_point(Path::new("/run")) {
        mounts::mount_run()?;
    }
    fs::create_dir_all(DIRECTORY).map_err(Error::Files)?;
    // sysvinit's scripts let nobody execute what is in /run.
    let flags = MountFlags::NOSUID.union(MountFlags::NODEV);
    let directory = Path::new(DIRECTORY);
    mounts::mount("tmpfs", directory, "tmpfs", flags, Some(c"mode=0755"))?;
    let files = || {
        fs::copy("/proc/self/exe", PROGRAM)?;
        fs::set_permissions(PROGRAM, fs::Permissions::from_mode(0o700))
    };
    files().map_err(Error::Files)?;
    match Kind::of(init) {
        Kind::Systemd => add_unit(Path::new(UNITS), can_power_off).map_err(Error::Files),
        Kind::Busybox if !Path::new(INITTAB).exists() => Err(Error::NoInittab),
        Kind::Busybox => add_line("\n::once:/run/vmm/command\n"),
        Kind::Sysvinit => add_line("\nvmm:2345:once:/run/vmm/command\n"),
        Kind::Other => Ok(()),
    }
}

fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(path) != device(Path::new("/"))
}

/// Lets systemd run it when all else is started, which it does not wait for; and end the
/// machine with it.
fn unit(can_power_off: bool) -> String {
    let end = if can_power_off { "poweroff" } else { "reboot" };
    format!(
        "[Unit]\n\
         Description=COMMAND of vmm run\n\
         DefaultDependencies=no\n\
         After=multi-user.target\n\
         Conflicts=shutdown.target\n\
         Before=shutdown.target\n\
         SuccessAction={end}\n\
         FailureAction={end}\n\
         \n\
         [Service]\n\
         ExecStart={PROGRAM}\n\
         StandardInput=null\n\
         StandardOutput=null\n\
         StandardError=kmsg\n"
    )
}

fn add_unit(units: &Path, can_power_off: bool) -> io::Result<()> {
    let wants = units.join("default.target.wants");
    fs::create_dir_all(&wants)?;
    fs::write(units.join(UNIT), unit(can_power_off))?;
    symlink(Path::new("..").join(UNIT), wants.join(UNIT))?;
    // Nobody logs in on the console, and a system without udev would wait for it.
    symlink("/dev/null", units.join("serial-getty@ttyS0.service"))
}

/// Lets an init that has a table do what is in one more `line`.
fn add_line(line: &str) -> Result<(), Error> {
    let table = || {
        let mut table = fs::read(INITTAB)?;
        table.extend(line.as_bytes());
        fs::write(OWN_INITTAB, table)?;
        Ok(rustix::mount::mount_bind(OWN_INITTAB, INITTAB)?)
    };
    table().map_err(Error::Files)
}

/// Ends the machine by way of its init, which can bring everything to an end first.
pub fn end(can_power_off: bool) -> ! {
    // systemd does it by itself when this process ends.
    if Path::new("/run/systemd/system").join(UNIT).exists() {
        std::process::exit(0);
    }
    let program = if can_power_off { "poweroff" } else { "reboot" };
    let path = "/usr/sbin:/sbin:/usr/bin:/bin";
    if Command::new(program)
        .env("PATH", path)
        .status()
        .is_ok_and(|status| status.success())
    {
        std::thread::sleep(PATIENCE);
    }
    rustix::fs::sync();
    power::off(can_power_off)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_known_by_what_it_is_a_link_to() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        for (name, kind) in [
            ("systemd", Kind::Systemd),
            ("busybox", Kind::Busybox),
            ("dinit", Kind::Other),
        ] {
            fs::write(path(name), "").unwrap();
            let link = path(&format!("link-to-{name}"));
            symlink(name, &link).unwrap();
            assert_eq!(Kind::of(&link), kind);
        }
        assert_eq!(Kind::of(&path("gone")), Kind::Other);
    }

    #[test]
    fn a_unit_runs_with_the_default_target_and_ends_the_machine() {
        let top = tempfile::tempdir().unwrap();
        add_unit(top.path(), true).unwrap();
        let read = |name: &str| fs::read_to_string(top.path().join(name)).unwrap();
        let wanted = read("default.target.wants/vmm-command.service");
        assert_eq!(wanted, read(UNIT));
        assert!(wanted.contains("ExecStart=/run/vmm/command\n"));
        assert!(wanted.contains("FailureAction=poweroff\n"));
        assert!(unit(false).contains("SuccessAction=reboot\n"));
    }
}
