//! Owners that a process without rights keeps in an attribute.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{RenameFlags, XattrFlags};
use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{
    Data, GUEST_ROOT, Page, Share, attribute, by, moved_to, name, node, opening, writing,
};
use super::unprivileged::{directory, unprivileged};
use crate::filesystem::{
    Attributes, Caller, NewNode, NodeId, ROOT, Request, Result, SetAttributes,
};
use crate::passthrough::{Config, Error, Owners, Passthrough};

const ALICE: Caller = Caller {
    uid: 1234,
    gid: 2345,
    pid: 7,
    supplementary_gid: None,
};
const NAME: &std::ffi::CStr = c"user.containers.override_stat";
const FORMAT: u32 = libc::S_IFMT;

fn config() -> Config {
    Config {
        owners: Owners::Xattr,
        ..Config::default()
    }
}

/// Serves a directory with the file `f` of the process's own user, who is not
/// root.
fn kept(body: impl FnOnce(&Passthrough, &Path) + Send) {
    let place = directory(65_534, 0o644);
    unprivileged(place.path(), config(), |fs| body(&fs, place.path()));
}

fn root(node: NodeId) -> Request<'static> {
    by(&GUEST_ROOT, node)
}

/// Owner, group and mode.
fn told(attributes: &Attributes) -> (u32, u32, u32) {
    (attributes.uid, attributes.gid, attributes.mode & 0o7777)
}

fn found(fs: &Passthrough, child: &str) -> (NodeId, Attributes) {
    let entry = fs.lookup(&root(ROOT), &name(child)).unwrap();
    let attributes = fs.getattr(&root(entry.inode), None).unwrap().0;
    assert_eq!(told(&attributes), told(&entry.attributes));
    (entry.inode, attributes)
}

fn set(fs: &Passthrough, node: NodeId, changes: SetAttributes) -> Result<(u32, u32, u32)> {
    Ok(told(&fs.setattr(&root(node), None, &changes)?.0))
}

fn owner(uid: u32, gid: u32) -> SetAttributes {
    SetAttributes {
        uid: Some(uid),
        gid: Some(gid),
        kill_privileges: true,
        ..SetAttributes::default()
    }
}

fn mode(mode: u32) -> SetAttributes {
    SetAttributes {
        mode: Some(mode),
        ..SetAttributes::default()
    }
}

fn host_mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

fn value(path: &Path) -> String {
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(path, NAME, &mut value[..]).unwrap();
    String::from_utf8(value[..length].to_vec()).unwrap()
}

fn make(fs: &Passthrough, caller: &Caller, child: &str, mode: u32) -> NodeId {
    let flags = libc::O_RDWR.cast_unsigned();
    let made = fs.create(
        &by(caller, ROOT),
        &name(child),
        &node(mode),
        opening(flags, false),
    );
    made.unwrap().0.inode
}

#[test]
fn whatever_the_guest_makes_is_whose_it_is_in_the_guest() {
    kept(|fs, path| {
        fs.mkdir(&by(&ALICE, ROOT), &name("d"), &node(0o1777))
            .unwrap();
        make(fs, &ALICE, "file", 0o640);
        make(fs, &GUEST_ROOT, "program", 0o4755);
        fs.symlink(&by(&ALICE, ROOT), &name("l"), &name("target"))
            .unwrap();
        for (child, owner, on_host, text) in [
            ("d", (1234, 2345, 0o1777), 0o700, "1234:2345:01777"),
            ("file", (1234, 2345, 0o640), 0o600, "1234:2345:0640"),
            ("program", (0, 0, 0o4755), 0o700, "0:0:04755"),
        ] {
            assert_eq!(told(&found(fs, child).1), owner, "{child}");
            assert_eq!(host_mode(&path.join(child)), on_host, "{child}");
            assert_eq!(value(&path.join(child)), text);
            let own = rustix::process::geteuid().as_raw();
            assert_eq!(path.join(child).metadata().unwrap().uid(), own);
        }
        // There is no room in a link; nor in what the host makes.
        assert_eq!(told(&found(fs, "l").1), (0, 0, 0o777));
        assert_eq!(told(&found(fs, "f").1), (0, 0, 0o644));
        let nobody = Caller {
            uid: u32::MAX,
            ..ALICE
        };
        let refused = fs.mkdir(&by(&nobody, ROOT), &name("no"), &node(0o755));
        assert_eq!(refused.map(drop), Err(Errno::INVAL));
    });
}

#[test]
fn a_server_with_every_right_owns_all_files_too() {
    let share = Share::with(config());
    make(&share.fs, &ALICE, "file", 0o640);
    assert_eq!(told(&found(&share.fs, "file").1), (1234, 2345, 0o640));
    let host = share.path("file").metadata().unwrap();
    let own = rustix::process::geteuid().as_raw();
    assert_eq!((host.uid(), host_mode(&share.path("file"))), (own, 0o600));
}

#[test]
fn devices_fifos_and_sockets_are_empty_files() {
    kept(|fs, path| {
        let kinds = [
            ("char", libc::S_IFCHR, 0x103),
            ("block", libc::S_IFBLK, 0x800),
            ("pipe", libc::S_IFIFO, 0),
            ("socket", libc::S_IFSOCK, 0),
        ];
        for (child, kind, rdev) in kinds {
            let new = NewNode {
                mode: kind | 0o660,
                umask: 0,
                rdev,
            };
            fs.mknod(&root(ROOT), &name(child), &new).unwrap();
            assert!(path.join(child).metadata().unwrap().file_type().is_file());
        }
        // As somebody else finds them.
        let at = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&fs.root.fd())
        );
        let again = Passthrough::new(Path::new(&at), config()).unwrap();
        for fs in [fs, &again] {
            for (child, kind, rdev) in kinds {
                let (inode, attributes) = found(fs, child);
                assert_eq!(
                    (attributes.mode, attributes.rdev),
                    (kind | 0o660, rdev),
                    "{child}"
                );
                let opened = fs.open(&root(inode), opening(0, false));
                assert_eq!(opened.map(drop), Err(Errno::NXIO));
            }
        }
        let (inode, _) = found(fs, "char");
        assert_eq!(set(fs, inode, owner(5, 6)), Ok((5, 6, 0o660)));
        assert_eq!(set(fs, inode, mode(0o600)), Ok((5, 6, 0o600)));
        assert_eq!(value(&path.join("char")), "5:6:0600:char-1-3");
        // What a listing says they are.
        for plus in [false, true] {
            let opened = fs.opendir(&root(ROOT)).unwrap();
            let mut page = Page::new(plus, 10_000);
            fs.readdir(&root(ROOT), opened.handle, 0, &mut page)
                .unwrap();
            for (child, kind, _) in kinds {
                let listed = page
                    .entries
                    .iter()
                    .find(|entry| entry.name == child)
                    .unwrap();
                assert_eq!(listed.kind, if plus { kind >> 12 } else { 0 }, "{child}");
            }
        }
    });
}

#[test]
fn owners_and_modes_are_changed_and_go_with_the_file() {
    kept(|fs, path| {
        let inode = make(fs, &ALICE, "a", 0o644);
        let directory = fs.mkdir(&root(ROOT), &name("d"), &node(0o755)).unwrap();
        assert_eq!(set(fs, inode, owner(10, 20)), Ok((10, 20, 0o644)));
        assert_eq!(set(fs, inode, mode(0o6755)), Ok((10, 20, 0o6755)));
        assert_eq!(host_mode(&path.join("a")), 0o700);
        // chown(2) takes them away, of files.
        let group = SetAttributes {
            gid: Some(30),
            ..owner(0, 0)
        };
        let group = SetAttributes { uid: None, ..group };
        assert_eq!(set(fs, inode, group), Ok((10, 30, 0o755)));
        // Also where the guest's kernel does not ask for it.
        assert_eq!(set(fs, inode, mode(0o6755)), Ok((10, 30, 0o6755)));
        let silent = SetAttributes {
            kill_privileges: false,
            ..group
        };
        assert_eq!(set(fs, inode, silent), Ok((10, 30, 0o755)));
        assert_eq!(set(fs, directory.inode, mode(0o2755)), Ok((0, 0, 0o2755)));
        assert_eq!(set(fs, directory.inode, owner(1, 2)), Ok((1, 2, 0o2755)));

        fs.link(&root(directory.inode), &name("b"), inode).unwrap();
        fs.rename(&root(ROOT), &name("a"), moved_to(ROOT, &name("c"), 0))
            .unwrap();
        let exchange = RenameFlags::EXCHANGE.bits();
        fs.rename(
            &root(ROOT),
            &name("c"),
            moved_to(ROOT, &name("f"), exchange),
        )
        .unwrap();
        assert_eq!(told(&found(fs, "f").1), (10, 30, 0o755));
        assert_eq!(told(&found(fs, "c").1), (0, 0, 0o644));
        assert_eq!(value(&path.join("d/b")), "10:30:0755");

        // A link's owner is forgotten.
        fs.symlink(&root(ROOT), &name("l"), &name("f")).unwrap();
        let link = found(fs, "l").0;
        assert_eq!(set(fs, link, owner(7, 8)), Ok((0, 0, 0o777)));
        assert_eq!(told(&found(fs, "f").1), (10, 30, 0o755));
        assert_eq!(set(fs, inode, owner(u32::MAX, 1)), Err(Errno::INVAL));

        let new = node(0o600);
        let flags = opening(libc::O_RDWR.cast_unsigned(), false);
        let made = fs.tmpfile(&by(&ALICE, ROOT), &new, flags).unwrap().0;
        assert_eq!(told(&made.attributes), (1234, 2345, 0o600));
        // In a directory that gives its group.
        let inside = fs.mkdir(&by(&ALICE, directory.inode), &name("s"), &node(0o700));
        assert_eq!(told(&inside.unwrap().attributes), (1234, 2, 0o2700));
    });
}

#[test]
fn no_mode_keeps_anything_from_the_guests_root() {
    kept(|fs, path| {
        let inode = make(fs, &ALICE, "none", 0o666);
        assert_eq!(set(fs, inode, mode(0)), Ok((1234, 2345, 0)));
        // Of the host's making, and to be written.
        std::fs::write(path.join("read"), "text").unwrap();
        let bits = std::fs::Permissions::from_mode(0o444);
        std::fs::set_permissions(path.join("read"), bits).unwrap();
        if rustix::process::geteuid().as_raw() == 65_534 {
            // Made by a thread that is nobody's.
            assert_eq!(path.join("read").metadata().unwrap().uid(), 65_534);
        }
        for (child, mode) in [("none", 0), ("read", 0o444)] {
            let (inode, _) = found(fs, child);
            let opened = fs.open(&root(inode), opening(libc::O_RDWR.cast_unsigned(), false));
            let args = writing(opened.unwrap().handle, 0, b"T", 0);
            assert_eq!(fs.write(&root(inode), &args, &mut Data(b"T")), Ok(1));
            assert_eq!(found(fs, child).1.mode & 0o7777, mode, "{child}");
        }
        // Nor does it give the host's others more than it says.
        for (bits, guest, expected) in [(0o644, 0o600, 0o600), (0o640, 0o666, 0o640)] {
            std::fs::write(path.join("shown"), "").unwrap();
            let bits = std::fs::Permissions::from_mode(bits);
            std::fs::set_permissions(path.join("shown"), bits).unwrap();
            let (inode, _) = found(fs, "shown");
            assert_eq!(set(fs, inode, mode(guest)), Ok((0, 0, guest)));
            assert_eq!(host_mode(&path.join("shown")), expected);
            std::fs::remove_file(path.join("shown")).unwrap();
        }
    });
}

#[test]
fn set_id_bits_go_with_a_change_of_the_contents() {
    kept(|fs, _| {
        let bits = |inode| fs.getattr(&root(inode), None).unwrap().0.mode & 0o7777;
        let inode = make(fs, &GUEST_ROOT, "program", 0o6755);
        let opened = fs.open(&root(inode), opening(libc::O_RDWR.cast_unsigned(), false));
        let handle = opened.unwrap().handle;
        let mut args = writing(handle, 0, b"x", 0);
        fs.write(&root(inode), &args, &mut Data(b"x")).unwrap();
        assert_eq!(bits(inode), 0o6755);
        args.kill_privileges = true;
        fs.write(&by(&ALICE, inode), &args, &mut Data(b"x"))
            .unwrap();
        assert_eq!(bits(inode), 0o755);

        set(fs, inode, mode(0o4755)).unwrap();
        let shorter = SetAttributes {
            size: Some(0),
            kill_privileges: true,
            ..SetAttributes::default()
        };
        assert_eq!(set(fs, inode, shorter), Ok((0, 0, 0o755)));
        // Their attributes are not to be kept by the guest.
        set(fs, inode, mode(0o4755)).unwrap();
        let timeout = fs.getattr(&root(inode), None).unwrap().1;
        assert!(timeout.is_zero());
    });
}

#[test]
fn the_attribute_is_nobodys_in_the_guest() {
    kept(|fs, path| {
        let inode = make(fs, &ALICE, "file", 0o644);
        let forged = attribute(b"0:0:04755", 0, false);
        for node in [inode, ROOT] {
            let set = fs.setxattr(&root(node), NAME, &forged);
            assert_eq!(set, Err(Errno::OPNOTSUPP));
        }
        assert_eq!(fs.removexattr(&root(inode), NAME), Err(Errno::OPNOTSUPP));
        let got = fs.getxattr(&root(inode), NAME, 100);
        assert_eq!(got, Err(Errno::OPNOTSUPP));
        fs.setxattr(&root(inode), c"user.x", &forged).unwrap();
        assert_eq!(fs.listxattr(&root(inode), 0).unwrap(), b"user.x\0");
        assert_eq!(value(&path.join("file")), "1234:2345:0644");
        // What the host says that makes no sense is not believed.
        let file = path.join("file");
        for wrong in ["-1:0:04755", "0:0", "0:0:0644:door"] {
            rustix::fs::lsetxattr(&file, NAME, wrong.as_bytes(), XattrFlags::empty()).unwrap();
            let (uid, gid, mode) = told(&found(fs, "file").1);
            assert_eq!((uid, gid, mode), (0, 0, 0o600), "{wrong}");
            assert_eq!(found(fs, "file").1.mode & FORMAT, libc::S_IFREG);
        }
    });
}

#[test]
fn access_is_what_the_guest_says_it_is() {
    kept(|fs, _| {
        let inode = make(fs, &ALICE, "file", 0o640);
        let other = Caller {
            uid: 1,
            gid: 1,
            ..ALICE
        };
        assert_eq!(fs.access(&by(&ALICE, inode), 6), Ok(()));
        assert_eq!(fs.access(&by(&other, inode), 4), Err(Errno::ACCESS));
        assert_eq!(fs.access(&root(inode), 6), Ok(()));
        assert_eq!(fs.access(&root(inode), 1), Err(Errno::ACCESS));
    });
}

#[test]
fn where_nothing_can_be_kept_is_said_at_once() {
    let refused = Passthrough::new(Path::new("/proc"), config()).map(drop);
    assert!(matches!(refused, Err(Error::NoAttributes { .. })));
}

#[test]
fn servers_of_one_tree_lose_no_change_of_each_other() {
    kept(|fs, _| {
        let at = std::os::fd::AsRawFd::as_raw_fd(&fs.root.fd());
        let at = format!("/proc/self/fd/{at}");
        let again = Passthrough::new(Path::new(&at), config()).unwrap();
        let nodes = [fs, &again].map(|fs| found(fs, "f").0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..2000 {
                    let (uid, gid, _) = set(fs, nodes[0], owner(n, n + 1)).unwrap();
                    assert_eq!((uid, gid), (n, n + 1));
                }
            });
            scope.spawn(|| {
                for n in 0..2000 {
                    let bits = n % 0o700;
                    let (_, _, told) = set(&again, nodes[1], mode(bits)).unwrap();
                    assert_eq!(told, bits);
                }
            });
        });
        // Nobody waits for a turn that does not come to its end.
        let held = again.turn(&*again.node(nodes[1]).unwrap().1).unwrap();
        assert!(held.is_some());
        assert_eq!(set(fs, nodes[0], mode(0o640)).unwrap().2, 0o640);
    });
}
