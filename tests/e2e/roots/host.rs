//! The host's own root, on a host of our own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

use super::debian;
use crate::vm::{below, stretched};

/// Runs a script of root's in a `tree`, with what a system has mounted.
pub(super) fn in_tree(tree: &Path, script: &str) -> Result<String> {
    let at = tree.display();
    let around = format!(
        "mount --bind /dev {at}/dev; mount -t proc proc {at}/proc; mount -t tmpfs tmp {at}/tmp
         chmod 1777 {at}/tmp; chmod 666 {at}/dev/kvm; exec chroot {at} /bin/sh -ec \"$0\""
    );
    let mut child = Command::new("unshare")
        .args(["-m", "sh", "-ec", &around, script])
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut text = String::new();
    let mut stdout = child.stdout.take().context("no output")?;
    std::io::Read::read_to_string(&mut stdout, &mut text)?;
    let status = child.wait()?;
    if !status.success() {
        bail!("{status}: {script}\n{text}");
    }
    Ok(text)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    Root,
    Alice,
}

/// A host of our own: a system of Debian's that one works in.
struct Host {
    tree: TempDir,
    work: &'static str,
    user: User,
}

impl Host {
    fn new(fixtures: &Fixtures, user: User) -> Result<Self> {
        let tree = debian(fixtures)?;
        let work = "/home/alice/work";
        for (from, to) in [
            (fixtures.vmm.clone(), "opt/vmm"),
            (
                fixtures.kernel(Kernel::PATCHED)?.join("bzImage"),
                "opt/bzImage",
            ),
        ] {
            fs::copy(from, below(&tree, to))?;
        }
        let host = Self { tree, work, user };
        host.as_root(
            "echo alice:x:1000:1000::/home/alice:/bin/bash >> /etc/passwd
             echo alice:x:1000: >> /etc/group
             echo 'alice:!:19000:0:99999:7:::' >> /etc/shadow
             mkdir -p /home/alice/work && chown -R 1000:1000 /home/alice
             echo secret > /root/secret; echo secret > /opt/secret; chmod 600 /opt/secret",
        )?;
        let own = "git config --global user.email a@b && git config --global user.name A &&
                   git init -q . && echo one > file && git add file && git commit -qm first";
        host.at_work(own)?;
        Ok(host)
    }

    /// Runs a script of root's in it.
    fn as_root(&self, script: &str) -> Result<String> {
        in_tree(self.tree.path(), script)
    }

    /// Runs a script where the user works.
    fn at_work(&self, script: &str) -> Result<String> {
        let work = self.work;
        let quoted = script.replace('\'', "'\\''");
        match self.user {
            User::Root => self.as_root(&format!(
                "export HOME=/root; cd {work}; chown 0:0 {work}; {script}"
            )),
            User::Alice => self.as_root(&format!(
                "cd {work}; HOME=/home/alice exec setpriv --reuid 1000 --regid 1000 --init-groups \
                 sh -ec '{quoted}'"
            )),
        }
    }

    /// Runs a script in a guest.
    fn guest(&self, options: &str, script: &str) -> Result<String> {
        let quoted = script.replace('\'', "'\\''");
        let limit = stretched(Duration::from_secs(20)).as_secs();
        self.at_work(&format!(
            "/opt/vmm run --host --kernel /opt/bzImage --timeout {limit} {options} -- sh -ec '{quoted}' 2>&1"
        ))
    }

    /// All that a run could touch and has no business with.
    fn account(&self) -> Result<String> {
        self.as_root(
            "find / -xdev \\( -path /home/alice/work -o -path /proc -o -path /tmp -o -path /dev \\) -prune \
                  -o -printf '%p %y %m %U:%G %s %T@ %C@ %l\\n' | sort
             find / -xdev -path /home/alice/work -prune -o -type f -print0 | sort -z | xargs -0 cksum
             find /dev -printf '%p %y %m\\n' | sort",
        )
    }
}

pub(super) fn own_root(fixtures: &Fixtures, user: User) -> Result<()> {
    let host = Host::new(fixtures, user)?;
    let before = host.account()?;
    // As root of the guest.
    let text = host.guest(
        "",
        "pwd; id -un; echo $HOME
         ls /root | wc -l; echo x > /root/x; cat /root/x
         grep -c ^root:: /etc/shadow
         su alice -c 'id -un; echo $HOME; sudo id -un; su -c \"id -un\"'
         git log --format=%s; git status --short
         echo two > file; git add file; git -c user.email=a@b -c user.name=A commit -qm second; echo made > made
         touch /etc/new /usr/new /home/alice/new && echo kept
         ls -d /proc/1 /sys/kernel > /dev/null && echo own
         ls /opt/secret; cat /opt/secret || echo closed
         mkdir /tmp/again; mount -t virtiofs root /tmp/again; mount -o remount,rw /tmp/again
         touch /tmp/again/etc/again 2> /dev/null || echo refused",
    );
    let text = text.context("as the guest's root")?;
    // root's home, where root runs vmm.
    let (homely, secret) = match user {
        User::Root => (1, "secret"),
        User::Alice => (0, "closed"),
    };
    let expected = format!(
        "/home/alice/work\nroot\n/root\n{homely}\nx\n1\nalice\n/home/alice\nroot\nroot\nfirst\n\
         kept\nown\n/opt/secret\n{secret}\nrefused\n"
    );
    let said: String = text
        .lines()
        .filter(|line| !line.contains("user.email") && !line.is_empty())
        .filter(|line| !line.starts_with("cat: "))
        .map(|line| format!("{line}\n"))
        .collect();
    ensure!(said == expected, "{said}");
    // As who runs vmm, or who is named.
    let options = match user {
        User::Root => "--user alice",
        User::Alice => "--user",
    };
    let text = host.guest(
        options,
        "id -un; echo $HOME $USER $SHELL; sudo id -un; git config user.name || true
         (echo mine > mine) 2> /dev/null || echo refused",
    );
    let text = text.context("as a user")?;
    let name = if user == User::Alice { "A\n" } else { "" };
    let refused = if user == User::Root { "refused\n" } else { "" };
    let expected = format!("alice\n/home/alice alice /bin/bash\nroot\n{name}{refused}");
    ensure!(text == expected, "{text}");
    let after = host.account()?;
    ensure!(before == after, "{}", difference(&before, &after));
    // What was made is the user's.
    let owners = host.as_root("cd /home/alice/work; stat -c '%n %U' made; cat file")?;
    let owner = if user == User::Alice { "alice" } else { "root" };
    ensure!(owners == format!("made {owner}\ntwo\n"), "{owners}");
    Ok(())
}

fn difference(before: &str, after: &str) -> String {
    let only = |of: &str, other: &str| -> String {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        let lines = of.lines().filter(|line| !other.contains(line));
        lines.map(|line| format!("{line}\n")).collect()
    };
    format!(
        "gone:\n{}new:\n{}",
        only(before, after),
        only(after, before)
    )
}
