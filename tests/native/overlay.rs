//! An overlayfs of the host whose upper layer is the share.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use rustix::fs::XattrFlags;

use crate::fixture::{MODES, not_tried, on_share};

const CAPABILITY: &str = "security.capability";
/// `CAP_NET_BIND_SERVICE`, permitted and effective (`struct vfs_cap_data`).
const MAY_BIND: [u8; 20] = {
    let mut value = [0; 20];
    value[0] = 1;
    value[3] = 2;
    value[5] = 4;
    value
};

/// A mount that goes with this, also when a test fails.
struct Mounted<'p>(&'p Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(self.0).status();
        assert!(status.unwrap().success());
    }
}

/// Mounts an overlayfs; says so where this host cannot.
fn overlay<'p>(lower: &Path, share: &Path, at: &'p Path) -> Option<Mounted<'p>> {
    let [upper, work] = ["upper", "work"].map(|name| share.join(name));
    for layer in [&upper, &work] {
        fs::create_dir(layer).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let mut mount = Command::new("mount");
    mount.args(["-t", "overlay", "overlay", "-o", &options]);
    if mount.arg(at).status().unwrap().success() {
        return Some(Mounted(at));
    }
    let why = "no overlayfs on this host takes a FUSE file system for its upper layer";
    not_tried("copies of an overlay", why);
    None
}

/// Linux gives a copy its capabilities, its size, its mode and its owner, one
/// after the other; at other times a new size or owner takes away what came
/// before.
#[test]
fn a_copy_keeps_set_id_bits_and_capabilities() {
    if !rustix::process::geteuid().is_root() {
        not_tried("copies of an overlay", "only root can give files to others");
        return;
    }
    for mode in MODES {
        on_share(
            &format!("{mode},xattr"),
            |share| {
                let [lower, merged] = [(); 2].map(|()| tempfile::tempdir().unwrap());
                let original = |name: &str, mode| {
                    let path = lower.path().join(name);
                    fs::write(&path, name).unwrap();
                    chown(&path, Some(1000), Some(1001)).unwrap();
                    fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
                    path
                };
                original("both", 0o6755);
                let capable = original("capable", 0o755);
                rustix::fs::setxattr(&capable, CAPABILITY, &MAY_BIND, XattrFlags::empty()).unwrap();
                let Some(_mounted) = overlay(lower.path(), share, merged.path()) else {
                    return;
                };

                // Opening to write is enough.
                for name in ["both", "capable"] {
                    let mut options = fs::OpenOptions::new();
                    options.append(true).open(merged.path().join(name)).unwrap();
                }
                let copy = fs::metadata(merged.path().join("both")).unwrap();
                let (changed, mode) = (merged.path().join("both"), 0o4711);
                assert_eq!(copy.mode(), 0o10_6755);
                assert_eq!((copy.uid(), copy.gid()), (1000, 1001));

                // What is no copy any more is treated as any other file.
                chown(&changed, Some(0), None).unwrap();
                assert_eq!(fs::metadata(&changed).unwrap().mode(), 0o10_0755);
                fs::set_permissions(&changed, PermissionsExt::from_mode(mode)).unwrap();
                assert_eq!(fs::metadata(&changed).unwrap().mode(), 0o10_4711);
            },
            |directory| {
                let upper = directory.join("upper");
                let Ok(capable) = fs::metadata(upper.join("capable")) else {
                    return;
                };
                assert_eq!((capable.uid(), capable.mode()), (1000, 0o10_0755));
                let mut value = [0; 64];
                let path = upper.join("capable");
                let length = rustix::fs::getxattr(&path, CAPABILITY, &mut value[..]);
                assert_eq!(value.get(..length.unwrap()), Some(&MAY_BIND[..]));
                let both = fs::metadata(upper.join("both")).unwrap();
                assert_eq!((both.uid(), both.mode()), (0, 0o10_4711));
            },
        );
    }
}
