//! What becomes of the files of a run, and of those that were there before.

use std::os::unix::fs::symlink;

use super::*;

fn report(path: &Path) -> OutputFile {
    OutputFile::check("--report", path).unwrap()
}

#[test]
fn checking_leaves_nothing_behind_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    report(&path);
    check_log("--console-log", &path).unwrap();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);

    fs::write(&path, "old").unwrap();
    report(&path);
    check_log("--console-log", &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn writing_replaces_the_contents_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    fs::write(&path, "old and longer").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut reader = File::open(&path).unwrap();
    report(&path).write(b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    assert_eq!(io::read_to_string(&mut reader).unwrap(), "old and longer");
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("real")).unwrap();
    symlink("second", path("first")).unwrap();
    symlink("real/report", path("second")).unwrap();
    for contents in ["not there yet", "there"] {
        report(&path("first")).write(contents.as_bytes()).unwrap();
        assert!(path("first").is_symlink() && path("second").is_symlink());
        let written = fs::read_to_string(path("real/report")).unwrap();
        assert_eq!(written, contents);
    }
    symlink("round", path("round")).unwrap();
    assert!(OutputFile::check("--report", &path("round")).is_err());
}

#[test]
fn a_directory_that_is_not_there_is_found_at_once() {
    let error = OutputFile::check("--report", Path::new("/no/such/report")).unwrap_err();
    assert!(error.to_string().contains("--report /no/such/report"));
    let line = crate::outcome::line::of_error(&error);
    assert!(
        line.ends_with("No such file or directory (os error 2)"),
        "{line}"
    );
}

#[test]
fn a_directory_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path(), Path::new("..")] {
        assert!(OutputFile::check("--report", path).is_err());
        assert!(check_log("--console-log", path).is_err());
    }
}

#[test]
fn a_device_is_written_and_not_replaced() {
    report(Path::new("/dev/null")).write(b"gone").unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    let error = report(Path::new("/dev/full")).write(b"x").unwrap_err();
    assert!(error.to_string().contains("--report /dev/full"), "{error}");
}

fn fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn a_log_is_not_written_to_a_fifo_that_nobody_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo(&path);
    // There may be a reader by the time the run begins.
    check_log("--console-log", &path).unwrap();
    let error = create_log("--console-log", &path).unwrap_err();
    let line = crate::outcome::line::of_error(&error);
    assert!(line.contains("nobody reads the FIFO"), "{line}");

    let mut reader = File::options().read(true).write(true).open(&path).unwrap();
    let mut log = create_log("--console-log", &path).unwrap();
    log.write_all(b"boot").unwrap();
    let mut said = [0; 4];
    io::Read::read_exact(&mut reader, &mut said).unwrap();
    assert_eq!(&said, b"boot");
    // A reader that is slow is waited for.
    let flags = rustix::fs::fcntl_getfl(&log).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
}

#[test]
fn a_fifo_is_written_if_somebody_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo(&path);
    let file = report(&path);
    let error = crate::outcome::line::of_error(&file.write(b"x").unwrap_err());
    assert!(error.contains("nobody reads"), "{error}");

    // Open for both, so that neither end waits for the other.
    let mut reader = File::options().read(true).write(true).open(&path).unwrap();
    file.write(b"said").unwrap();
    let mut said = [0; 4];
    io::Read::read_exact(&mut reader, &mut said).unwrap();
    assert_eq!(&said, b"said");
}

#[test]
fn two_paths_of_one_file_are_seen_to_be_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let same = |one: &str, other: &str| Identity::of(&path(one)) == Identity::of(&path(other));
    fs::create_dir(path("sub")).unwrap();
    symlink("new", path("link")).unwrap();
    for _ in 0..2 {
        assert!(same("new", "sub/../new"));
        assert!(same("new", "link"));
        assert!(!same("new", "newer"));
        fs::write(path("new"), "").unwrap();
    }
    fs::hard_link(path("new"), path("hard")).unwrap();
    assert!(same("new", "hard"));
    assert_eq!(Identity::of(Path::new("/dev/null")), None);
}

/// `/proc` has files that are written, and nobody makes another there.
#[test]
fn a_file_whose_directory_takes_no_other_is_written_itself() {
    let path = Path::new("/proc/thread-self/comm");
    check_log("--console-log", path).unwrap();
    report(path).write(b"written").unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "written\n");
    let read_only = Path::new("/proc/thread-self/no-such-file");
    assert!(OutputFile::check("--report", read_only).is_err());
    assert!(check_log("--console-log", read_only).is_err());
}
