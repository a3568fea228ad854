//! What a guest can hold of the host: descriptors, and file systems.

use crate::fixture::{Place, text};

/// File systems of the kind that has no file handles, and a server with few
/// descriptors.
const FEW: &str = "mkdir \"$1/../layers\"; cd \"$1/../layers\"; mount -t tmpfs none .
                   cd \"$PWD\"; mkdir lower upper work
                   mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none \"$1\"
                   ulimit -n 190";

#[test]
fn links_made_and_removed_leave_descriptors_for_the_rest() {
    let place = Place::prepared(FEW);
    let script = "mkdir from to; (cd ../shared/from && touch $(seq 3000))
                  cp -l from/* to; rm to/*; ls to; ls from | wc -l
                  echo text >from/2999; cat from/2999";
    let output = place.shell("", script);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(text(&output), "3000\ntext\n");
}

#[test]
fn a_file_system_below_the_share_can_be_unmounted_once_it_is_forgotten() {
    for mode in ["cache=auto", "cache=always,writeback"] {
        let place = Place::prepared(
            "mount -t tmpfs none \"$1\"; mkdir \"$1/m\"; mount -t tmpfs none \"$1/m\"
             mkdir \"$1/m/d\"; echo text >\"$1/m/d/f\"",
        );
        // Who has looked at it knows it; FORGET is not waited for.
        let script = "cat m/d/f; m=$(readlink -f ../shared)/m; test -e $m/d
                      if umount $m; then exit 9; fi
                      echo 2 >/proc/sys/vm/drop_caches
                      for n in $(seq 50); do
                          if umount $m; then break; fi 2>/dev/null; sleep 0.1
                      done
                      test ! -e $m/d; ls -A m; echo empty";
        let output = place.shell(mode, script);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{mode}: {}", text(&output));
        assert_eq!(said, "text\nempty\n", "{mode}");
        assert!(text(&output).contains("busy"), "{mode}: {}", text(&output));
    }
}
