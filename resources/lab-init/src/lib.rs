//! What the host's `lab` command and the first process of the lab say to each
//! other.
//!
//! The lab is an emulated machine that lives for one command. The host writes
//! a [`Plan`] into its initramfs and talks to it over four virtio-serial
//! ports; both ends use these types, so they cannot drift apart.
//!
//! * [`Port::Control`] carries one JSON message per line, [`ToLab`] one way and
//!   [`FromLab`] the other.
//! * [`Port::Stdin`], [`Port::Stdout`] and [`Port::Stderr`] carry one stream
//!   each, cut into [`frame`]s. The end of a stream is a frame, not the closing
//!   of the port, so nothing depends on the order in which ports close.

pub mod frame;

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

/// Where the initramfs keeps the plan.
pub const PLAN_PATH: &str = "/plan.json";
/// Where the initramfs and, later, the lab's root keep what only the lab
/// itself uses: its first process and GNU tar with the libraries of both.
pub const TOOLS_PATH: &str = "/run/lab";
/// Where the lab has its static busybox; links to it appear beside it.
pub const BUSYBOX: &str = "/bin/busybox";
/// Serial number of the drive that brings files in.
pub const DRIVE_IN: &str = "lab-in";
/// Serial number of the drive that takes files out.
pub const DRIVE_OUT: &str = "lab-out";
/// Seconds between two [`FromLab::Alive`] messages.
pub const HEARTBEAT_SECONDS: u64 = 3;

/// One of the virtio-serial ports between host and lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Port {
    /// Messages, both ways.
    Control,
    /// The command's standard input.
    Stdin,
    /// The command's standard output, or its terminal's output.
    Stdout,
    /// The command's standard error.
    Stderr,
}

impl Port {
    /// Every port, in the order in which QEMU creates them.
    pub const ALL: [Self; 4] = [Self::Control, Self::Stdin, Self::Stdout, Self::Stderr];

    /// The name under which Linux shows the port in `/sys/class/virtio-ports`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "lab.control",
            Self::Stdin => "lab.stdin",
            Self::Stdout => "lab.stdout",
            Self::Stderr => "lab.stderr",
        }
    }
}

/// Everything the lab has to do, decided before it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Kernel modules in the order in which they have to be loaded.
    pub modules: Vec<Module>,
    /// Disks to mount, an outer directory before those in it.
    pub disks: Vec<Disk>,
    /// What to unpack after that and before the command starts.
    pub deliveries: Vec<Delivery>,
    /// Directories to create where nothing was delivered.
    pub directories: Vec<OsString>,
    /// What to hand back after it ended, as absolute paths.
    pub collections: Vec<OsString>,
    /// The command and its arguments, exactly as given.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory; created when nothing delivered it.
    pub cwd: OsString,
    /// The terminal it gets, if any.
    pub terminal: Option<Terminal>,
    /// Share of the lab's memory its files may take, in percent.
    pub root_percent: u8,
}

/// A kernel module and its parameters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Module {
    /// Where the initramfs has it.
    pub path: String,
    /// What `insmod` would be given after the file's name.
    pub parameters: String,
}

/// A directory on an ext4 disk of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Disk {
    /// The drive's serial number.
    pub serial: String,
    /// Where to mount it: an absolute path.
    pub to: OsString,
    /// What the file system's own root does not have of the directory.
    pub attributes: Attributes,
    /// Whether `lost+found` belongs to the directory.
    pub has_lost_found: bool,
}

/// The attributes of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits, `st_mode & 0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
}

/// Something on the drive [`DRIVE_IN`] and the place it goes to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// Absolute path in the lab.
    pub to: OsString,
    /// What lies on the drive.
    pub content: Content,
    /// Where on the drive it lies.
    pub region: Region,
}

/// How a region of a drive is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The bytes of one regular file.
    File(Attributes),
    /// A POSIX tar archive of a directory's content.
    Tree,
}

/// A part of a drive, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

/// The terminal the command gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Terminal {
    /// Its size at the start.
    pub size: WindowSize,
    /// Whether standard error goes to the terminal too, or stays apart.
    pub stderr: bool,
}

/// What the host tells the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToLab {
    /// The host's reader of this stream is gone: the command's next write to
    /// it has to fail as it would on the host.
    Closed(Port),
    /// The host's terminal has a new size.
    Resized(WindowSize),
    /// Nothing: what counts is the interrupt it comes with.
    Nudge,
}

/// What the lab tells the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromLab {
    /// Its first process runs and has found its ports.
    Ready,
    /// Everything is unpacked and the command starts now.
    Started,
    /// Sent every [`HEARTBEAT_SECONDS`]: the lab's kernel still schedules.
    Alive,
    /// How the command ended. All of its output is on its way.
    Ended(Ending),
    /// One of the plan's collections, by index.
    Collected(usize, Collection),
    /// Everything is handed back and on the drive.
    Finished,
    /// The lab cannot go on. The message is one line.
    Failed(String),
}

/// How the command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It could not be executed.
    CannotExecute(String),
    /// It was not found.
    NotFound(String),
}

/// What became of a path that is to be handed back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collection {
    /// There is nothing at this path.
    Missing,
    /// Nothing below this path changed.
    Unchanged,
    /// A regular file: its bytes and permission bits.
    File {
        /// Where on the drive it is.
        region: Region,
        /// Permission bits, `st_mode & 0o7777`.
        mode: u32,
    },
    /// A directory: first remove, then unpack.
    Tree {
        /// Paths below the directory that are gone, or no longer of the type
        /// they were. Children come before their directory.
        removed: Vec<OsString>,
        /// Where on the drive the archive of everything changed is.
        region: Region,
    },
}
