//! The lab: an emulated machine with AMD-V in which `/dev/kvm` is real KVM.
//!
//! QEMU emulates the processor, Debian's cloud kernel runs on it, and on that
//! kernel's KVM any Linux guest boots. One run is one command: what it needs
//! goes in, its streams and its status come out, and what it changed comes
//! back. A lab that fails, hangs or is killed is never mistaken for a command
//! that ended: it is an error with the console's tail, and status 125.
//!
//! QEMU runs with one processor and the host's clock. A guest with more
//! processors than that is served by turns; with a thread for each emulated
//! processor each step from one thread to another waits for the host's scheduler
//! instead.
//!
//! A clock that counts instructions (`-icount`) is for measurements only. A waiting
//! processor is much slower so: each PAUSE leaves the processor's loop, and costs a
//! microsecond in which the clock that counts instructions hardly moves. QEMU has a fault
//! that makes guests hang with it, and with the host's clock does no harm, because there
//! the loop is left for an interrupt and that is a #VMEXIT: [`emulator`] mends it.
//!
//! The lab's kernel is Debian's 6.12: a tmpfs of 6.12 keeps `user.*` extended
//! attributes, which that of 6.1 cannot.

mod apt;
mod archive;
pub mod debian;
mod disk;
mod drive;
mod emulator;
mod initramfs;
mod inputs;
mod libraries;
mod machine;
mod session;
mod terminal;
pub mod vmm_run;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lab_init::{Ending, Module, Plan, Port};

pub(crate) use initramfs::find_program;
pub(crate) use libraries::of as libraries_of;
pub use machine::Timing;

use disk::Disk;
use drive::DriveOut;
use machine::{Machine, Parts};
use session::End;

/// The status of a lab that could not run the command to its end.
pub const FAILED: u8 = 125;

/// Modules the lab's kernel needs, with their parameters.
///
/// `halt_poll_ns=0`: KVM would otherwise spin before it lets a halted guest's
/// processor go, and the lab has no other processor for the rest meanwhile.
const MODULES: [(&str, &str); 6] = [
    ("virtio_pci", ""),
    ("virtio_console", ""),
    ("virtio_blk", ""),
    ("kvm", "halt_poll_ns=0"),
    ("kvm-amd", ""),
    ("overlay", ""),
];

/// A command and all it needs, to be run in a lab of its own.
#[derive(Clone, Debug)]
pub struct Order {
    /// The command and its arguments.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Files and directories to copy in: (host, lab). A directory that takes more
    /// than 256 MiB goes in on a disk, the rest into the lab's memory.
    pub inputs: Vec<(PathBuf, PathBuf)>,
    /// Directories to put on a disk whatever their size: (host, lab).
    pub disks: Vec<(PathBuf, PathBuf)>,
    /// Directories that have to exist.
    pub directories: Vec<PathBuf>,
    /// Programs of the host, copied with the libraries they need to the same
    /// path.
    pub programs: Vec<PathBuf>,
    /// Paths whose changes are brought back: (lab, host).
    pub outputs: Vec<(PathBuf, PathBuf)>,
    /// The lab's memory in MiB; chosen by what goes in when not given.
    pub memory_mib: Option<u64>,
    /// Memory of the guest that will run in the lab, in MiB.
    pub guest_mib: u64,
    /// Emulated processors.
    pub cpus: u8,
    /// How time passes.
    pub timing: Timing,
    /// When the lab is given up, counted from its start.
    pub timeout: Option<Duration>,
    /// Whether the lab's console goes to standard error at the end.
    pub verbose: bool,
    /// The Debian meta package of the lab's kernel.
    pub package: String,
    /// Appended to the lab's kernel command line.
    pub cmdline: String,
    /// Appended to QEMU's arguments.
    pub qemu_arguments: Vec<OsString>,
}

impl Order {
    /// A lab with the defaults, for `argv`.
    #[must_use]
    pub fn new(argv: Vec<OsString>) -> Self {
        Self {
            argv,
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            inputs: Vec::new(),
            disks: Vec::new(),
            directories: Vec::new(),
            programs: Vec::new(),
            outputs: Vec::new(),
            memory_mib: None,
            guest_mib: 0,
            cpus: 1,
            timing: Timing::Live,
            timeout: None,
            verbose: false,
            package: "linux-image-6.12-cloud-amd64".to_owned(),
            cmdline: String::new(),
            qemu_arguments: Vec::new(),
        }
    }

    /// Runs the command and returns the status to exit with: the command's
    /// own, 128+n for a signal, 126 and 127 as `env` has them. Streams are
    /// this process's own.
    ///
    /// To be called on the program's main thread, once.
    ///
    /// # Errors
    ///
    /// When there is no lab, or when it ended before the command did.
    pub fn run(&self) -> Result<u8> {
        let kernel = match std::env::var_os("LAB_KERNEL") {
            Some(root) => debian::KernelPackage::unpacked(root.into())?,
            None => debian::KernelPackage::from_package(&self.package)?,
        };
        for program in ["qemu-system-x86_64", "tar", "setpriv"] {
            if initramfs::find_program(program).is_none() {
                bail!(
                    "{program} is not installed; try apt-get install qemu-system-x86 tar util-linux"
                );
            }
        }
        let (disks, inputs) = self.sort_inputs()?;
        let disks = disks
            .iter()
            .enumerate()
            .map(|(index, (host, lab))| Disk::new(index, host, lab))
            .collect::<Result<Vec<_>>>()?;
        let (drive_in, deliveries, size) = self.pack(&inputs)?;
        let mut drive_out = DriveOut::new()?;
        let mut names: Vec<&str> = MODULES.iter().map(|(name, _)| *name).collect();
        if !disks.is_empty() {
            names.push("ext4");
        }
        let files = kernel.resolve(&names)?;
        let terminal = terminal::wanted();
        let plan = Plan {
            modules: plan_modules(&files),
            disks: disks.iter().map(|disk| disk.mount.clone()).collect(),
            deliveries,
            directories: self.directories.iter().map(Into::into).collect(),
            collections: self.outputs.iter().map(|(lab, _)| lab.into()).collect(),
            argv: self.argv.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone().into(),
            terminal: terminal.clone(),
            root_percent: 85,
        };
        let initramfs = initramfs::build(&plan, &files)?;
        let (ours, theirs) = ports()?;
        let mut machine = Machine::start(
            &Parts {
                kernel: &kernel.image(),
                initramfs: &initramfs,
                drive_in: &drive_in,
                drive_out: drive_out.file(),
                disks: &disks,
                memory_mib: self
                    .memory_mib
                    .unwrap_or_else(|| memory_for(size) + self.guest_mib),
                cpus: self.cpus,
                timing: self.timing,
                extra_cmdline: &self.cmdline,
                extra_arguments: &self.qemu_arguments,
            },
            &theirs,
        )?;
        // Ours would keep them open when QEMU is gone.
        drop(theirs);
        let raw = terminal
            .is_some()
            .then(terminal::RawMode::enter)
            .transpose()?;
        let end = session::follow(&mut machine, ours, self.timeout, self.timing);
        drop(raw);
        if self.verbose {
            // Asked for, and nothing depends on it.
            let _ = std::io::stderr().write_all(&machine.console());
        }
        let end = end.map_err(|error| {
            anyhow!(
                "{error:#}\nthe lab's last words:\n{}",
                machine.last_words().trim_end()
            )
        })?;
        drop(machine);
        self.conclude(end, &mut drive_out)
    }

    fn conclude(&self, end: End, drive: &mut DriveOut) -> Result<u8> {
        let (ending, collections) = match end {
            End::Signal(signal) => return Ok(status_of_signal(signal)),
            End::Command(ending, collections) => (ending, collections),
        };
        for (index, collection) in collections {
            let (_, host) = self
                .outputs
                .get(index)
                .context("the lab hands back too much")?;
            drive.apply(&collection, host)?;
        }
        Ok(match ending {
            Ending::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Ending::Signaled(signal) => status_of_signal(signal),
            Ending::CannotExecute(message) => {
                eprintln!("lab: cannot execute {message}");
                126
            }
            Ending::NotFound(message) => {
                eprintln!("lab: cannot find {message}");
                127
            }
        })
    }
}

/// The host's busybox, if it runs without any library.
///
/// # Errors
///
/// When `ldd` cannot be run.
pub fn static_busybox() -> Result<Option<PathBuf>> {
    let Some(busybox) = initramfs::find_program("busybox") else {
        return Ok(None);
    };
    Ok(libraries::of(&busybox)?.is_empty().then_some(busybox))
}

fn status_of_signal(signal: i32) -> u8 {
    u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
}

fn plan_modules(files: &[PathBuf]) -> Vec<Module> {
    let stem = |path: &Path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name.split('.').next().unwrap_or_default().to_owned()
    };
    files
        .iter()
        .map(|path| {
            let name = stem(path);
            let parameters = MODULES.iter().find(|(known, _)| *known == name);
            Module {
                path: format!("/modules/{name}.ko"),
                parameters: parameters
                    .map_or("", |(_, parameters)| parameters)
                    .to_owned(),
            }
        })
        .collect()
}

/// Files are unpacked from the page cache into a tmpfs, so each byte may be
/// there twice; the rest is for the command.
fn memory_for(size: u64) -> u64 {
    const BASE_MIB: u64 = 2560;
    BASE_MIB + 2 * size.div_ceil(1 << 20)
}

/// Both ends of every port: ours and QEMU's.
type Ends = (Vec<(Port, UnixStream)>, Vec<(Port, UnixStream)>);

fn ports() -> Result<Ends> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for port in Port::ALL {
        let (our, their) = UnixStream::pair().context("cannot create a socket pair")?;
        ours.push((port, our));
        theirs.push((port, their));
    }
    Ok((ours, theirs))
}
