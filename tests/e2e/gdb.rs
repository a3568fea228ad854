//! `--gdb`: a guest under a debugger. The tests speak gdb's remote protocol
//! themselves.
//!
//! Those of breakpoints are ignored ones, for hosts with hardware virtualization: the
//! lab's QEMU (7.2, and later ones) neither leaves a guest at an INT3, though #BP is
//! intercepted, nor takes debug registers from a VMCB.

mod client;
mod program;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use elf::ElfBytes;
use elf::endian::LittleEndian;
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Running, Vm, directory, stretched};
use client::Client;

pub(crate) fn theme() -> Theme {
    Theme::new(
        "gdb",
        [
            Test::new("stops_before_the_first_instruction", PATCHED, first),
            Test::new("breakpoints_stop_the_kernel", PATCHED, breakpoints).ignored(),
            Test::new("debug_registers_stop_the_kernel", PATCHED, debug_registers).ignored(),
            Test::new("processors_are_threads", PATCHED, processors),
            Test::new(
                "interrupts_and_is_left_and_comes_back",
                PATCHED,
                interrupted,
            ),
            Test::new("kills", PATCHED, kills),
            Test::new("the_guests_own_breakpoints_are_its_own", PATCHED, own),
            Test::new("standing_still_costs_no_time", PATCHED, time),
        ],
    )
}

/// A guest that waits for gdb.
struct Debugged {
    running: Running,
    gdb: Client,
    directory: TempDir,
    kernel: Symbols,
}

impl Debugged {
    fn start(fixtures: &Fixtures, vm: impl FnOnce(Vm) -> Vm) -> Result<Self> {
        let directory = directory(&[])?;
        let socket = directory.path().join("gdb");
        let base = Vm::patched(fixtures)?.option("--gdb", &socket);
        let base = base.patience(Duration::from_secs(30));
        let running = vm(base).start(Stdio::null())?;
        let gdb = Client::connect(&socket)?;
        let kernel = Symbols::read(&fixtures.kernel(Kernel::PATCHED)?.join("vmlinux"))?;
        Ok(Self {
            running,
            gdb,
            directory,
            kernel,
        })
    }
}

/// Where the kernel has its functions.
struct Symbols(Vec<u8>);

impl Symbols {
    fn read(vmlinux: &Path) -> Result<Self> {
        let bytes = fs::read(vmlinux).with_context(|| vmlinux.display().to_string())?;
        Ok(Self(bytes))
    }

    fn address(&self, name: &str) -> Result<u64> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(&self.0)?;
        let (symbols, names) = elf.symbol_table()?.context("no symbols")?;
        let symbol = symbols.iter().find(|symbol| {
            let called = names.get(symbol.st_name as usize);
            called.is_ok_and(|called| called == name)
        });
        Ok(symbol.with_context(|| format!("no {name}"))?.st_value)
    }

    /// Bytes of the kernel's, as they are in the file.
    fn bytes(&self, address: u64, length: usize) -> Result<&[u8]> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(&self.0)?;
        let segments = elf.segments().context("no segments")?;
        let segment = segments
            .iter()
            .find(|segment| {
                (segment.p_vaddr..segment.p_vaddr + segment.p_filesz).contains(&address)
            })
            .context("in no segment")?;
        let at = usize::try_from(segment.p_offset + (address - segment.p_vaddr))?;
        self.0.get(at..at + length).context("beyond the file")
    }
}

fn first(fixtures: &Fixtures) -> Result<()> {
    let mut guest = Debugged::start(fixtures, |vm| vm.command(["true"]))?;
    // The 64-bit entry of a bzImage is 0x200 into what is loaded, with the boot
    // parameters in RSI.
    let registers = guest.gdb.registers(1)?;
    ensure!(registers.rip & 0xfff == 0x200, "{registers:x?}");
    let parameters = registers.general[4];
    ensure!(guest.gdb.read(parameters + 0x202, 4)? == b"HdrS");
    // What no memory is at is not there, and nothing else happens.
    ensure!(guest.gdb.ask("mffffffff81000000,8")? == "E0e");
    let console = guest.gdb.step(1)?;
    ensure!(console.starts_with("T05"), "{console}");
    let stepped = guest.gdb.registers(1)?.rip;
    ensure!(
        stepped > registers.rip && stepped < registers.rip + 16,
        "{stepped:x}"
    );
    // Whatever is written can be read again.
    let mut changed = registers;
    changed.general[1] = 0x1122_3344_5566_7788;
    changed.rip = stepped;
    guest.gdb.set_registers(1, &changed)?;
    ensure!(guest.gdb.registers(1)?.general[1] == changed.general[1]);
    guest.gdb.write(parameters + 0x1e8 + 4, &[0x5a])?;
    ensure!(guest.gdb.read(parameters + 0x1e8 + 4, 1)? == [0x5a]);
    guest.gdb.write(parameters + 0x1e8 + 4, &[0])?;
    guest.gdb.detach()?;
    let run = guest.running.finish()?.expect_success()?;
    ensure!(
        run.stderr.contains("-ex 'target remote "),
        "{}",
        run.account()
    );
    ensure!(run.console.contains(" nokaslr"), "{}", run.account());
    ensure!(!guest.directory.path().join("gdb").exists());
    Ok(())
}

/// A guest that does `first`, waits in a loop until there is a file, and then does
/// `rest`. It is interrupted in the loop, and the file is made.
fn interrupted_in_a_loop(
    fixtures: &Fixtures,
    cpus: &str,
    first: &str,
    rest: &str,
) -> Result<(Debugged, TempDir)> {
    let share = directory(&[])?;
    let script = format!("{first} echo ready; while [ ! -e /mnt/t/go ]; do :; done; {rest}");
    let mut guest = Debugged::start(fixtures, |vm| {
        let vm = vm.share(share.path(), "tag=t,cache=never");
        vm.option("--cpus", cpus).script(&script)
    })?;
    guest.gdb.start("vCont;c")?;
    while guest.running.read_line()? != "ready" {}
    let stop = guest.gdb.interrupt()?;
    ensure!(stop.starts_with("T02"), "{stop}");
    fs::write(share.path().join("go"), "")?;
    Ok((guest, share))
}

fn breakpoints(fixtures: &Fixtures) -> Result<()> {
    let (mut guest, _share) =
        interrupted_in_a_loop(fixtures, "1", "", "cat /proc/version; exit 3")?;
    let gdb = &mut guest.gdb;
    let show = guest.kernel.address("version_proc_show")?;
    ensure!(gdb.read(show, 16)? == guest.kernel.bytes(show, 16)?);
    gdb.breakpoint('0', show, 1)?;
    ensure!(gdb.read(show, 1)? == [0xcc]);
    let stop = gdb.go_on()?;
    ensure!(stop.contains("swbreak:"), "{stop}");
    ensure!(gdb.registers(1)?.rip == show);
    gdb.remove_breakpoint('0', show, 1)?;
    ensure!(gdb.read(show, 16)? == guest.kernel.bytes(show, 16)?);
    gdb.step(1)?;
    let stepped = gdb.registers(1)?.rip;
    ensure!(stepped > show && stepped < show + 16, "{stepped:x}");
    ensure!(gdb.go_on()?.starts_with("W00"));
    let run = guest.running.finish()?.expect(3, "exited")?;
    ensure!(
        run.text()?.starts_with("Linux version "),
        "{}",
        run.account()
    );
    ensure!(
        run.report["splats"] == serde_json::json!([]),
        "{}",
        run.report
    );
    Ok(())
}

fn debug_registers(fixtures: &Fixtures) -> Result<()> {
    let mut guest = Debugged::start(fixtures, |vm| vm.script("exit 3"))?;
    let gdb = &mut guest.gdb;
    // Before there is a page table with the kernel in it.
    let start = guest.kernel.address("start_kernel")?;
    gdb.breakpoint('0', start, 1)?;
    let stop = gdb.go_on()?;
    ensure!(stop.contains("swbreak:"), "{stop}");
    ensure!(gdb.registers(1)?.rip == start);
    gdb.remove_breakpoint('0', start, 1)?;
    let exit = guest.kernel.address("do_exit")?;
    gdb.breakpoint('1', exit, 1)?;
    let stop = gdb.go_on()?;
    ensure!(stop.contains("hwbreak:"), "{stop}");
    ensure!(gdb.registers(1)?.rip == exit);
    gdb.remove_breakpoint('1', exit, 1)?;
    let jiffies = guest.kernel.address("jiffies_64")?;
    gdb.breakpoint('2', jiffies, 8)?;
    let stop = gdb.go_on()?;
    ensure!(stop.contains(&format!("watch:{jiffies:x};")), "{stop}");
    gdb.remove_breakpoint('2', jiffies, 8)?;
    ensure!(gdb.go_on()?.starts_with("W00"));
    guest.running.finish()?.expect(3, "exited")?;
    Ok(())
}

fn processors(fixtures: &Fixtures) -> Result<()> {
    let rest = "kill $!; exit 5";
    let busy = "taskset 2 sh -c 'while :; do :; done' & sleep 1;";
    let (mut guest, _share) = interrupted_in_a_loop(fixtures, "2", busy, rest)?;
    let gdb = &mut guest.gdb;
    ensure!(gdb.threads()? == [1, 2]);
    let (one, two) = (gdb.registers(1)?.rip, gdb.registers(2)?.rip);
    // A step of one, while the other stays where it is.
    let stop = gdb.step(2)?;
    ensure!(stop.contains("thread:p01.02"), "{stop}");
    ensure!(gdb.registers(2)?.rip != two);
    ensure!(gdb.registers(1)?.rip == one);
    ensure!(gdb.step(1)?.contains("thread:p01.01"));
    ensure!(gdb.registers(1)?.rip != one);
    ensure!(gdb.go_on()?.starts_with("W00"));
    let run = guest.running.finish()?.expect(5, "exited")?;
    ensure!(
        run.report["splats"] == serde_json::json!([]),
        "{}",
        run.report
    );
    Ok(())
}

fn interrupted(fixtures: &Fixtures) -> Result<()> {
    let (mut guest, _share) = interrupted_in_a_loop(fixtures, "1", "", "exit 4")?;
    let socket = guest.directory.path().join("gdb");
    // A gdb that is gone lets the guest go on, without its breakpoints.
    let exit = guest.kernel.address("do_exit")?;
    guest.gdb.breakpoint('0', exit, 1)?;
    guest.gdb.detach()?;
    drop(guest.gdb);
    // It may have ended before another one comes.
    if let Ok(again) = Client::connect(&socket) {
        drop(again);
    }
    guest.running.finish()?.expect(4, "exited")?;
    Ok(())
}

fn kills(fixtures: &Fixtures) -> Result<()> {
    let mut guest = Debugged::start(fixtures, |vm| vm.command(["true"]))?;
    guest.gdb.kill()?;
    guest.running.finish()?.expect(130, "quit")?;
    Ok(())
}

/// Debug exceptions that gdb does not wait for are the guest's.
fn own(fixtures: &Fixtures) -> Result<()> {
    let script = "/mnt/t/int3; echo $?; /mnt/t/step; echo $?; exit 6";
    let programs = program::programs()?;
    let mut guest = Debugged::start(fixtures, |vm| {
        vm.share(programs.path(), "tag=t,ro").script(script)
    })?;
    // So that they are intercepted.
    let unused = guest.kernel.address("panic")?;
    guest.gdb.breakpoint('1', unused, 1)?;
    ensure!(guest.gdb.go_on()?.starts_with("W00"));
    let run = guest.running.finish()?.expect(6, "exited")?;
    // Ended by SIGTRAP.
    ensure!(run.text()? == "133\n133\n", "{}", run.account());
    Ok(())
}

fn time(fixtures: &Fixtures) -> Result<()> {
    let limit = stretched(Duration::from_secs(3));
    let mut guest = Debugged::start(fixtures, |vm| {
        let limit = format!("{}s", limit.as_secs());
        vm.option("--timeout", limit).command(["sleep", "100000"])
    })?;
    let start = Instant::now();
    while start.elapsed() < limit + Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(500));
        ensure!(guest.gdb.ask("?")?.starts_with("T05"));
    }
    guest.gdb.detach()?;
    let run = guest.running.finish()?.expect(124, "timeout")?;
    ensure!(start.elapsed() > limit * 2, "{:?}", start.elapsed());
    ensure!(
        run.report["splats"] == serde_json::json!([]),
        "{}",
        run.report
    );
    Ok(())
}
