//! The extended attribute in which a tree has owners, modes and device nodes
//! that its files cannot have: `UID:GID:MODE[:TYPE]`, the first two decimal and
//! the mode octal.
//!
//! That is what containers keep their storage by where they have no rights
//! (`fuse-overlayfs`, containers/storage, libkrun), so such a tree can be used by
//! all of them. TYPE is `file`, `dir`, `pipe`, `socket`, or `block-MAJOR-MINOR` and
//! `char-MAJOR-MINOR` for a device. It may be missing where the file is what it
//! is, and libkrun has it in the mode.

use std::ffi::CStr;

/// What it is called.
pub(super) const NAME: &CStr = c"user.containers.override_stat";

/// No value is longer, in bytes.
pub(super) const LONGEST: usize = 64;

/// What the value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverrideStat {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permissions, and `S_IFMT` of what is no regular file, directory or
    /// symbolic link on the host.
    pub(super) mode: u32,
    /// Of a device: major and minor.
    pub(super) device: (u32, u32),
}

const PERMISSIONS: u32 = 0o7777;

impl OverrideStat {
    /// Reads a value; nothing if it is none.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut fields = text.trim_end_matches('\0').split(':');
        let (uid, gid) = (number(fields.next()?, 10)?, number(fields.next()?, 10)?);
        let mode = number(fields.next()?, 8)?;
        let (kind, device) = match fields.next() {
            Some(kind) => special(kind)?,
            None => (mode & libc::S_IFMT, (0, 0)),
        };
        let kind = match kind {
            libc::S_IFBLK | libc::S_IFCHR | libc::S_IFIFO | libc::S_IFSOCK => kind,
            _ => 0,
        };
        // -1 is nobody.
        let somebody = uid != u32::MAX && gid != u32::MAX;
        (somebody && fields.next().is_none()).then_some(Self {
            uid,
            gid,
            mode: mode & PERMISSIONS | kind,
            device,
        })
    }

    /// The value that says this.
    pub(super) fn text(&self) -> String {
        let (major, minor) = self.device;
        let kind = match self.mode & libc::S_IFMT {
            libc::S_IFBLK => format!(":block-{major}-{minor}"),
            libc::S_IFCHR => format!(":char-{major}-{minor}"),
            libc::S_IFIFO => ":pipe".to_owned(),
            libc::S_IFSOCK => ":socket".to_owned(),
            _ => String::new(),
        };
        let mode = self.mode & PERMISSIONS;
        format!("{}:{}:0{mode:o}{kind}", self.uid, self.gid)
    }
}

fn number(text: &str, radix: u32) -> Option<u32> {
    // No sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| u32::from_str_radix(text, radix).ok())?
}

/// TYPE as `S_IFMT`, and the numbers of a device.
fn special(kind: &str) -> Option<(u32, (u32, u32))> {
    let device = |numbers: &str| {
        let (major, minor) = numbers.split_once('-')?;
        Some((number(major, 10)?, number(minor, 10)?))
    };
    Some(match kind {
        "file" | "dir" | "symlink" => (0, (0, 0)),
        "pipe" => (libc::S_IFIFO, (0, 0)),
        "socket" => (libc::S_IFSOCK, (0, 0)),
        _ => match kind.split_once('-')? {
            ("block", numbers) => (libc::S_IFBLK, device(numbers)?),
            ("char", numbers) => (libc::S_IFCHR, device(numbers)?),
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uid: u32, gid: u32, mode: u32, device: (u32, u32)) -> OverrideStat {
        OverrideStat {
            uid,
            gid,
            mode,
            device,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (written, value) in [
            (of(0, 0, 0o644, (0, 0)), "0:0:0644"),
            (of(1000, 42, 0o4755, (0, 0)), "1000:42:04755"),
            (of(1, 2, 0, (0, 0)), "1:2:00"),
            (
                of(0, 6, libc::S_IFBLK | 0o660, (8, 300)),
                "0:6:0660:block-8-300",
            ),
            (of(0, 0, libc::S_IFCHR | 0o666, (1, 3)), "0:0:0666:char-1-3"),
            (of(0, 0, libc::S_IFIFO | 0o600, (0, 0)), "0:0:0600:pipe"),
            (of(0, 0, libc::S_IFSOCK | 0o777, (0, 0)), "0:0:0777:socket"),
        ] {
            assert_eq!(written.text(), value);
            assert_eq!(OverrideStat::parse(value.as_bytes()), Some(written));
        }
        let longest = of(
            u32::MAX - 1,
            u32::MAX - 1,
            libc::S_IFBLK | 0o7777,
            (u32::MAX, u32::MAX),
        );
        assert!(longest.text().len() <= LONGEST);
    }

    #[test]
    fn what_others_write_is_read() {
        for (value, read) in [
            ("1000:1011:0644:file", of(1000, 1011, 0o644, (0, 0))),
            ("0:0:0755:dir", of(0, 0, 0o755, (0, 0))),
            ("0:0:0777:symlink", of(0, 0, 0o777, (0, 0))),
            ("0:0:755", of(0, 0, 0o755, (0, 0))),
            // libkrun's.
            ("0:0:0100755", of(0, 0, 0o755, (0, 0))),
            ("5:6:0140700", of(5, 6, libc::S_IFSOCK | 0o700, (0, 0))),
        ] {
            assert_eq!(OverrideStat::parse(value.as_bytes()), Some(read), "{value}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_none() {
        for value in [
            "",
            "0",
            "0:0",
            "0:0:",
            "::",
            "-1:0:0644",
            "+1:0:0644",
            "0:0:0899",
            "0:0:rw",
            "4294967296:0:0644",
            "4294967295:0:0644",
            "0:4294967295:0644",
            "0:0:0644:",
            "0:0:0644:door",
            "0:0:0644:block",
            "0:0:0644:block-1",
            "0:0:0644:char-1-2-3",
            "0:0:0644:char--1-2",
            "0:0:0644:file:",
            "0 :0:0644",
        ] {
            assert_eq!(OverrideStat::parse(value.as_bytes()), None, "{value:?}");
        }
        assert_eq!(OverrideStat::parse(b"0:0:\xff"), None);
    }
}
