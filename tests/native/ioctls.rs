//! Flags of files, through `chattr(1)` and `lsattr(1)`.

use crate::fixture::{Place, not_tried, text};

/// What the two say of a file and a directory, of the mount and of the host.
const SCRIPT: &str = r#"
attributes() {
    cd "$1"
    umask 022
    touch $2-file; mkdir $2-directory; ln -s $2-file $2-link; mkfifo $2-pipe
    for what in file directory; do
        for flags in +d +A -d +i -i +a -a =; do
            chattr $flags $2-$what 2>&1 || echo failed: $flags
            lsattr -d $2-$what 2>&1
        done
        chattr -p 7 $2-$what 2>&1 || echo no project
        lsattr -pd $2-$what 2>&1
    done
    chattr +i $2-file || :
    if echo text >$2-file; then echo written; fi 2>/dev/null
    chattr -i $2-file || :
    for what in link pipe; do lsattr $2-$what 2>/dev/null || echo none; done
}
(attributes . guest) | sed s/guest-// >"$MOUNTPOINT/../guest"
(attributes "$MOUNTPOINT/../shared" host) | sed s/host-// >"$MOUNTPOINT/../host"
diff "$MOUNTPOINT/../guest" "$MOUNTPOINT/../host"
grep -q -- --d-- "$MOUNTPOINT/../guest"
"#;

const TMPFS: &str = "mount -t tmpfs tmpfs \"$1\"";

/// Ends with [`NO_LOOP`] where the host, as many a container, has no loop device to be
/// had.
const EXT4: &str = "truncate -s 32M \"$1/../image\"; mkfs.ext4 -q \"$1/../image\"
                    loop=$(losetup --find --show \"$1/../image\") || exit 77
                    trap 'losetup --detach $loop' EXIT
                    mount $loop \"$1\"; losetup --detach $loop; trap - EXIT";
const NO_LOOP: i32 = 77;

#[test]
fn flags_are_those_of_the_host() {
    let place = Place::prepared(TMPFS);
    let output = place.shell("", SCRIPT);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn flags_are_those_of_ext4() {
    if !rustix::process::geteuid().is_root() {
        return not_tried("flags on ext4", "only root may mount it");
    }
    let place = Place::prepared(EXT4);
    let output = place.shell("", SCRIPT);
    let said = text(&output);
    if output.status.code() == Some(NO_LOOP) {
        return not_tried("flags on ext4", said.trim());
    }
    assert!(output.status.success(), "{said}");
}

#[test]
fn a_read_only_share_shows_flags_and_changes_none() {
    let place = Place::prepared(TMPFS);
    let script = "lsattr -d . >/dev/null; touch $MOUNTPOINT/../shared/file; lsattr file >before
        if chattr +d file; then exit 9; fi; chattr +d . || true; lsattr file | diff before - && echo same";
    let script = script.replace("before", "$MOUNTPOINT/../before");
    let output = place.shell("ro", &script);
    let said = text(&output);
    assert!(output.status.success() && said.contains("same"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

/// It takes a capability of the host's own root, which a user namespace does not give.
#[test]
fn only_root_of_the_host_makes_files_immutable() {
    for owners in ["user", "map", "xattr"] {
        let place = Place::of_user();
        let script = "touch file; mkdir directory; chattr +d file; lsattr file | grep -q -- d
            for what in file directory; do for flag in i a; do
                if chattr +$flag $what; then exit 9; fi
            done; done 2>&1
            echo text >file; echo more >>file; rm file; rmdir directory";
        let output = place.shell(&format!("owners={owners}"), script);
        let said = text(&output);
        assert!(output.status.success(), "owners={owners}: {said}");
        let refused = said.matches("Operation not permitted").count();
        assert_eq!(refused, 4, "owners={owners}: {said}");
    }
    let output = Place::of_root().shell(
        "owners=map,uid-map=0:0:10,gid-map=0:0:10",
        "touch file; chattr +i file; if rm -f file; then exit 9; fi; chattr -i file; rm file",
    );
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn what_is_not_known_is_enotty() {
    // FIGETBSZ is the kernel's own; TCGETS is nobody's.
    let place = Place::new();
    let output = place.shell(
        "",
        "echo x >file; if tty -s <file; then exit 9; fi; cat file",
    );
    assert_eq!(output.stdout, b"x\n", "{}", text(&output));
}
