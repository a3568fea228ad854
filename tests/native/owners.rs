//! Shares that an ordinary user serves: what root and other users of the guest can
//! do there, with each of `owners=`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::fixture::{Place, text};

/// What programs do that put owners and modes into a tree, and what others may do
/// there. Devices and who owns links are apart.
const TREE: &str = r#"
umask 022
as() { user=$1 groups=$2; shift 2; setpriv --reuid $user --regid $user --groups $groups "$@"; }
mkdir src; echo text >src/file; chown 1:2 src/file; ln -s file src/link
echo 'exit 0' >src/program; chown 7:8 src/program; chmod 4755 src/program
mkdir -m 1777 src/tmp; mkfifo src/pipe; chown 3:4 src/pipe
ln src/file src/hard
cp -a src copied
rsync -aH src/ synced/
tar cf tree.tar src; mkdir unpacked; tar xpf tree.tar -C unpacked
install -o 33 -g 34 -m 640 src/file installed
install -d -o 33 -g 34 -m 2750 directory
# As dpkg unpacks.
cp src/file new.dpkg-new; chown 9:10 new.dpkg-new; chmod 644 new.dpkg-new; mv new.dpkg-new new
# Nothing is too secret for root.
echo secret >none; chmod 0 none; cat none; echo more >>none; cat none
mkdir closed; echo inside >closed/f; chmod 0 closed; cat closed/f; touch closed/g; ls closed
# Members of a directory's group, and others.
mkdir shared; chgrp 44 shared; chmod 2770 shared
as 33 44 sh -c 'echo x >shared/of-33; mkdir shared/below; chmod 2755 shared/of-33'
as 35 35 touch shared/no 2>/dev/null && echo 35 may write
as 34 44 cat shared/of-33
make='umask 0; sysopen(F, $ARGV[0], 0101, 02775) or die'
as 33 44 perl -e "$make" shared/born; mkdir open; chgrp 44 open; chmod 2777 open
as 35 35 perl -e "$make" open/born
# Who made a file in a sticky directory, and who did not.
as 33 33 touch src/tmp/of-33
as 34 34 rm -f src/tmp/of-33 2>/dev/null && echo 34 may remove
as 33 33 sh -c 'echo own >src/tmp/private; chmod 600 src/tmp/private; cat src/tmp/private'
as 34 34 cat src/tmp/private 2>/dev/null && echo 34 may read
as 33 33 chown 34 src/tmp/private 2>/dev/null && echo 33 may give away
# Set-ID bits go with what is written by others, and with the owner.
chmod 6777 src/program; as 34 34 sh -c 'echo >>src/program'; stat -c %a src/program
chmod 6755 src/program; chown 11 src/program; stat -c %a src/program
find . ! -type l ! -name tree.tar -printf '%p %y %U:%G %m %n\n' | LC_ALL=C sort
"#;

const LINKS: &str = r#"
chown -h 12:13 src/link; cp -a src/link other
find . -type l -printf '%p %U:%G %l\n' | LC_ALL=C sort
"#;

const DEVICES: &str = r#"
mknod null c 1 3; chown 0:6 null; chmod 660 null; mknod disk b 8 300
tar cf devices.tar null disk; mkdir there; tar xpf devices.tar -C there
find . \( -type b -o -type c \) -exec stat -c '%n %F %t:%T %u:%g %a' {} + | LC_ALL=C sort
"#;

/// What `script` says in a directory of the host that is root's.
fn on_host(script: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut shell = match rustix::process::geteuid().is_root() {
        true => Command::new("sh"),
        false => {
            let mut sudo = Command::new("sudo");
            sudo.args(["--non-interactive", "sh"]);
            sudo
        }
    };
    let output = (shell.args(["-euc", script]))
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

/// What it says on a share.
fn on_share(place: &Place, options: &str, script: &str) -> String {
    let output = place.shell(options, script);
    assert!(output.status.success(), "{options}: {}", text(&output));
    text(&output)
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = path.symlink_metadata().unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn owners_and_modes_in_attributes_are_as_on_the_host() {
    let script = format!("{TREE}{DEVICES}");
    let expected = on_host(&script);
    assert!(expected.contains("./installed f 33:34 640 1"), "{expected}");
    for cache in ["auto", "never"] {
        let place = Place::of_user_alone();
        let options = format!("owners=xattr,cache={cache}");
        assert_eq!(on_share(&place, &options, &script), expected, "{cache}");
        // A server that comes later sees the same.
        let tail = script
            .lines()
            .rfind(|line| line.starts_with("find . ! "))
            .unwrap();
        let again = on_share(&place, &options, tail);
        assert!(again.contains("./installed f 33:34 640 1"), "{again}");
        assert_eq!(owner(&place.directory().join("installed")), (5, 60));
    }
}

#[test]
fn mapped_owners_and_modes_are_as_on_the_host() {
    let script = format!("{TREE}{LINKS}{DEVICES}");
    let expected = on_host(&script);
    assert!(expected.contains("./other 12:13 file"), "{expected}");
    assert!(expected.contains("./there/null character"), "{expected}");
    for cache in ["auto", "never"] {
        let place = Place::of_user();
        let options = format!("owners=map,cache={cache}");
        assert_eq!(on_share(&place, &options, &script), expected, "{cache}");
        let directory = place.directory();
        assert_eq!(owner(&directory.join("installed")), (100_032, 100_033));
        assert_eq!(owner(&directory.join("none")), (5, 60));
        assert_eq!(owner(&directory.join("src/link")), (100_011, 100_012));
    }
}

#[test]
fn who_is_in_no_map_is_nobody() {
    let place = Place::of_user();
    let said = on_share(
        &place,
        "uid-map=0:5:1,uid-map=1000:100000:10,gid-map=0:60:1,gid-map=1000:100005:10",
        "mkdir -m 1777 open; touch own; chown 1003:1004 own; stat -c %u:%g own
         setpriv --reuid 1009 --regid 1009 --clear-groups touch open/last; stat -c %u:%g open/last
         for who in 1010 999 65534; do
             ! chown $who own 2>&1; ! chgrp $who own 2>&1
             ! setpriv --reuid $who --regid 0 --clear-groups touch open/$who 2>&1
             ! setpriv --reuid 0 --regid $who --clear-groups touch open/$who 2>&1
         done
         ls open; mknod null c 1 3; chown 1003 null; stat -c '%F %u' null",
    );
    assert_eq!(said.matches("Invalid argument").count(), 6, "{said}");
    assert_eq!(
        said.matches("Value too large for defined data type")
            .count(),
        6,
        "{said}"
    );
    assert!(said.starts_with("1003:1004\n1009:1009\n"), "{said}");
    assert!(said.contains("\nlast\n"), "{said}");
    assert!(said.ends_with("character special file 1003\n"), "{said}");
    let directory = place.directory();
    assert_eq!(owner(&directory.join("own")), (100_003, 100_009));
    assert_eq!(owner(&directory.join("open/last")), (100_009, 100_014));
    // What others have on the host.
    let said = on_share(
        &Place::of_user().of(&Place::of_root()),
        "owners=map",
        "stat -c %u:%g .",
    );
    assert_eq!(said, "0:0\n", "the directory is given to the user before");
}

#[test]
fn root_maps_mounts_and_each_share_its_own() {
    for (options, host) in [
        (
            "uid-map=0:0:1,uid-map=1:200000:10,gid-map=0:0:1,gid-map=1:300000:10",
            (200_004, 300_005),
        ),
        (
            "uid-map=0:500000:100,gid-map=0:600000:100",
            (500_005, 600_006),
        ),
    ] {
        let place = Place::of_root();
        let root = options.starts_with("uid-map=0:0:1");
        if !root {
            on_share(&place, "", "chown 500000:600000 .");
        }
        let said = on_share(
            &place,
            options,
            "stat -c %u:%g .; touch f; chown 5:6 f; stat -c %u:%g f; mknod null c 1 3; ls null
             ! chown 4000 f 2>&1; chown 0:0 .; mkdir d; chmod 2775 d; chgrp 3 d; touch d/f
             stat -c %u:%g d/f; setcap cap_net_raw+ep f; getcap f
             ! setpriv --reuid 4000 --regid 0 --clear-groups touch /proc/self/cwd/none 2>&1
             mv d/f d/g; ln d/g d/h; rm d/g; cat d/h; stat -c %h d/h",
        );
        assert!(said.starts_with("0:0\n5:6\nnull\n"), "{said}");
        assert!(said.contains("Value too large"), "{said}");
        assert!(said.contains("\n0:3\nf cap_net_raw=ep\n"), "{said}");
        assert!(said.ends_with("\n1\n"), "{said}");
        assert_eq!(owner(&place.directory().join("f")), host);
    }
    // Not the mount's user, so not even root of the guest may change it.
    let place = Place::of_root();
    fs::write(place.directory().join("others"), "text\n").unwrap();
    let options = "uid-map=0:500000:100,gid-map=0:600000:100";
    let said = on_share(
        &place,
        options,
        "stat -c %u:%g others .; cat others; ! (echo x >>others) 2>&1; ! chown 1 others 2>&1
         ! touch new 2>&1; ls",
    );
    assert!(
        said.starts_with("65534:65534\n65534:65534\ntext\n"),
        "{said}"
    );
    assert!(said.ends_with("\nothers\n"), "{said}");
    assert_eq!(
        fs::read(place.directory().join("others")).unwrap(),
        b"text\n"
    );
}

#[test]
fn what_cannot_be_mapped_is_refused_in_one_line() {
    let refused = |place: Place, options: &str| {
        let output = place.serve(options).arg("true").output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{}", text(&output));
        let said = text(&output);
        let line = said
            .lines()
            .find(|line| line.starts_with("serve: error: "))
            .unwrap();
        line.to_owned()
    };
    let alone = refused(Place::of_user_alone(), "owners=map");
    assert!(
        alone.contains("/etc/subgid has no line for games")
            || alone.contains("/etc/subuid has no line for games"),
        "{alone}"
    );
    let own = "uid-map=0:5:1,gid-map=0:60:1";
    for (options, expected) in [
        (
            "uid-map=0:5:1,uid-map=1:99999:2,gid-map=0:60:1",
            "uid-map=1:99999:2 is beyond what is delegated to games: 65536 from 100000 on; see /etc/subuid",
        ),
        (
            "uid-map=0:5:1,gid-map=0:60:1,gid-map=1:165535:2",
            "gid-map=1:165535:2 is beyond",
        ),
        ("uid-map=0:5:2,gid-map=0:60:1", "uid-map=0:5:2 is beyond"),
        (
            "uid-map=0:100000:9,gid-map=0:60:1",
            "leaves out 5, who runs this",
        ),
        ("uid-map=0:5:1,gid-map=0:100000:9", "leaves out 60"),
    ] {
        let said = refused(Place::of_user(), options);
        assert!(said.contains(expected), "{said}");
    }
    let place = Place::of_user();
    let output = place.serve(own).arg("true").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    // It takes nobody's help.
    let output = place
        .serve_after("PATH=/nowhere", own)
        .arg("/bin/true")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let output = (place.serve_after("PATH=/nowhere", "owners=map"))
        .arg("/bin/true")
        .output()
        .unwrap();
    let said = text(&output);
    assert!(
        said.contains("needs newgidmap: install Debian's package uidmap"),
        "{said}"
    );
}

#[test]
fn the_users_own_files_are_roots_whatever_their_mode() {
    let place = Place::of_user_alone();
    let said = on_share(
        &place,
        "",
        "echo secret >none; chmod 0 none; cat none; echo more >>none; cat none; ls -l none | cut -c -10
         mkdir closed; echo inside >closed/f; chmod 0 closed; cat closed/f; ls closed; mv closed/f closed/g
         chmod 700 closed; rm -r closed
         echo 'echo run' >program; setcap cap_net_raw+ep program; getcap program
         git init -q repository 2>&1; git -C repository status --short; cp -R repository other
         chmod 1777 .; setpriv --reuid 33 --regid 33 --clear-groups sh -c ': >of-33'
         stat -c '%n %u:%g' none of-33 repository/.git
         ! chown 1 none 2>&1; ! chgrp 100 none 2>&1; chown 0:0 none",
    );
    assert!(
        said.starts_with("secret\nsecret\nmore\n----------\ninside\nf\n"),
        "{said}"
    );
    assert!(said.contains("program cap_net_raw=ep\n"), "{said}");
    assert!(
        said.contains("none 0:0\nof-33 0:0\nrepository/.git 0:0\n"),
        "{said}"
    );
    assert_eq!(said.matches("Operation not permitted").count(), 2, "{said}");
    assert_eq!(owner(&place.directory().join("of-33")), (5, 60));
    on_share(
        &Place::of_user_alone(),
        "owners=user,forget-owners",
        "
        mkdir src; echo >src/f; tar cf t.tar --owner 7 --group 8 src; rm -r src; tar xpf t.tar
        install -o 33 -g 33 -m 640 src/f installed; cp -a src copied; rsync -a src/ synced/
        stat -c %u:%g:%a installed | grep -x 0:0:640",
    );
}

#[test]
fn acls_name_the_guests_users() {
    let script = "echo >f; setfacl -m u:0:6,u:33:4,g:0:2,g:34:r f; getfacl -n f
        mkdir d; setfacl -d -m u:0:7,g:34:5 d; getfacl -n d; touch d/below; getfacl -n d/below
        setpriv --reuid 33 --regid 35 --clear-groups cat f";
    let expected = on_host(script);
    assert!(expected.contains("user:33:r--"), "{expected}");
    let place = Place::of_user();
    assert_eq!(on_share(&place, "owners=map,acl", script), expected);
    let acl = on_host(&format!(
        "getfacl -n {}",
        place.directory().join("f").display()
    ));
    for entry in [
        "user:5:rw-",
        "user:100032:r--",
        "group:60:-w-",
        "group:100033:r--",
    ] {
        assert!(acl.contains(entry), "{acl}");
    }
    // Of all users the guest has its root only.
    let place = Place::of_user();
    let said = on_share(
        &place,
        "owners=user,acl",
        "echo >f; setfacl -m u:0:6,g:0:2 f; getfacl -cn f; ! setfacl -m u:33:4 f 2>&1
         ! setfacl -m u:65534:4 f 2>&1; ! setfacl -m g:60:4 f 2>&1",
    );
    assert!(
        said.contains("user:0:rw-\n") && said.contains("group:0:-w-\n"),
        "{said}"
    );
    assert_eq!(said.matches("Invalid argument").count(), 3, "{said}");
    let path = place.directory().join("f");
    let acl = on_host(&format!(
        "setfacl -m u:0:4,u:777:5 {0}; getfacl -n {0}",
        path.display()
    ));
    assert!(
        acl.contains("user:5:rw-") && acl.contains("group:60:-w-"),
        "{acl}"
    );
    // Who has no number here is nobody, and the file can be used.
    for options in ["owners=user,acl", "owners=map,acl"] {
        let place = Place::of_user().of(&place);
        let said = on_share(&place, options, "cat f; getfacl -cn f");
        assert!(said.contains("user:0:rw-\n"), "{options}: {said}");
        assert!(said.contains("user:65534:r"), "{options}: {said}");
    }
}

#[test]
fn acls_in_attributes_are_as_on_the_host() {
    let script = r#"
umask 027
as() { user=$1 groups=$2; shift 2; setpriv --reuid $user --regid $user --groups $groups "$@"; }
echo text >f; setfacl -m u:0:6,u:33:4,g:0:2,g:34:r f; getfacl -n f; stat -c %a f
as 33 33 cat f; as 35 34 cat f; as 35 35 cat f 2>/dev/null && echo 35 may read
chmod 600 f; getfacl -n f; as 33 33 cat f 2>/dev/null && echo 33 may read
chmod 2775 f; getfacl -n f; chown 7:8 f; getfacl -n f
setfacl -x u:33 f; getfacl -n f; setfacl -b f; getfacl -n f; setfacl -m u::5,g::4,o::1 f; stat -c %a f
ls -l f | cut -c -11
# What is made in a directory with a default, whoever makes it and whatever the umask is.
mkdir -m 2777 d; chgrp 44 d; setfacl -d -m u:0:7,g:34:5,o::0 d; getfacl -n d
touch d/below; mkdir d/deeper; touch d/deeper/below; mkfifo d/pipe; ln -s x d/link
as 33 33 sh -c 'umask 077; echo x >d/of-33; mkdir -m 700 d/own; cp d/of-33 d/other'
perl -e 'umask 0; sysopen(F, "d/few", 0101, 0401) or die'
setfacl -d -m u::6,g::5,o::4 d/deeper; touch d/deeper/plain
getfacl -nR d; cp -a d copied; getfacl -nR copied; tar --acls -cf d.tar d; mkdir there
tar --acls -C there -xpf d.tar; getfacl -nR there
setfacl -k d; touch d/again; getfacl -n d d/again; setfacl -d -m u:3:7 f 2>/dev/null && echo a default
# Without a default the umask counts.
mkdir plain; touch plain/f; mkfifo plain/p; stat -c '%a %n' plain plain/*
chmod 1777 .; setfacl -m u:33:0 .; as 33 33 ls >/dev/null 2>&1 && echo 33 may list
as 35 35 ls | LC_ALL=C sort
"#;
    let expected = on_host(script);
    assert!(expected.contains("user:33:r--"), "{expected}");
    for cache in ["auto", "never"] {
        let place = Place::of_user_alone();
        let options = format!("owners=xattr,acl,cache={cache}");
        assert_eq!(on_share(&place, &options, script), expected, "{cache}");
        // The host acts by none of them.
        let below = place.directory().join("d/below");
        let on_host = on_host(&format!("getfacl -n {}", below.display()));
        assert!(!on_host.contains("user:0:"), "{on_host}");
        assert!(on_host.contains("\nother::---\n"), "{on_host}");
    }
}
