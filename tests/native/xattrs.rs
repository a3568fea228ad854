//! Extended attributes, by the names of both sides.

use std::ffi::{CStr, OsStr};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::fixture::{MODES, on_share};

/// `struct vfs_cap_data` of version 2: CAP_NET_BIND_SERVICE, permitted.
const CAPABILITY: [u8; 20] = [0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn names(file: &Path) -> Vec<String> {
    let mut bytes = vec![0; 65_536];
    let length = rustix::fs::listxattr(file, &mut bytes[..]).unwrap();
    let names = bytes[..length].split(|byte| *byte == 0);
    let mut names: Vec<String> = names
        .filter(|name| !name.is_empty())
        .map(|name| OsStr::from_bytes(name).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn get(file: &Path, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 100];
    let length = rustix::fs::getxattr(file, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

#[test]
fn the_guest_has_labels_of_its_own() {
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                assert!(
                    rustix::process::geteuid().is_root(),
                    "only root has trusted attributes"
                );
                let file = mount.join("file");
                fs::write(&file, "text").unwrap();
                let set = |name: &CStr, value: &[u8]| {
                    rustix::fs::setxattr(&file, name, value, XattrFlags::empty())
                };
                for name in [c"user.u", c"trusted.overlay.x", c"security.label"] {
                    set(name, b"value").unwrap();
                    assert_eq!(get(&file, name).unwrap(), b"value", "{mode} {name:?}");
                }
                let listed = ["security.label", "trusted.overlay.x", "user.u"];
                assert_eq!(names(&file), listed, "{mode}");
                let kept = set(c"user.virtiofs.trusted.overlay.x", b"other");
                assert_eq!(kept, Err(Errno::OPNOTSUPP));
                rustix::fs::removexattr(&file, c"security.label").unwrap();
                assert_eq!(get(&file, c"security.label"), Err(Errno::NODATA));
            },
            |directory| {
                let listed = ["trusted.virtiofs.trusted.overlay.x", "user.u"];
                assert_eq!(names(&directory.join("file")), listed, "{mode}");
            },
        );
    }
}

#[test]
fn what_is_written_to_has_no_capabilities_any_more() {
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                let file = mount.join("file");
                fs::write(&file, "text").unwrap();
                let name = c"security.capability";
                for how in ["append", "truncate"] {
                    rustix::fs::setxattr(&file, name, &CAPABILITY, XattrFlags::empty()).unwrap();
                    assert_eq!(get(&file, name).unwrap(), CAPABILITY, "{mode}");
                    let mut options = OpenOptions::new();
                    match how {
                        "append" => options.append(true),
                        _ => options.write(true).truncate(true),
                    };
                    let mut written = options.open(&file).unwrap();
                    written.write_all(b"more").unwrap();
                    written.sync_all().unwrap();
                    assert_eq!(get(&file, name), Err(Errno::NODATA), "{mode} {how}");
                }
            },
            |_| {},
        );
    }
}

#[test]
fn a_share_may_have_none() {
    on_share(
        "no-xattr",
        |mount| {
            let file = mount.join("file");
            fs::write(&file, "text").unwrap();
            assert_eq!(get(&file, c"user.u"), Err(Errno::OPNOTSUPP));
            let listed = rustix::fs::listxattr(&file, &mut [0; 100][..]);
            assert_eq!(listed, Err(Errno::OPNOTSUPP));
        },
        |_| {},
    );
}
