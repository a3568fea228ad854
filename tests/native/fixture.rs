//! A test that runs on the mount: the test program is run again by `serve`,
//! for that one test.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use tempfile::TempDir;

/// Set for the test program that runs on a share. The end-to-end tests set it as
/// well, in a guest.
const INSIDE: &str = "NATIVE_TEST_INSIDE";

/// Set where a guest has done the first part of a test, in the directory of the host
/// that [`DIRECTORY`] names.
const CHECK: &str = "NATIVE_TEST_CHECK";
const DIRECTORY: &str = "NATIVE_TEST_DIRECTORY";

/// Set where the tests are to run once more in the sandbox: `--sandbox` of `serve`.
const SANDBOX: &str = "TEST_SANDBOX";

/// Every cache policy, and write-back where it can be had.
pub(crate) const MODES: [&str; 7] = [
    "cache=never",
    "cache=metadata",
    "cache=auto",
    "cache=always",
    "cache=auto,writeback",
    "cache=always,writeback",
    "cache=auto,writeback,atomic-truncate",
];

/// Whether this host's kernel is at least as new.
pub(crate) fn linux_since(major: u32, minor: u32) -> bool {
    let names = rustix::system::uname();
    let release = names.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    (next(), next()) >= (Some(major), Some(minor))
}

/// Those in which files can be mapped shared. Linux maps what bypasses its page
/// cache since 6.6.
pub(crate) fn mapped_modes() -> &'static [&'static str] {
    match linux_since(6, 6) {
        true => &MODES,
        false => &MODES[2..],
    }
}

/// Says that this host lacks what a test of `what` needs. Past the test runner, which
/// keeps to itself what a test that passes says.
pub(crate) fn not_tried(what: &str, why: &str) {
    let line = format!("\nnot tried: {what}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// A directory to share and a place to mount it.
pub(crate) struct Place {
    top: TempDir,
    /// What is shared, where that is not this place's own.
    other: Option<PathBuf>,
    /// Shell commands that the share comes after, in a mount namespace of
    /// their own; `$1` is the directory.
    prepared: Option<&'static str>,
    /// Whether a user namespace is not enough.
    by_root: bool,
    /// Who serves, where that is somebody else.
    server_user: Option<&'static str>,
}

/// [`Place::of_user`]'s directory is theirs, and whom they may be is what the last
/// lines say.
const OF_USER: &str = "chmod 755 \"$1/..\"; chown 5:60 \"$1\"
    echo games:100000:65536 >\"$1/../delegated\"
    for file in /etc/subuid /etc/subgid; do mount --bind \"$1/../delegated\" $file; done";

/// The same for a user to whom nobody is delegated.
const OF_USER_ALONE: &str = "chmod 755 \"$1/..\"; chown 5:60 \"$1\"
    for file in /etc/subuid /etc/subgid; do mount --bind /dev/null $file; done";

impl Place {
    pub(crate) fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        for name in ["shared", "mount"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        Self {
            top,
            other: None,
            prepared: None,
            by_root: false,
            server_user: None,
        }
    }

    /// A place that an ordinary user serves to root, user 5 with the groups 60 and
    /// 100, who has 65536 subordinate users from 100000 on.
    pub(crate) fn of_user() -> Self {
        Self {
            by_root: true,
            prepared: Some(OF_USER),
            server_user: Some("5:60:100"),
            ..Self::new()
        }
    }

    /// The same without subordinate users.
    pub(crate) fn of_user_alone() -> Self {
        Self {
            prepared: Some(OF_USER_ALONE),
            ..Self::of_user()
        }
    }

    /// A place that root serves: a user namespace of an ordinary user's has
    /// one user, and some tests need two.
    pub(crate) fn of_root() -> Self {
        Self {
            by_root: true,
            ..Self::new()
        }
    }

    /// This place with the directory of another, which has to last.
    pub(crate) fn of(self, place: &Self) -> Self {
        Self {
            other: Some(place.directory()),
            ..self
        }
    }

    /// A place whose directory is what `script` mounts at `$1`.
    pub(crate) fn prepared(script: &'static str) -> Self {
        Self {
            prepared: Some(script),
            ..Self::new()
        }
    }

    /// What is shared, as the host sees it.
    pub(crate) fn directory(&self) -> PathBuf {
        let own = || self.top.path().join("shared");
        self.other.clone().unwrap_or_else(own)
    }

    /// `serve` for this place, ready for COMMAND.
    pub(crate) fn serve(&self, options: &str) -> Command {
        self.serve_with(options, &[], None)
    }

    /// The same with one more variable in the environment.
    pub(crate) fn serve_after(&self, variable: &str, options: &str) -> Command {
        self.serve_with(options, &[], Some(variable))
    }

    fn serve_with(&self, options: &str, before: &[&str], variable: Option<&str>) -> Command {
        let serve = env!("CARGO_BIN_EXE_serve");
        let (program, arguments): (_, &[&str]) = if rustix::process::geteuid().is_root() {
            ("env", &[])
        } else if self.by_root {
            ("sudo", &["--non-interactive"])
        } else {
            ("unshare", &["--map-root-user"])
        };
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(script) = self.prepared {
            let script = format!("{script}\nshift\nexec \"$@\"");
            let shell = ["unshare", "--mount", "sh", "-euc", &script, "sh"];
            command.args(shell).arg(self.directory());
        }
        if let Some(variable) = variable {
            command.args(["env", variable]);
        }
        command.arg(serve);
        if let Some(user) = self.server_user {
            command.args(["--server-user", user]);
        }
        if let Some(mode) = env::var_os(SANDBOX).filter(|_| before.is_empty()) {
            command.arg("--sandbox").arg(mode);
        }
        let mut mount = self.top.path().join("mount").into_os_string();
        if !options.is_empty() {
            mount.push(",");
            mount.push(options);
        }
        command
            .args(before)
            .arg(self.directory())
            .arg(mount)
            .arg("--");
        command
    }

    /// A shell's `script`, in the mount point.
    pub(crate) fn shell(&self, options: &str, script: &str) -> Output {
        run_shell(self.serve(options), script)
    }

    /// The same where the server's system calls fail by `rules`.
    pub(crate) fn failing_shell(&self, options: &str, rules: &str, script: &str) -> Output {
        run_shell(self.serve_with(options, &["--inject", rules], None), script)
    }
}

/// Runs `body` on the mount point of a fresh share with `options`, and then
/// `check` on what is shared. For a test that calls nothing else.
pub(crate) fn on_share(options: &str, body: impl FnOnce(&Path), check: impl FnOnce(&Path)) {
    match (env::var_os(INSIDE), env::var_os(CHECK)) {
        (Some(inside), _) if inside == options => body(&mount_point()),
        (None, Some(done)) if done == options => {
            check(Path::new(&env::var_os(DIRECTORY).unwrap()));
        }
        (None, None) => {
            let place = Place::new();
            run_inside(&place, options);
            check(&place.directory());
        }
        _ => {}
    }
}

/// Runs `body` on the mount point of a share with `options` of what `script`
/// mounts at `$1`. For a test that calls nothing else.
pub(crate) fn on_prepared_share(options: &str, script: &'static str, body: impl FnOnce(&Path)) {
    match env::var_os(INSIDE) {
        Some(inside) if inside == options => body(&mount_point()),
        Some(_) => {}
        None => run_inside(&Place::prepared(script), options),
    }
}

fn run_inside(place: &Place, options: &str) {
    let test = thread::current().name().unwrap().to_owned();
    let output = (place.serve(options))
        .arg(env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(INSIDE, options)
        .output()
        .unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{options}: {text}");
    assert!(text.contains("1 passed"), "{options}: {text}");
}

fn run_shell(mut serve: Command, script: &str) -> Output {
    let script = format!("cd \"$MOUNTPOINT\" || exit\n{script}");
    serve.args(["sh", "-euc", &script]);
    let program = serve.get_program().to_owned();
    // What is not there is `sudo`, where a test needs two users.
    let refused = |error| panic!("cannot run {}: {error}", program.display());
    serve.output().unwrap_or_else(refused)
}

fn mount_point() -> PathBuf {
    env::var_os("MOUNTPOINT").unwrap_or_default().into()
}

/// What a command said.
pub(crate) fn text(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

/// The bytes of a file that differ from place to place.
pub(crate) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    let step = |index: usize| (index ^ (index >> 8) ^ (index >> 16)).to_le_bytes()[0];
    (0..len)
        .map(|index| step(index).wrapping_add(seed))
        .collect()
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort_by(|one, other| OsStr::cmp(one, other));
    names
}
