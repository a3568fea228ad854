//! The emulated machine: QEMU's command line, and its end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};
use lab_init::{DRIVE_IN, DRIVE_OUT, Port};
use rustix::io::FdFlags;

use super::disk::Disk;
use super::emulator::Emulator;
use super::initramfs::find_program;

/// How QEMU runs the lab's processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// The clock is the host's.
    #[default]
    Live,
    /// The clock counts instructions and jumps ahead while there is no work:
    /// the same in every run, whatever else the host does. Only for guests of a
    /// single processor, and with a QEMU that is not the packaged one a guest can hang
    /// (see [`super::emulator`]).
    Deterministic,
}

/// What QEMU is given.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a File,
    pub(super) drive_in: &'a File,
    pub(super) drive_out: &'a File,
    pub(super) disks: &'a [Disk],
    pub(super) memory_mib: u64,
    pub(super) cpus: u8,
    pub(super) timing: Timing,
    pub(super) extra_cmdline: &'a str,
    pub(super) extra_arguments: &'a [OsString],
}

/// The oldest processor with AMD-V that QEMU knows by name, without what its
/// emulation does not have and would warn of, and without XSAVE: with it a
/// guest's kernel warns of CPUID leaves that do not follow what it wrote to
/// XCR0, as if KVM never saw the write (which QEMU 7.2 may not intercept; AMD's
/// APM volume 2, 15.9).
const CPU: &str = "EPYC,+svm,+npt,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,\
                   -topoext,-nrip-save,-xsave,-xsaveopt,-xsavec,-xgetbv1,-avx,-avx2,-f16c,-fma";

/// A running QEMU. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Machine {
    child: Child,
    /// Opened once more when QEMU has started.
    _emulator: Option<Emulator>,
    console: File,
    messages: File,
}

impl Machine {
    /// Starts QEMU with one virtio-serial port per stream of `ports`.
    ///
    /// Must be called on the program's main thread: QEMU is set to die with
    /// the thread that started it.
    pub(super) fn start(parts: &Parts<'_>, ports: &[(Port, UnixStream)]) -> Result<Self> {
        let temporary = || tempfile::tempfile().context("cannot create a temporary file");
        let (console, messages) = (temporary()?, temporary()?);
        let mut command = Command::new("setpriv");
        // QEMU goes when this program goes, even when it is killed.
        command.args(["--pdeathsig", "KILL"]);
        let emulator = match parts.timing {
            Timing::Live => None,
            Timing::Deterministic => mended()?,
        };
        match &emulator {
            None => command.arg("qemu-system-x86_64"),
            Some(emulator) => command
                .arg(emulator.path())
                .args(Emulator::arguments())
                .envs(Emulator::environment()),
        };
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.args(["-name", "lab"]);
        // One thread for all processors: with a thread for each, two of three runs
        // of the suite lost a lab to a panic or a hang of its kernel.
        command.args(["-accel", "tcg,thread=single,tb-size=512"]);
        let cpu = match parts.timing {
            Timing::Live => {
                command.args(["-smp", &parts.cpus.to_string()]);
                ""
            }
            Timing::Deterministic => {
                command.args(["-icount", "shift=0,sleep=off", "-smp", "1"]);
                command.args(["-rtc", "base=2026-01-01T00:00:00,clock=vm"]);
                ",-rdrand"
            }
        };
        command.args([
            "-cpu",
            &format!("{CPU}{cpu}"),
            "-m",
            &parts.memory_mib.to_string(),
        ]);
        command.arg("-kernel").arg(parts.kernel);
        command.arg("-initrd").arg(path_of(parts.initramfs));
        command.args(["-append", &cmdline(parts)]);
        command.args([
            "-chardev",
            &format!("file,id=console,path={}", path_of(&console)),
        ]);
        command.args(["-serial", "chardev:console"]);
        command.args(["-device", "virtio-serial-pci"]);
        for (port, stream) in ports {
            let (name, fd) = (port.name(), stream.as_raw_fd());
            command.args(["-chardev", &format!("socket,id={name},fd={fd}")]);
            command.args([
                "-device",
                &format!("virtserialport,chardev={name},name={name}"),
            ]);
            let inherited = rustix::io::fcntl_setfd(stream.as_fd(), FdFlags::empty());
            inherited.context("cannot pass a socket to QEMU")?;
        }
        add_drive(&mut command, DRIVE_IN, parts.drive_in, ",readonly=on");
        add_drive(&mut command, DRIVE_OUT, parts.drive_out, "");
        for disk in parts.disks {
            add_drive(&mut command, &disk.mount.serial, &disk.image, "");
        }
        command.args(parts.extra_arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(messages.try_clone()?)
            .stderr(messages.try_clone()?)
            // A Ctrl-C on the terminal is for us; we end QEMU.
            .process_group(0)
            .spawn()
            .context("cannot run setpriv (package util-linux)")?;
        Ok(Self {
            child,
            _emulator: emulator,
            console,
            messages,
        })
    }

    /// How QEMU ended, if it did.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for QEMU")
    }

    /// The last lines of the lab's console and of QEMU's own messages.
    pub(super) fn last_words(&mut self) -> String {
        let mut words = String::new();
        for file in [&mut self.console, &mut self.messages] {
            for line in tail(file, 30) {
                words.push_str("  | ");
                words.push_str(&line);
                words.push('\n');
            }
        }
        words
    }

    /// The whole console so far.
    pub(super) fn console(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // What cannot be read is not shown.
        let _ = self.console.seek(SeekFrom::Start(0));
        let _ = self.console.read_to_end(&mut bytes);
        bytes
    }
}

/// QEMU for a clock that counts instructions.
fn mended() -> Result<Option<Emulator>> {
    let program = find_program("qemu-system-x86_64").context("there is no qemu-system-x86_64")?;
    let emulator = Emulator::mended(&program)?;
    if emulator.is_none() {
        eprintln!("lab: note: this QEMU is not one that is known, and a guest may hang in it");
    }
    Ok(emulator)
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing that is on a drive outlives the lab, so nothing need be on the host's
/// disk.
fn add_drive(command: &mut Command, serial: &str, file: &File, options: &str) {
    let path = path_of(file);
    command.args([
        "-drive",
        &format!("if=none,id={serial},format=raw,cache=unsafe,file={path}{options}"),
    ]);
    command.args([
        "-device",
        &format!("virtio-blk-pci,drive={serial},serial={serial}"),
    ]);
}

/// A path that opens a file that has no name, as long as this process lives.
pub(super) fn path_of(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn cmdline(parts: &Parts<'_>) -> String {
    let mut line = String::from(
        // A lab that panics has to end, and not to sit there. Whether the timer works
        // is not asked: a busy host may owe its ticks for longer than Linux waits, and
        // then it panics.
        "console=ttyS0 panic=-1 oops=panic no_timer_check \
         mitigations=off random.trust_cpu=on random.trust_bootloader=on \
         tsc=reliable audit=0 apparmor=0 selinux=0",
    );
    if parts.timing == Timing::Deterministic {
        // Where memory is, and so how much of it is in huge pages, is the same as well.
        line.push_str(" nokaslr norandmaps");
    }
    if !parts.extra_cmdline.is_empty() {
        line.push(' ');
        line.push_str(parts.extra_cmdline);
    }
    line
}

fn tail(file: &mut File, lines: usize) -> Vec<String> {
    let end = file.seek(SeekFrom::End(0)).unwrap_or(0);
    let mut bytes = Vec::new();
    if file
        .seek(SeekFrom::Start(end.saturating_sub(16 << 10)))
        .is_err()
        || file.read_to_end(&mut bytes).is_err()
    {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}
