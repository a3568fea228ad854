//! What the VMM and the guest's init say to each other.
//!
//! The session is a directory served over virtio-fs under the tag
//! [`SESSION_TAG`]. Its files are the messages: the init reads [`PLAN`] once,
//! relays the command's streams through [`STDIN`], [`STDOUT`] and
//! [`STDERR`], and writes [`STATUS`] at the end. The VMM never trusts what
//! comes from this side: sizes are bounded and JSON is parsed strictly.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The tag of the session's virtio-fs device; no share may use it.
pub const SESSION_TAG: &str = "vmm.session";

/// The file to read the [`Plan`] from, as JSON.
pub const PLAN: &str = "plan";
/// The file that reads what the command gets on its standard input: READ
/// blocks until there is data, and 0 bytes are the end of the input.
pub const STDIN: &str = "stdin";
/// The file that takes the command's standard output; `EPIPE` when nobody on
/// the host reads it any more.
pub const STDOUT: &str = "stdout";
/// The file that takes the command's standard error.
pub const STDERR: &str = "stderr";
/// The file to write the [`Status`] to, as JSON in one write.
pub const STATUS: &str = "status";
/// The file that reads a [`WindowSize`] as JSON: READ blocks until the host's
/// terminal has another size than the one last read.
pub const WINDOW_SIZE: &str = "winsize";
/// The file that reads the number of a signal for the command, in decimal, as
/// on x86-64 Linux: READ blocks until there is one.
pub const SIGNAL: &str = "signal";
/// The file to write a [`Mark`]'s name to, at the moment it happens.
pub const MARK: &str = "mark";
/// The file to write `/proc/sys/kernel/tainted` to, as it is, before the
/// [`Status`].
pub const TAINTED: &str = "tainted";
/// The file that reads the host's `CLOCK_REALTIME` at that moment, as a
/// [`WallTime`]'s text.
pub const CLOCK: &str = "clock";

/// The largest plan in bytes. `execve(2)` takes 2 MiB of arguments and
/// environment by default; JSON escapes take some more.
pub const MAX_PLAN: usize = 8 << 20;
/// The largest number of [`TAINTED`] in bytes, with its newline: 64 bits in
/// decimal.
pub const MAX_TAINTED: usize = 21;
/// The largest status message in bytes.
pub const MAX_STATUS: usize = 16 << 10;

/// The directory of the initramfs that holds the packed kernel modules.
pub const MODULES: &str = "modules";
/// The file in [`MODULES`] that lists the modules' file names, one a line, in
/// the order in which they have to be loaded.
pub const MODULE_ORDER: &str = "order";

/// What the guest has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The command and its arguments, exactly. Empty means the user's shell, or with
    /// an [`init`](Self::init) none.
    pub command: Vec<Text>,
    /// The program of the [`root`](Self::root) that is handed the machine, and runs the
    /// command as one of its services.
    pub init: Option<Text>,
    /// Who runs the command, by name; `None` for root.
    pub user: Option<Text>,
    /// What the command's environment has beside what comes of its user, each as
    /// `NAME=value`.
    pub environment: Vec<Text>,
    /// The command's working directory, `None` for `/`.
    pub working_directory: Option<Text>,
    /// The name of the guest.
    pub hostname: String,
    /// The root file system, `None` to stay in the initramfs.
    pub root: Option<RootPlan>,
    /// The kernel's modules, to be had before the shares.
    pub modules: Option<ModulesPlan>,
    /// The shares to mount, in this order.
    pub shares: Vec<SharePlan>,
    /// The terminal to run the command on, `None` for pipes.
    pub terminal: Option<WindowSize>,
    /// The command is a shell for the user rather than one of the user's
    /// commands: shutting the guest down is then a proper end.
    pub interactive: bool,
    /// The machine can be powered off. A kernel that runs without ACPI tables
    /// would halt for ever instead, and has to restart to end the machine.
    pub power_off: bool,
}

/// A share to mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharePlan {
    /// The virtio-fs tag.
    pub tag: String,
    /// The absolute path to mount it at.
    pub at: Text,
    /// Mount it read-only.
    pub read_only: bool,
}

/// Kernel modules for `/lib/modules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModulesPlan {
    /// The virtio-fs tag of the share that has them.
    pub tag: String,
    /// The kernel's release, which their directory is called by.
    pub release: String,
    /// Where in their directory the share is mounted, which the initramfs has with
    /// lists and links; `None` where the share is the directory.
    pub below: Option<String>,
    /// The user has asked for them: without them there is no run.
    pub asked: bool,
}

/// The root file system to use in place of the initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootPlan {
    /// The virtio-fs tag.
    pub tag: String,
    /// The share refuses writes: put a tmpfs overlay over it, so that the
    /// guest can write all the same and nothing of it reaches the host.
    pub read_only: bool,
    /// How much the overlay may take of the guest's memory, `None` for half.
    pub overlay_bytes: Option<u64>,
    /// It is the host's own: the user who runs the VMM.
    pub host: Option<HostUser>,
}

/// A user of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostUser {
    /// The name.
    pub name: Text,
    /// The user's number.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// The home directory.
    pub home: Text,
    /// The shell.
    pub shell: Text,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Height in character cells.
    pub rows: u16,
    /// Width in character cells.
    pub columns: u16,
}

/// How the command ended, or why it did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Status {
    /// It called `exit`.
    Exited {
        /// The status it exited with.
        code: u8,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's number, as on x86-64 Linux.
        signal: u8,
    },
    /// It exists but cannot be executed.
    CannotExecute {
        /// Why.
        message: String,
    },
    /// There is no such command.
    NotFound {
        /// Which.
        message: String,
    },
    /// The guest could not be prepared for it.
    SetupFailed {
        /// What failed.
        message: String,
    },
}

/// A moment worth a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The init has the session and starts to set the guest up.
    InitStarted,
    /// The command is being executed.
    CommandStarted,
    /// The command ended and its output is delivered.
    CommandEnded,
}

impl Mark {
    /// All of them, in the order in which they happen.
    pub const ALL: [Self; 3] = [Self::InitStarted, Self::CommandStarted, Self::CommandEnded];

    /// The name that is written to [`MARK`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InitStarted => "init-started",
            Self::CommandStarted => "command-started",
            Self::CommandEnded => "command-ended",
        }
    }

    /// The mark of that name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mark| mark.name().as_bytes() == name)
    }
}

/// A moment of `CLOCK_REALTIME`. Its text is `SECONDS.NANOSECONDS`, nine
/// digits behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// Seconds since 1970, UTC.
    pub seconds: u64,
    /// Nanoseconds of the second, less than 1,000,000,000.
    pub nanoseconds: u32,
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanoseconds)
    }
}

impl WallTime {
    /// The moment that this text names.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let (seconds, nanoseconds) = std::str::from_utf8(text).ok()?.split_once('.')?;
        // `parse` alone would take a sign.
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(seconds) || !digits(nanoseconds) || nanoseconds.len() != 9 {
            return None;
        }
        Some(Self {
            seconds: seconds.parse().ok()?,
            nanoseconds: nanoseconds.parse().ok()?,
        })
    }
}

/// A string of the operating system in JSON: a JSON string where it is UTF-8,
/// else an array of its bytes. Arguments reach the command byte for byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text(OsString);

impl Text {
    /// The string.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Into<OsString>> From<T> for Text {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Json {
    String(String),
    Bytes(Vec<u8>),
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => Json::String(text.to_owned()),
            None => Json::Bytes(self.0.as_bytes().to_vec()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Json::deserialize(deserializer)? {
            Json::String(text) => text.into(),
            Json::Bytes(bytes) => OsString::from_vec(bytes),
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
