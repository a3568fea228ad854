//! What is kept, found, written and shown of a console.

use super::*;
use std::io::{Read, Seek};

fn console(text: &str) -> ConsoleLog {
    let console = ConsoleLog::new(None, None);
    for byte in text.as_bytes() {
        console.writer().write_all(&[*byte]).unwrap();
    }
    console
}

#[test]
fn a_panic_is_found_with_its_message() {
    let text = "[ 1.0] Kernel panic - not syncing: sysrq triggered crash\r\nmore\r\n";
    assert_eq!(
        console(text).panic().as_deref(),
        Some("sysrq triggered crash")
    );
    assert_eq!(console("all is well\n").panic(), None);
}

#[test]
fn a_halt_is_found() {
    assert!(console("[ 1.0] reboot: System halted\r\n").halted());
    // The kernel's decompressor, when it cannot go on.
    assert!(!console("Out of memory\n\n -- System halted\n").halted());
}

#[test]
fn an_end_is_found_below_what_looks_like_a_mark_of_a_kernel_without_any() {
    for before in [
        "<3>[ 1.0] as dmesg -r has it\n",
        "see <3> below\n",
        "[ 1.0] x\n",
    ] {
        let panic = console(&format!("{before}[ 2.0] Kernel panic - not syncing: oh\n"));
        assert_eq!(panic.panic().as_deref(), Some("oh"), "{before}");
        let panic = console(&format!("{before}Kernel panic - not syncing: oh\n"));
        assert_eq!(panic.panic().as_deref(), Some("oh"), "{before}");
        assert!(console(&format!("{before}[ 2.0] reboot: System halted\n")).halted());
        let splat = console(&format!("{before}[ 2.0] BUG: broken\n"));
        assert!(splat.splats().failure().is_some(), "{before}");
    }
}

#[test]
fn a_panic_on_a_line_without_an_end_is_found() {
    assert_eq!(
        console("Kernel panic - not syncing: oh").panic().as_deref(),
        Some("oh")
    );
}

#[test]
fn the_tail_has_the_last_lines_without_control_characters() {
    let console = console("one\r\ntwo \x1b[2J\r\nthree");
    assert_eq!(console.tail(2), ["two .[2J", "three"]);
}

#[test]
fn a_flood_is_kept_within_bounds() {
    let console = ConsoleLog::new(None, None);
    let mut writer = console.writer();
    writer.write_all(&vec![b'x'; 3 * KEPT]).unwrap();
    writer.write_all(b"\nend").unwrap();
    let record = console.lock();
    assert_eq!(record.end.len(), KEPT);
    assert!(record.line.len() <= LONGEST_LINE);
    drop(record);
    assert_eq!(console.tail(1), ["end"]);
}

#[test]
fn the_log_file_has_every_byte_after_a_flush() {
    let mut file = tempfile::tempfile().unwrap();
    let console = ConsoleLog::new(Some(file.try_clone().unwrap()), None);
    console.writer().write_all(b"a line\r\nand a rest").unwrap();
    console.flush();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a line\r\nand a rest");
}

#[test]
fn a_full_disk_ends_the_log_and_not_the_guest() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let console = ConsoleLog::new(Some(full), None);
    assert!(console.writer().write_all(b"line\nline\n").is_ok());
    assert_eq!(console.tail(9), ["line", "line"]);
    // Said once, however much follows.
    assert!(console.writer().write_all(b"line\nline\n").is_ok());
    console.flush();
    assert_eq!(console.lost_output(), [("the --console-log", Errno::NOSPC)]);
}

#[test]
fn a_rest_that_the_last_flush_cannot_write_is_lost() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let console = ConsoleLog::new(Some(full), None);
    console.writer().write_all(b"no end").unwrap();
    assert_eq!(console.lost_output(), []);
    console.flush();
    assert_eq!(console.lost_output(), [("the --console-log", Errno::NOSPC)]);
}

#[test]
fn a_copy_that_is_lost_is_remembered_unless_nobody_reads_it() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let console = ConsoleLog::new(None, Some(("standard error", full)));
    console.writer().write_all(b"a\nb\n").unwrap();
    assert_eq!(console.lost_output(), [("standard error", Errno::NOSPC)]);

    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let writer = File::from(std::os::fd::OwnedFd::from(writer));
    let console = ConsoleLog::new(None, Some(("standard output", writer)));
    console.writer().write_all(b"a\nb\n").unwrap();
    assert_eq!(console.lost_output(), []);
}

#[test]
fn a_copy_to_what_does_not_block_is_complete() {
    let (mut reader, writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let writer = File::from(std::os::fd::OwnedFd::from(writer));
    let console = ConsoleLog::new(None, Some(("standard output", writer)));
    let said = vec![b'x'; 1 << 20];
    std::thread::scope(|scope| {
        let console = console.clone();
        let said = &said;
        scope.spawn(move || console.writer().write_all(said).unwrap());
        let mut read = vec![0; said.len()];
        reader.read_exact(&mut read).unwrap();
        assert!(read == *said);
    });
    assert_eq!(console.lost_output(), []);
}

fn marked(text: &str) -> ConsoleLog {
    let console = ConsoleLog::new(None, None).judged_by(Policy::default(), Format::of(true, ""));
    for byte in text.as_bytes() {
        console.writer().write_all(&[*byte]).unwrap();
    }
    console
}

#[test]
fn a_splat_is_the_kernels_and_not_what_a_program_quotes() {
    let said = |console: &ConsoleLog| console.splats().list().len();
    for quoted in [
        // By /dev/kmsg, with the kernel's words and its own mark.
        "<12>[    1.0] BUG: quoted\r\n",
        "<8>[    1.0] <0>[    1.0] BUG: quoted\r\n",
        // By /dev/console.
        "BUG: quoted\n",
        "[    1.0] BUG: quoted\n",
    ] {
        let console = marked(&format!("<6>[    0.1] booting\r\n{quoted}"));
        assert_eq!(said(&console), 0, "{quoted}");
    }
    let quoted = marked("<12>[    1.0] Kernel panic - not syncing: quoted\r\n");
    assert_eq!(quoted.panic(), None);

    let unended = marked("<6>[    0.1] booting\r\nno end<1>[    1.0] BUG: true\r\n");
    assert_eq!(said(&unended), 1);
    // Whose times are turned off.
    let untimed = |marked, text: &str| {
        let format = Format::of(marked, "printk.time=0");
        let console = ConsoleLog::new(None, None).judged_by(Policy::default(), format);
        console.writer().write_all(text.as_bytes()).unwrap();
        said(&console)
    };
    let early = "<6>[    0.0] booting\n<6>later\n";
    assert_eq!(untimed(true, &format!("{early}<1>BUG: true\n")), 1);
    assert_eq!(untimed(true, &format!("{early}<12>BUG: quoted\n")), 0);
    assert_eq!(untimed(true, &format!("{early}BUG: quoted\n")), 0);
    assert_eq!(untimed(false, "[    0.0] booting\nBUG: true\n"), 1);
    // The kernel's time is the next best.
    assert_eq!(said(&console("[    0.1] booting\nBUG: quoted\n")), 0);
    assert_eq!(
        said(&console("[    0.1] booting\n[    1.0] BUG: true\n")),
        1
    );
    assert_eq!(said(&console("booting\nBUG: true\n")), 1);
}

#[test]
fn marks_are_not_seen_in_what_is_kept_and_logged() {
    let mut file = tempfile::tempfile().unwrap();
    let log = file.try_clone().unwrap();
    let console =
        ConsoleLog::new(Some(log), None).judged_by(Policy::default(), Format::of(true, ""));
    let said = b"<6>[    0.1] one\r\n<12>[    0.2] two\r\n<3";
    console.writer().write_all(said).unwrap();
    console.flush();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "[    0.1] one\r\n[    0.2] two\r\n<3");
    assert_eq!(console.tail(9), ["[    0.1] one", "[    0.2] two", "<3"]);
}

#[test]
fn a_splat_on_a_line_without_an_end_is_found_at_the_end() {
    let console = marked("<1>[    1.0] BUG: the machine ends he");
    console.flush();
    console.flush();
    assert_eq!(console.splats().list().len(), 1);
}
