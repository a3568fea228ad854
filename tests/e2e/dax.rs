//! Files that the guest maps in a window.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, Variant, Version};

use crate::theme::{Test, Theme};
use crate::vm::{Run, Running, Vm, below, directory};

pub(crate) fn themes() -> Vec<Theme> {
    let theme = |name, version| {
        let kernel = Kernel::Built(version, Variant::Patched);
        let test = |name: &str, body: fn(&Fixtures, Kernel) -> Result<()>| {
            Test::new(name, [kernel], move |fixtures| body(fixtures, kernel))
        };
        Theme::new(
            name,
            [
                test("files_are_used_in_a_window_that_is_smaller", used),
                test("two_guests_share_the_memory_of_a_file", shared),
                test("a_file_that_the_host_cuts_off_ends_nothing", cut_off),
                test("what_cannot_be_mapped_is_served_as_without", not_mapped),
                test("a_program_runs_out_of_a_window", executed),
                test("what_the_host_has_no_space_for_is_told", no_space),
            ],
        )
    };
    vec![
        theme("dax_6_1", Version::V6_1),
        theme("dax_6_12", Version::V6_12),
    ]
}

const MIB: usize = 1 << 20;

/// A static program for the guest, `exchange FILE OLD NEW`: maps two pages of
/// the file shared, waits until the byte at `offset` is the first of OLD, or 0
/// when that is empty, and makes it the first of NEW.
fn exchange(offset: u32) -> Vec<u8> {
    let code = [
        &[
            0x48, 0x8b, 0x7c, 0x24, 0x10, // mov rdi, [rsp + 16]: FILE
            0xbe, 0x02, 0, 0, 0, // mov esi, O_RDWR
            0xb8, 0x02, 0, 0, 0, // mov eax, SYS_open
            0x0f, 0x05, // syscall
            0x85, 0xc0, // test eax, eax
            0x78, 0x5b, // js fail
            0x49, 0x89, 0xc0, // mov r8, rax
            0x31, 0xff, // xor edi, edi
            0xbe, 0, 0x20, 0, 0, // mov esi, 0x2000
            0xba, 0x03, 0, 0, 0, // mov edx, PROT_READ | PROT_WRITE
            0x41, 0xba, 0x01, 0, 0, 0, // mov r10d, MAP_SHARED
            0x45, 0x31, 0xc9, // xor r9d, r9d
            0xb8, 0x09, 0, 0, 0, // mov eax, SYS_mmap
            0x0f, 0x05, // syscall
            0x48, 0x85, 0xc0, // test rax, rax
            0x78, 0x37, // js fail
            0x48, 0x89, 0xc3, // mov rbx, rax
            0x4c, 0x8b, 0x64, 0x24, 0x18, // mov r12, [rsp + 24]: OLD
            0x45, 0x8a, 0x24, 0x24, // mov r12b, [r12]
            0x4c, 0x8b, 0x6c, 0x24, 0x20, // mov r13, [rsp + 32]: NEW
            0x45, 0x8a, 0x6d, 0x00, // mov r13b, [r13]
            0x44, 0x38, 0xa3, // again: cmp [rbx + offset], r12b
        ][..],
        &offset.to_le_bytes(),
        &[
            0x74, 0x09, // je there
            0xb8, 0x18, 0, 0, 0, // mov eax, SYS_sched_yield
            0x0f, 0x05, // syscall
            0xeb, 0xee, // jmp again
            0x44, 0x88, 0xab, // there: mov [rbx + offset], r13b
        ],
        &offset.to_le_bytes(),
        &[
            0x31, 0xff, // xor edi, edi
            0xb8, 0x3c, 0, 0, 0, // mov eax, SYS_exit
            0x0f, 0x05, // syscall
            0xbf, 0x01, 0, 0, 0, // fail: mov edi, 1
            0xb8, 0x3c, 0, 0, 0, // mov eax, SYS_exit
            0x0f, 0x05, // syscall
        ],
    ]
    .concat();
    program(&code)
}

/// An executable of this code alone.
fn program(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_EXEC for EM_X86_64, version 1.
    for half in [2_u16, 62, 1, 0] {
        elf.extend(half.to_le_bytes());
    }
    // Entry, program headers, no sections.
    for long in [BASE + HEADERS, 64, 0] {
        elf.extend(long.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable: all of the file.
    for word in [1_u32, 5] {
        elf.extend(word.to_le_bytes());
    }
    for long in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(long.to_le_bytes());
    }
    elf.extend(code);
    elf
}

/// A directory with `exchange` in it, and with `busybox`.
fn programs(fixtures: &Fixtures, offset: u32) -> Result<TempDir> {
    let tools = directory(&[("exchange", &exchange(offset))])?;
    fs::copy(&fixtures.busybox, below(&tools, "busybox"))?;
    for name in ["exchange", "busybox"] {
        fs::set_permissions(below(&tools, name), fs::Permissions::from_mode(0o755))?;
    }
    Ok(tools)
}

/// How often the guest has asked for a mapping, or to take some away.
fn mappings(run: &Run, opcode: &str) -> u64 {
    let shares = run.metrics["shares"].as_object();
    let shares = shares.into_iter().flat_map(serde_json::Map::values);
    let counts = shares.filter_map(|share| share["operations"][opcode]["count"].as_u64());
    counts.sum()
}

fn used(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = programs(fixtures, 0)?;
    // Not the same in any two pages, and larger than the window.
    let large: Vec<u8> = (0..9 * MIB / 8)
        .flat_map(|number| (number as u64).to_le_bytes())
        .collect();
    fs::write(below(&share, "large"), &large)?;
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=t,dax=8M")
        .patience(Duration::from_secs(15))
        .script(
            "set -e
             cd /mnt/t
             ./busybox md5sum large large
             printf in-place | dd of=large bs=1 seek=5000000 conv=notrunc 2>/dev/null
             cp large copy && cmp large copy
             printf more >> copy
             echo short > copy && cat copy
             ./busybox tail -c 8 large | ./busybox od -An -tx1
             dd if=large of=direct bs=4096 skip=100 count=300 conv=fsync 2>/dev/null
             ./busybox md5sum direct",
        )
        .run()?
        .expect_success()?;
    let sum = crate::tree::md5sum(&below(&share, "direct"))?;
    let lines: Vec<&str> = run.text()?.lines().collect();
    let [one, two, short, end, direct] = lines[..] else {
        anyhow::bail!("{}", run.account());
    };
    ensure!(one == two && short == "short", "{}", run.account());
    ensure!(direct.starts_with(&sum), "{}", run.account());
    let last = large[large.len() - 8..].iter();
    let last: Vec<String> = last.map(|byte| format!("{byte:02x}")).collect();
    ensure!(end.trim() == last.join(" "), "{}", run.account());
    let mut expected = large;
    expected[5_000_000..5_000_008].copy_from_slice(b"in-place");
    ensure!(fs::read(below(&share, "large"))? == expected);
    ensure!(fs::read(below(&share, "direct"))? == expected[409_600..][..1_228_800]);
    ensure!(mappings(&run, "SETUPMAPPING") > 4, "{}", run.metrics);
    ensure!(mappings(&run, "REMOVEMAPPING") > 0, "{}", run.metrics);
    Ok(())
}

/// A guest that runs `script` with `share` and a window.
fn with_window(
    fixtures: &Fixtures,
    kernel: Kernel,
    share: &TempDir,
    script: &str,
) -> Result<Running> {
    Vm::booting(fixtures, kernel)?
        .option("--memory", "256M")
        .share(share.path(), "tag=t,dax=16M")
        .patience(Duration::from_secs(15))
        .script(script)
        .start(Stdio::piped())
}

fn shared(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = programs(fixtures, 0)?;
    fs::write(below(&share, "file"), [b'a'; 0x2000])?;
    let mut one = with_window(
        fixtures,
        kernel,
        &share,
        "cd /mnt/t && echo ready && read word && ./exchange file a b && ./exchange file c d",
    )?;
    let mut two = with_window(
        fixtures,
        kernel,
        &share,
        "cd /mnt/t && echo ready && read word && ./exchange file b c && ./exchange file d e",
    )?;
    for guest in [&mut one, &mut two] {
        ensure!(guest.read_line()? == "ready");
    }
    two.stdin()?.write_all(b"go\n")?;
    one.stdin()?.write_all(b"go\n")?;
    for guest in [one, two] {
        let run = guest.finish()?.expect_success()?;
        ensure!(mappings(&run, "SETUPMAPPING") > 0, "{}", run.metrics);
    }
    let file = fs::read(below(&share, "file"))?;
    ensure!(file[0] == b'e' && file[1..] == [b'a'; 0x1fff]);
    Ok(())
}

fn cut_off(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = programs(fixtures, 0x1000)?;
    let file = below(&share, "file");
    fs::write(&file, [b'a'; 0x2000])?;
    let mut running = with_window(
        fixtures,
        kernel,
        &share,
        "cd /mnt/t && ./exchange file a b && echo ready && ./exchange file '' x && echo zero &&
         read word && cat file",
    )?;
    ensure!(running.read_line()? == "ready");
    let host = fs::File::options().write(true).open(&file)?;
    // The second program has it mapped by then, or will have.
    std::thread::sleep(Duration::from_secs(1));
    host.set_len(100)?;
    ensure!(running.read_line()? == "zero");
    ensure!(fs::metadata(&file)?.len() == 100);
    fs::write(&file, [&[b'n'; 0x1fff][..], b"\n"].concat())?;
    // What the guest may keep about names and attributes it may keep so long.
    std::thread::sleep(Duration::from_secs(2));
    running.stdin()?.write_all(b"go\n")?;
    let run = running.finish()?.expect_success()?;
    ensure!(
        run.text()? == "n".repeat(0x1fff) + "\n",
        "{}",
        run.account()
    );
    ensure!(mappings(&run, "SETUPMAPPING") > 0, "{}", run.metrics);
    Ok(())
}

fn not_mapped(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[("file", b"content\n")])?;
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=t,dax=16M")
        .share(
            std::path::Path::new("/proc/sys/kernel"),
            "tag=p,ro,acl,dax=16M",
        )
        .script(
            "cat /mnt/p/ostype && umount /mnt/t && mount -t virtiofs -o dax=never t /mnt/t &&
             cat /mnt/t/file && umount /mnt/t && mount -t virtiofs -o dax=always t /mnt/t &&
             cat /mnt/t/file",
        )
        .run()?
        .expect_success()?;
    ensure!(
        run.text()? == "Linux\ncontent\ncontent\n",
        "{}",
        run.account()
    );
    ensure!(mappings(&run, "SETUPMAPPING") == 1, "{}", run.metrics);
    // Who asked for it is told, of the share that has no use for it.
    let notes = run.report["notes"].as_array().context("no notes")?;
    let [dax, acl] = [0, 1].map(|index| notes[index].as_str().unwrap_or_default());
    for (note, part) in [(dax, "dax= does nothing"), (acl, "acl does nothing")] {
        ensure!(note.starts_with("in /proc/sys/kernel "), "{notes:?}");
        ensure!(note.contains(part), "{notes:?}");
        ensure!(
            run.stderr.contains(&format!("vmm: note: {note}\n")),
            "{}",
            run.stderr
        );
    }
    ensure!(notes.len() == 2, "{notes:?}");
    Ok(())
}

fn executed(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = programs(fixtures, 0)?;
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=t,dax=16M")
        .script("/mnt/t/busybox echo runs")
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "runs\n", "{}", run.account());
    ensure!(mappings(&run, "SETUPMAPPING") > 0, "{}", run.metrics);
    let read = &run.metrics["shares"]["t"]["operations"]["READ"]["count"];
    ensure!(
        read.as_u64().is_none_or(|count| count == 0),
        "{}",
        run.metrics
    );
    Ok(())
}

fn no_space(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let (share, full) = (programs(fixtures, 0x1000)?, directory(&[])?);
    // The program stores into a hole.
    let run = Vm::booting(fixtures, kernel)?
        .tmpfs("64k", full.path())
        .share(share.path(), "tag=t,ro")
        .share(full.path(), "tag=full,dax=8M")
        .patience(Duration::from_secs(15))
        .script(
            "cd /mnt/full
             dd if=/dev/null of=file bs=1 seek=8192 2>/dev/null
             dd if=/dev/zero of=fill bs=4096 2>/dev/null
             /mnt/t/exchange file '' x; echo $?
             rm fill
             /mnt/t/exchange file '' x; echo $?
             tail -c 4096 file | tr -d '\\0'; echo",
        )
        .run()?
        .expect_success()?;
    // SIGBUS.
    ensure!(run.text()? == "135\n0\nx\n", "{}", run.account());
    Ok(())
}
