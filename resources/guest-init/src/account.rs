//! Who runs the command, as the guest's `/etc/passwd` and `/etc/group` have it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The shell of who has none.
const SHELL: &str = "/bin/sh";

/// Why nobody runs the command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such user.
    #[error("the guest's /etc/passwd has no user {}", .0.display())]
    Unknown(OsString),
}

/// A user of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name to log in with.
    pub name: OsString,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// The home directory.
    pub home: OsString,
    /// The shell.
    pub shell: OsString,
}

impl Account {
    /// The user called `name`, or else root, by the files in `etc`. A tree without
    /// these files still has root.
    pub fn find(etc: &Path, name: Option<&OsStr>) -> Result<Self, Error> {
        let read = |file: &str| std::fs::read(etc.join(file)).unwrap_or_default();
        let passwd = read("passwd");
        let wanted = name.unwrap_or(OsStr::new("root"));
        let found = lines(&passwd).find_map(|fields| Self::of_fields(&fields, wanted));
        match (found, name) {
            (Some(account), _) => Ok(account.with_groups(&read("group"))),
            (None, Some(name)) if name != "root" => Err(Error::Unknown(name.to_owned())),
            (None, _) => Ok(Self {
                name: "root".into(),
                uid: 0,
                gid: 0,
                groups: vec![0],
                home: "/root".into(),
                shell: SHELL.into(),
            }),
        }
    }

    fn of_fields(fields: &[&[u8]], wanted: &OsStr) -> Option<Self> {
        let [name, _, uid, gid, _, home, shell] = fields else {
            return None;
        };
        (*name == wanted.as_bytes()).then_some(())?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let gid = number(gid)?;
        Some(Self {
            name: text(name),
            uid: number(uid)?,
            gid,
            groups: vec![gid],
            home: if home.is_empty() {
                "/".into()
            } else {
                text(home)
            },
            shell: if shell.is_empty() {
                SHELL.into()
            } else {
                text(shell)
            },
        })
    }

    /// With the groups that list the user.
    fn with_groups(mut self, group: &[u8]) -> Self {
        for fields in lines(group) {
            let [_, _, gid, members] = fields.as_slice() else {
                continue;
            };
            let mut members = members.split(|byte| *byte == b',');
            if let (true, Some(gid)) = (
                members.any(|member| member == self.name.as_bytes()),
                number(gid),
            ) && !self.groups.contains(&gid)
            {
                self.groups.push(gid);
            }
        }
        self
    }

    /// What a login sets.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, &OsStr); 4] {
        [
            ("HOME", &self.home),
            ("USER", &self.name),
            ("LOGNAME", &self.name),
            ("SHELL", &self.shell),
        ]
    }

    /// The shell, or what every tree has where that one is not there.
    #[must_use]
    pub fn shell_or_default(&self) -> &OsStr {
        match Path::new(&self.shell).exists() {
            true => &self.shell,
            false => OsStr::new(SHELL),
        }
    }

    /// Makes a stream of the command's the user's, who may then open it by its name
    /// (`/dev/stdout`).
    pub fn own(&self, stream: impl AsFd) {
        if self.uid != 0 {
            // Without, it is still open.
            let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(self.uid)), None);
        }
    }

    /// Makes the child that `command` starts run as the user.
    #[allow(unsafe_code)]
    pub fn take_on(&self, command: &mut Command) {
        if self.uid == 0 {
            return;
        }
        let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let become_user = move || -> io::Result<()> {
            set_thread_groups(&groups)?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            Ok(())
        };
        // SAFETY: between fork and exec only what is async-signal-safe may run, in the
        // one thread there is. The closure makes three system calls, which rustix does
        // by entering the kernel directly, and takes no lock and no memory; what it
        // owns was made before the fork.
        unsafe { command.pre_exec(become_user) };
    }
}

/// The fields of each line.
fn lines(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.map(|line| line.split(|byte| *byte == b':').collect())
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn etc() -> tempfile::TempDir {
        let etc = tempfile::tempdir().unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken\n\nalice:x:1000:100:A,,,:/home/alice:/bin/zsh\n\
                      bare:x:7:8:::\nodd:x:many:8::/:\n";
        std::fs::write(etc.path().join("passwd"), passwd).unwrap();
        let group = "users:x:100:alice\nkvm:x:104:bob,alice\nother:x:105:alicea\nbroken\n";
        std::fs::write(etc.path().join("group"), group).unwrap();
        etc
    }

    #[test]
    fn a_user_has_a_home_a_shell_and_groups() {
        let etc = etc();
        let alice = Account::find(etc.path(), Some("alice".as_ref())).unwrap();
        assert_eq!((alice.uid, alice.gid), (1000, 100));
        assert_eq!(alice.groups, [100, 104]);
        let names = alice
            .environment()
            .map(|(name, value)| format!("{name}={}", value.display()));
        let expected = [
            "HOME=/home/alice",
            "USER=alice",
            "LOGNAME=alice",
            "SHELL=/bin/zsh",
        ];
        assert_eq!(names, expected);
        let bare = Account::find(etc.path(), Some("bare".as_ref())).unwrap();
        assert_eq!((bare.home, bare.shell), ("/".into(), "/bin/sh".into()));
    }

    #[test]
    fn there_is_always_root_and_nobody_else() {
        let etc = etc();
        let root = Account::find(etc.path(), None).unwrap();
        assert_eq!((root.uid, root.shell), (0, "/bin/bash".into()));
        let nothing = etc.path().join("nothing");
        let root = Account::find(&nothing, None).unwrap();
        assert_eq!((root.uid, root.home), (0, "/root".into()));
        for name in ["bob", "odd", "alic", ""] {
            assert!(
                Account::find(etc.path(), Some(name.as_ref())).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn a_command_runs_as_its_user() {
        if !rustix::process::getuid().is_root() {
            eprintln!("not tried: a command as another user: only root becomes others");
            return;
        }
        let account = Account {
            name: "x".into(),
            uid: 4321,
            gid: 8765,
            groups: vec![8765, 9],
            home: "/".into(),
            shell: SHELL.into(),
        };
        let mut command = Command::new("sh");
        command.args(["-c", "id -u; id -g; id -G; id -ru"]);
        account.take_on(&mut command);
        let output = command.output().unwrap();
        assert_eq!(output.stdout, b"4321\n8765\n8765 9\n4321\n");
    }
}
