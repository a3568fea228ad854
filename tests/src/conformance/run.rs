//! One suite in one place, to its outcomes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use super::mode::{Mode, Owners, SERVER_USER, User};
use super::suite::Suite;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Pass,
    /// It could not be tried.
    Skip,
    /// Otherwise, or the suite ended before it.
    Fail,
}

/// The cases by name.
pub type Outcomes = BTreeMap<String, Outcome>;

/// Where suites are run.
#[derive(Debug)]
pub struct Place {
    /// The programs that are not the system's.
    pub programs: Vec<PathBuf>,
    /// A directory of ours, where everybody may look.
    pub top: PathBuf,
    /// Where the output of each run is kept.
    pub logs: PathBuf,
    /// Only the short part of a suite.
    pub short: bool,
    /// Set once no suite is to go on.
    pub stop: Arc<AtomicBool>,
}

impl Place {
    /// Runs `suite` as `user` in a directory of `backend`, or on a share of it
    /// in a mode.
    ///
    /// # Errors
    ///
    /// When it cannot be run, is stuck, or has no outcome at all.
    pub fn run(
        &self,
        suite: &Suite,
        user: User,
        backend: &Path,
        share: Option<(Owners, Mode)>,
    ) -> Result<Outcomes> {
        let name = backend.file_name().unwrap_or_default().to_string_lossy();
        let what = share.map(|(owners, mode)| format!("{owners}-{mode}"));
        let what = what.unwrap_or_else(|| "host".to_owned());
        let log = (self.logs).join(format!("{}-{name}-{user}-{what}.log", suite.name));
        let directory = backend.join("shared");
        let mount = self.top.join("mount");
        let scratch = self.top.join("scratch");
        for path in [&directory, &scratch] {
            if path.exists() {
                fs::remove_dir_all(path)
                    .with_context(|| format!("cannot empty {}", path.display()))?;
            }
            fs::create_dir(path)?;
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
            chown(path, Some(user.id()), Some(user.id()))?;
        }
        fs::create_dir_all(&mount)?;
        let (mut command, at) = match share {
            None => (as_user(user), directory.clone()),
            Some((owners, mode)) => {
                let mut command = Command::new(serve()?);
                if owners != Owners::Host {
                    let (uid, gid) = SERVER_USER;
                    chown(&directory, Some(uid), Some(gid))?;
                    command.args(["--server-user", &format!("{uid}:{gid}")]);
                }
                let mut place = mount.clone().into_os_string();
                place.push(format!(",xattr,owners={owners},cache={mode}"));
                let inner = as_user(user);
                command.arg(&directory).arg(place).arg("--");
                command.arg(inner.get_program()).args(inner.get_args());
                (command, mount)
            }
        };
        let output = File::create(&log)?;
        command
            .args(["sh", "-c", "cd \"$1\" && exec sh \"$2\"", "sh"])
            .args([at.as_os_str(), suite.script().as_os_str()])
            .env("PATH", self.path())
            .env("SHORT", if self.short { "yes" } else { "no" })
            .env("CACHE", share.map_or("", |(_, mode)| mode.cache))
            .env("SCRATCH", &scratch)
            .env("TMPDIR", &scratch)
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let child = command.spawn().context("cannot start the suite")?;
        let status = self.within(child, suite.limit)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let outcomes = outcomes(&text)?;
        ensure!(
            status.is_some_and(|status| status.code() != Some(125)) && !outcomes.is_empty(),
            "{} did not come to its end: {}",
            suite.name,
            log.display()
        );
        Ok(outcomes)
    }

    /// Waits for `child`; nothing when the time was up and it was killed.
    fn within(&self, mut child: Child, limit: Duration) -> Result<Option<ExitStatus>> {
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            let stop = self.stop.load(Ordering::Relaxed);
            if stop || begun.elapsed() > limit {
                let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                if let Some(group) = group {
                    kill_process_group(group, Signal::KILL)?;
                }
                child.wait()?;
                ensure!(!stop, "stopped by a signal");
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn path(&self) -> OsString {
        let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut path = OsString::new();
        for directory in &self.programs {
            path.push(directory);
            path.push(":");
        }
        path.push(std::env::var_os("PATH").unwrap_or_else(|| system.into()));
        path
    }
}

/// The command that becomes `user`, and runs what follows.
fn as_user(user: User) -> Command {
    let id = user.id();
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={id}"), format!("--regid={id}")]);
    command.arg("--clear-groups");
    command
}

/// The `serve` beside this program.
fn serve() -> Result<PathBuf> {
    let serve = std::env::current_exe()?.with_file_name("serve");
    ensure!(serve.exists(), "{} is missing: build it", serve.display());
    Ok(serve)
}

/// The lines `@ NAME pass|skip|fail` of `text`.
///
/// # Errors
///
/// For another word, and a name that is there twice.
pub fn outcomes(text: &str) -> Result<Outcomes> {
    let mut outcomes = Outcomes::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("@ ")) {
        let (name, outcome) = line.rsplit_once(' ').unwrap_or((line, ""));
        let outcome = match outcome {
            "pass" => Outcome::Pass,
            "skip" => Outcome::Skip,
            "fail" => Outcome::Fail,
            _ => bail!("'{line}' is no outcome"),
        };
        let twice = outcomes.insert(name.to_owned(), outcome).is_some();
        ensure!(!twice, "the case {name} ended twice");
    }
    Ok(outcomes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_outcomes_are_read() {
        let read = outcomes("hello\n@ a::b pass\nfail\n@ c skip\n@ d fail\n").unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read["a::b"], Outcome::Pass);
        assert_eq!(read["d"], Outcome::Fail);
        assert!(outcomes("@ a perhaps").is_err());
        assert!(outcomes("@ a pass\n@ a fail").is_err());
    }
}
