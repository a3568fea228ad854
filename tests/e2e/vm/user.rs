//! A `vmm` that an ordinary user runs, where we are root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

use anyhow::Result;

use super::Vm;

/// The user and their group.
pub(crate) const ORDINARY: (u32, u32) = (5, 60);

impl Vm {
    /// Has an ordinary user run `vmm`, if we are root: [`ORDINARY`], who has 65536
    /// subordinate users from 100000 on and may use KVM. Only `vmm` sees that, and what it
    /// is given has to be theirs to read.
    pub(crate) fn by_ordinary_user(self) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(self);
        }
        let (uid, gid) = ORDINARY;
        let scratch = self.scratch.path();
        chown(scratch, Some(uid), Some(gid))?;
        let device = fs::metadata("/dev/kvm")?.rdev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let become_user = format!(
            "mount -t tmpfs -o mode=755 none /etc
             echo games:x:{uid}:{gid}::/:/bin/sh >/etc/passwd
             for kind in uid gid; do echo games:100000:65536 >/etc/sub$kind; done
             mknod -m 666 /etc/kvm c {major} {minor}; mount -o bind /etc/kvm /dev/kvm
             exec /usr/bin/setpriv --reuid {uid} --regid {gid} --clear-groups \"$0\" \"$@\""
        );
        let mut shell = Command::new("unshare");
        shell.args(["-m", "sh"]);
        Ok(self.after(&mut shell, &become_user))
    }

    /// Has `vmm` run where nobody gets a user namespace: as the root of one, who has no
    /// rights there.
    pub(crate) fn without_user_namespaces(self) -> Self {
        let mut shell = Command::new("unshare");
        shell.args(["-U", "-r", "sh"]);
        let script = "echo 0 >/proc/sys/user/max_user_namespaces
            exec /usr/bin/setpriv --bounding-set -all \"$0\" \"$@\"";
        self.after(&mut shell, script)
    }
}
