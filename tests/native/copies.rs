//! Copies that the host makes without the data's coming to the guest.

use std::fs::{self, OpenOptions};

use crate::failures::failing;
use crate::fixture::{MODES, Place, not_tried, on_share, pattern, text};

const MEBIBYTE: usize = 1 << 20;

#[test]
fn a_copy_has_what_was_just_written_and_spares_what_is_around_it() {
    const LONG: usize = 3 * MEBIBYTE + 1234;
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                // Neither is on the host yet where the guest writes back.
                fs::write(mount.join("from"), pattern(1, LONG)).unwrap();
                fs::write(mount.join("to"), pattern(2, 2 * MEBIBYTE)).unwrap();
                let from = fs::File::open(mount.join("from")).unwrap();
                let to = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(mount.join("to"))
                    .unwrap();
                let (mut at, mut to_at) = (1000, 5000);
                let mut copied = 0;
                loop {
                    let (at, to_at) = (Some(&mut at), Some(&mut to_at));
                    match rustix::fs::copy_file_range(&from, at, &to, to_at, 1 << 30).unwrap() {
                        0 => break,
                        count => copied += count,
                    }
                }
                assert_eq!(copied, LONG - 1000);
                let mut expected = pattern(2, 5000);
                expected.extend_from_slice(&pattern(1, LONG)[1000..]);
                assert!(fs::read(mount.join("to")).unwrap() == expected);
                assert_eq!(to.metadata().unwrap().len(), expected.len() as u64);
            },
            |directory| {
                let to = fs::read(directory.join("to")).unwrap();
                assert!(to[..5000] == pattern(2, 5000));
                assert!(to[5000..] == pattern(1, LONG)[1000..]);
            },
        );
    }
}

#[test]
fn cp_lets_the_host_copy() {
    for mode in MODES {
        let script = "echo text >from; if cp from to; then exit 9; fi";
        let output = failing(mode, "copy_file_range:EIO", script);
        assert!(output.status.success(), "{mode}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Input/output error"));
    }
}

#[test]
fn what_the_host_cannot_copy_the_guest_reads_and_writes() {
    for mode in MODES {
        for rule in ["copy_file_range:EXDEV", "copy_file_range:EOPNOTSUPP"] {
            let script = "dd if=/dev/urandom of=from bs=1k count=300; cp from to; cmp from to";
            let output = failing(mode, rule, script);
            assert!(output.status.success(), "{mode}: {output:?}");
        }
    }
}

#[test]
fn a_copy_longer_than_the_host_allows_is_an_error() {
    for mode in MODES {
        // The server's limit, in units of 1024 bytes, and not the program's.
        let place = Place::prepared("ulimit -Sf 64");
        fs::write(place.directory().join("from"), pattern(1, 200_000)).unwrap();
        let script = "ulimit -Sf unlimited; if cp from to; then exit 9; fi; rm to; echo alive >to";
        let output = place.shell(mode, script);
        assert!(output.status.success(), "{mode}: {}", text(&output));
        assert!(
            text(&output).contains("File too large"),
            "{}",
            text(&output)
        );
    }
}

/// Ends with [`NO_LOOP`] where there is no loop device to be had.
const XFS: &str = "truncate -s 320M \"$1/../image\"; mkfs.xfs -q \"$1/../image\"
                   loop=$(losetup --find --show \"$1/../image\") || exit 77
                   trap 'losetup --detach $loop' EXIT
                   mount $loop \"$1\"; losetup --detach $loop; trap - EXIT";
const NO_LOOP: i32 = 77;

#[test]
fn a_copy_shares_its_blocks_where_the_host_can() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("shared blocks on xfs", "only root may mount it");
    }
    for mode in ["cache=never", "cache=auto", "cache=always,writeback"] {
        let place = Place::prepared(XFS);
        let script = "dd if=/dev/urandom of=from bs=64k count=32 conv=fsync
            cp from to; cmp from to
            cd \"$MOUNTPOINT/../shared\"; sync to; filefrag -v to";
        let output = place.shell(mode, script);
        let said = text(&output);
        if output.status.code() == Some(NO_LOOP) {
            return not_tried("shared blocks on xfs", said.trim());
        }
        assert!(output.status.success(), "{mode}: {said}");
        let extent = |line: &&str| line.contains("..") && line.contains(':');
        let extents: Vec<&str> = said.lines().filter(extent).collect();
        assert!(!extents.is_empty(), "{mode}: {said}");
        let shared = |line: &&str| line.contains("shared");
        assert!(extents.iter().all(shared), "{mode}: {said}");
    }
}
