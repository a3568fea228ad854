//! What a program wrote is there, or the program is told.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::fixture::{
    MODES, Place, mapped_modes, not_tried, on_prepared_share, on_share, pattern, text,
};
use crate::mapping;

const SMALL: &str = "mount -t tmpfs -o size=256k none \"$1\"";
const MEBIBYTE: usize = 1 << 20;
/// Those in which the guest has pages of files.
const CACHED: [&str; 4] = [
    "cache=auto",
    "cache=always",
    "cache=auto,writeback",
    "cache=always,writeback",
];

#[test]
fn a_file_that_does_not_fit_is_an_error_at_the_latest_by_fsync() {
    for mode in MODES {
        let place = Place::prepared(SMALL);
        let script = "if dd if=/dev/zero of=file bs=64k count=8 conv=fsync; then exit 9; fi";
        let output = place.shell(mode, script);
        assert!(output.status.success(), "{mode}: {}", text(&output));
        assert!(text(&output).contains("No space left"), "{}", text(&output));
    }
}

#[test]
fn a_mapping_that_does_not_fit_is_an_error_of_msync() {
    for mode in mapped_modes() {
        on_prepared_share(mode, SMALL, |mount| {
            let file = new(&mount.join("file"));
            file.set_len(MEBIBYTE as u64).unwrap();
            let outcome = mapping::write(&file, MEBIBYTE, 0, &pattern(1, MEBIBYTE));
            assert!(
                matches!(outcome, Err(Errno::NOSPC | Errno::IO)),
                "{outcome:?}"
            );
        });
    }
}

fn new(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    options.open(path).unwrap()
}

/// Copies `directory/file` in every way that looks for holes, and compares.
fn copies_are_whole(directory: &Path) {
    let script = "cp --sparse=auto file copied; cmp file copied; install file installed; \
                  cmp file installed; mkdir unpacked; tar -Scf - file | tar -xf - -C unpacked; \
                  cmp file unpacked/file; tar -cf - file | tar -df -; \
                  rm -r copied installed unpacked";
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(directory);
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_file_that_is_being_written_is_copied_whole() {
    for mode in CACHED {
        on_share(
            mode,
            |mount| {
                let path = mount.join("file");
                let mut file = new(&path);
                assert_eq!(fs::metadata(&path).unwrap().len(), 0);
                file.write_all(&pattern(2, MEBIBYTE)).unwrap();
                copies_are_whole(mount);
                file.write_all(&pattern(3, 5000)).unwrap();
                copies_are_whole(mount);
                drop(file);
                copies_are_whole(mount);
            },
            |_| {},
        );
    }
}

#[test]
fn a_file_that_is_being_written_through_memory_is_copied_whole() {
    for mode in mapped_modes() {
        on_share(
            mode,
            |mount| {
                let path = mount.join("file");
                let file = new(&path);
                file.set_len(MEBIBYTE as u64).unwrap();
                drop(file);
                // Known to be without blocks, for as long as it lasts.
                fs::metadata(&path).unwrap();
                let file = OpenOptions::new().read(true).write(true).open(&path);
                let text = pattern(4, MEBIBYTE);
                let copied = || copies_are_whole(mount);
                mapping::write_and(&file.unwrap(), MEBIBYTE, 0, &text, copied).unwrap();
                copies_are_whole(mount);
            },
            |_| {},
        );
    }
}

#[test]
fn what_is_closed_is_told_as_the_host_has_it() {
    for mode in MODES {
        let place = Place::new();
        let script = "truncate -s 1M sparse; dd if=/dev/urandom of=full bs=64k count=2 conv=fsync
                      stat -c %b sparse full
                      cp --sparse=auto sparse copied; stat -c %b copied";
        let output = place.shell(mode, script);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let blocks = |name: &str| {
            let path = place.directory().join(name);
            std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap())
        };
        let expected = format!(
            "{}\n{}\n{}\n",
            blocks("sparse"),
            blocks("full"),
            blocks("copied")
        );
        assert_eq!(said, expected, "{mode}");
    }
}

#[test]
fn a_file_longer_than_the_host_allows_is_an_error() {
    for mode in MODES {
        // The server's limit, in units of 1024 bytes, and not the program's.
        let place = Place::prepared("ulimit -Sf 64");
        let script = "ulimit -Sf unlimited
                      if dd if=/dev/zero of=file bs=64k count=3 conv=fsync; then exit 9; fi
                      rm file; echo alive >file";
        let output = place.shell(mode, script);
        assert!(output.status.success(), "{mode}: {}", text(&output));
        assert!(
            text(&output).contains("File too large"),
            "{}",
            text(&output)
        );
        let kept = fs::read(place.directory().join("file")).unwrap();
        assert_eq!(kept, b"alive\n");
    }
}

/// A file that may only be appended to.
const APPENDED: &str = "mount -t tmpfs tmpfs \"$1\"; echo one >\"$1/log\"; chattr +a \"$1/log\"";

#[test]
fn what_is_appended_where_nothing_else_may_be_is_there_once() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("files to append to", "only root may make them");
    }
    for mode in MODES {
        let place = Place::prepared(APPENDED);
        let host = "$MOUNTPOINT/../shared/log";
        let script = format!(
            "cat log; exec 3>>log; echo two >&3; cat {host}
             echo three >>log; echo four >&3; exec 3>&-; sync log; cat {host}; cat log"
        );
        let output = place.shell(mode, &script);
        assert!(output.status.success(), "{mode}: {}", text(&output));
        let whole = "one\ntwo\nthree\nfour\n";
        let expected = ["one\n", "one\ntwo\n", whole, whole].concat();
        assert_eq!(text(&output), expected, "{mode}");
    }
}

#[test]
fn what_may_only_be_appended_to_is_not_written_through_memory() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("files to append to", "only root may make them");
    }
    for mode in mapped_modes() {
        on_prepared_share(mode, APPENDED, |mount| {
            let mut options = OpenOptions::new();
            let file = options.read(true).append(true).open(mount.join("log"));
            let written = mapping::write(&file.unwrap(), 4, 0, b"O");
            let kept = fs::read(mount.join("../shared/log")).unwrap();
            assert!(written.is_err(), "{mode}");
            assert_eq!(kept, b"one\n", "{mode}");
        });
    }
}

#[test]
fn what_may_only_be_appended_to_is_not_written_elsewhere() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("files to append to", "only root may make them");
    }
    for mode in MODES {
        on_prepared_share(mode, APPENDED, |mount| {
            let mut options = OpenOptions::new();
            let file = options.append(true).open(mount.join("log")).unwrap();
            // On a file system of its own the guest's kernel refuses this already.
            rustix::fs::fcntl_setfl(&file, OFlags::empty()).unwrap();
            let written = rustix::io::pwrite(&file, b"O", 0);
            let synced = rustix::fs::fsync(&file);
            let kept = fs::read(mount.join("../shared/log")).unwrap();
            assert!(written.is_err() || synced.is_err(), "{mode}");
            assert_eq!(kept, b"one\n", "{mode}");
        });
    }
}

#[test]
fn what_others_wrote_to_does_not_run_with_its_owners_rights() {
    for mode in MODES {
        let place = Place::of_root();
        // Asked for before and after, as whoever runs it does.
        let script = "umask 0; for how in write append truncate allocate; do
                      echo x >f; chmod 6777 f; stat -c %a f
                      case $how in
                      write) s='echo y 1<>f';;
                      append) s='echo y >>f';;
                      truncate) s=': >f';;
                      allocate) s='fallocate -l 5000 f';;
                      esac
                      setpriv --reuid 1234 --regid 1234 --clear-groups sh -c \"$s\"
                      stat -c %a f; done; fallocate -l 9000 f; stat -c %a f
                      chmod 6777 f; fallocate -l 12000 f; stat -c %a f";
        let output = place.shell(mode, script);
        let expected = "6777\n777\n".repeat(4) + "777\n6777\n";
        assert_eq!(text(&output), expected, "{mode}");
    }
}

#[test]
fn a_program_that_runs_is_not_emptied() {
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                let path = mount.join("program");
                // By another process: children of other tests have what this one has
                // open for writing.
                let copied = Command::new("cp").arg("/bin/sleep").arg(&path).status();
                assert!(copied.unwrap().success());
                let length = fs::metadata(&path).unwrap().len();
                let flags = OFlags::TRUNC.bits().cast_signed();
                let empty = |writes: bool| {
                    let mut options = OpenOptions::new();
                    options.read(!writes).write(writes).custom_flags(flags);
                    options.open(&path).map(drop)
                };
                let mut running = Command::new(&path).arg("1000").spawn().unwrap();
                let refused = [true, false].map(|writes| {
                    let outcome = empty(writes).map_err(|error| error.kind());
                    (outcome, fs::metadata(&path).unwrap().len())
                });
                running.kill().unwrap();
                running.wait().unwrap();

                let busy = Err(ErrorKind::ExecutableFileBusy);
                // Linux hears of it too late where who truncates does not write.
                let left = match mode.contains("atomic-truncate") {
                    true => 0,
                    false => length,
                };
                assert_eq!(refused, [(busy, length), (busy, left)], "{mode}");
                empty(false).unwrap();
                assert_eq!(fs::metadata(&path).unwrap().len(), 0, "{mode}");
            },
            |directory| {
                let program = fs::metadata(directory.join("program")).unwrap();
                assert_eq!(program.len(), 0, "{mode}");
            },
        );
    }
}
