//! The cells of the table: what is changed, and what the guest does then.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

/// A change, in a directory with what [`prepare`] puts there, and what the guest then
/// does and says.
pub(super) struct Cell {
    pub(super) name: &'static str,
    /// As the host makes it.
    pub(super) change: fn(&Path) -> Result<()>,
    /// As another guest does.
    pub(super) by_guest: &'static str,
    pub(super) command: &'static str,
    pub(super) answer: &'static str,
    /// What the command makes, and the host has then where that name now is.
    pub(super) makes: Option<&'static str>,
    /// Whether the command only looks, and opens nothing.
    pub(super) looks: bool,
}

impl Cell {
    fn makes(self, path: &'static str) -> Self {
        let makes = Some(path);
        Cell { makes, ..self }
    }

    fn looks(self) -> Self {
        let looks = true;
        Cell { looks, ..self }
    }
}

pub(super) fn prepare(at: &Path) -> Result<()> {
    fs::create_dir_all(at.join("d/s"))?;
    fs::write(at.join("f"), "old\n")?;
    fs::write(at.join("d/s/f"), "old\n")?;
    symlink("f", at.join("l"))?;
    fs::create_dir(at.join("e"))?;
    fs::write(at.join("e/f"), "old\n")?;
    Ok(())
}

/// All that the guest knows of it before. What it reads or lists has another time of
/// access, and Linux asks for the attributes again: `e` and `e/f` are only looked at.
pub(super) const LOOK: &str =
    "cat f l d/s/f; ls -l . d d/s > /dev/null; ls -ld e e/f > /dev/null; [ -e new ]";
const SIZE: &str = "stat -L -c %s /proc/self/fd/0 < f; cat f";

pub(super) fn cells() -> Vec<Cell> {
    let cell = |name, change, by_guest, command, answer| Cell {
        name,
        change,
        by_guest,
        command,
        answer,
        makes: None,
        looks: false,
    };
    vec![
        cell(
            "rewrite",
            |at| Ok(fs::write(at.join("f"), "rewritten\n")?),
            "echo rewritten >f",
            SIZE,
            "10 rewritten",
        ),
        cell(
            "append",
            |at| {
                let mut file = fs::OpenOptions::new().append(true).open(at.join("f"))?;
                Ok(file.write_all(b"more\n")?)
            },
            "echo more >>f",
            SIZE,
            "9 old more",
        ),
        cell(
            "replace",
            |at| {
                fs::write(at.join("next"), "replaced\n")?;
                Ok(fs::rename(at.join("next"), at.join("f"))?)
            },
            "echo replaced >next; mv next f",
            SIZE,
            "9 replaced",
        ),
        cell(
            "replace_with_what_was_seen",
            replace_with_what_was_seen,
            "echo seen >d/s/f; mv d/s/f f",
            "cat f; cat d/s/f",
            "seen cat: can't open 'd/s/f': No such file or directory",
        ),
        cell(
            "replace_with_what_was_seen_and_write",
            replace_with_what_was_seen,
            "echo seen >d/s/f; mv d/s/f f",
            "echo made > f; echo more >> f; cat f",
            "made more",
        ),
        cell(
            "remove",
            |at| Ok(fs::remove_file(at.join("f"))?),
            "rm f",
            "cat f || ls",
            "cat: can't open 'f': No such file or directory d e l",
        ),
        cell(
            "remove_and_remake",
            |at| {
                fs::remove_file(at.join("f"))?;
                Ok(fs::write(at.join("f"), "remade\n")?)
            },
            "rm f; echo remade >f",
            SIZE,
            "7 remade",
        ),
        cell(
            "remove_and_write",
            |at| Ok(fs::remove_file(at.join("f"))?),
            "rm f",
            "echo made > f",
            "",
        )
        .makes("f"),
        cell(
            "file_to_directory",
            |at| {
                fs::remove_file(at.join("f"))?;
                fs::create_dir(at.join("f"))?;
                Ok(fs::write(at.join("f/inside"), "inside\n")?)
            },
            "rm f; mkdir f; echo inside >f/inside",
            // Nobody asks us on the way through a file.
            "cat f; ls f; cat f/inside",
            "cat: read error: Is a directory inside inside",
        ),
        cell(
            "directory_to_file",
            |at| {
                fs::remove_dir_all(at.join("d"))?;
                Ok(fs::write(at.join("d"), "file\n")?)
            },
            "rm -r d; echo file >d",
            "cat d",
            "file",
        ),
        cell(
            "link_to_file",
            |at| {
                fs::remove_file(at.join("l"))?;
                Ok(fs::write(at.join("l"), "file\n")?)
            },
            "rm l; echo file >l",
            "cat l",
            "file",
        ),
        cell(
            "link_to_link",
            |at| {
                fs::remove_file(at.join("l"))?;
                Ok(symlink("d/s/f", at.join("l"))?)
            },
            "rm l; ln -s d/s/f l",
            "echo f > f; cat l",
            "old",
        ),
        cell(
            "cut_short",
            |at| {
                let file = fs::OpenOptions::new().write(true).open(at.join("f"))?;
                Ok(file.set_len(2)?)
            },
            "dd if=/dev/null of=f bs=1 seek=2 2>/dev/null",
            SIZE,
            "2 ol",
        ),
        cell(
            "write_within",
            |at| {
                let file = fs::OpenOptions::new().write(true).open(at.join("f"))?;
                Ok(file.write_all_at(b"NE", 0)?)
            },
            "printf NE | dd of=f conv=notrunc 2>/dev/null",
            SIZE,
            "4 NEd",
        ),
        cell(
            "write_within_and_hide_it",
            |at| {
                let file = fs::OpenOptions::new().write(true).open(at.join("f"))?;
                let before = file.metadata()?.modified()?;
                file.write_all_at(b"NE", 0)?;
                Ok(file.set_modified(before)?)
            },
            "touch -r f time; printf NE | dd of=f conv=notrunc 2>/dev/null; touch -r time f",
            SIZE,
            "4 NEd",
        ),
        cell(
            "exchange",
            |at| {
                let (file, directory) = (at.join("f"), at.join("d"));
                let flags = RenameFlags::EXCHANGE;
                Ok(renameat_with(CWD, file, CWD, directory, flags)?)
            },
            "mv f aside; mv d f; mv aside d",
            // Nobody asks us on the way through a file.
            "cat d; cat f; ls f; cat f/s/f",
            "old cat: read error: Is a directory s old",
        ),
        cell(
            "another_name",
            |at| Ok(fs::hard_link(at.join("d/s/f"), at.join("new"))?),
            "ln d/s/f new",
            "cat new; echo more >> new; cat d/s/f",
            "old old more",
        ),
        cell(
            "mode_and_owner",
            |at| {
                std::os::unix::fs::chown(at.join("f"), Some(12), Some(34))?;
                Ok(fs::set_permissions(
                    at.join("f"),
                    fs::Permissions::from_mode(0o2640),
                )?)
            },
            "chown 12:34 f; chmod 2640 f",
            "stat -L -c %a-%u-%g /proc/self/fd/0 <f",
            "2640-12-34",
        ),
        cell(
            "directory_replaced_file",
            replace_directory,
            REPLACE_DIRECTORY,
            "cat d/s/f",
            "new",
        ),
        cell(
            "directory_replaced_new_file",
            replace_directory,
            REPLACE_DIRECTORY,
            "cat d/s/g",
            "g",
        ),
        cell(
            "directory_replaced_list",
            replace_directory,
            REPLACE_DIRECTORY,
            "ls d/s",
            "f g",
        ),
        cell(
            "directory_replaced_create",
            replace_directory,
            REPLACE_DIRECTORY,
            "echo made > d/s/made",
            "",
        )
        .makes("d/s/made"),
        cell(
            "directory_replaced_mkdir",
            replace_directory,
            REPLACE_DIRECTORY,
            "mkdir d/s/made",
            "",
        )
        .makes("d/s/made"),
        cell(
            "stat_size",
            |at| Ok(fs::write(at.join("e/f"), "rewritten\n")?),
            "echo rewritten >e/f",
            "stat -c %s e/f",
            "10",
        )
        .looks(),
        cell(
            "stat_mode",
            |at| {
                let mode = fs::Permissions::from_mode(0o2640);
                Ok(fs::set_permissions(at.join("e"), mode)?)
            },
            "chmod 2640 e",
            "stat -c %a e",
            "2640",
        )
        .looks(),
        cell(
            "stat_time",
            |at| {
                let file = fs::File::open(at.join("e/f"))?;
                Ok(file.set_modified(UNIX_EPOCH + Duration::from_secs(86_400))?)
            },
            "touch -d @86400 e/f",
            "stat -c %Y e/f",
            "86400",
        )
        .looks(),
        cell(
            "stat_fifo",
            |at| {
                fs::remove_file(at.join("e/f"))?;
                let mode = Mode::from_raw_mode(0o600);
                Ok(mknodat(CWD, at.join("e/f"), FileType::Fifo, mode, 0)?)
            },
            "rm e/f; mkfifo e/f",
            "[ -p e/f ] && echo fifo",
            "fifo",
        )
        .looks(),
        cell(
            "stat_removed",
            |at| Ok(fs::remove_file(at.join("d/s/f"))?),
            "rm d/s/f",
            "[ -e d/s/f ] || echo gone",
            "gone",
        )
        .looks(),
        cell(
            "stat_made",
            |at| Ok(fs::write(at.join("new"), "")?),
            "echo >new",
            "[ -e new ] && echo there",
            "there",
        )
        .looks(),
        cell(
            "stat_in_replaced_directory",
            replace_directory,
            REPLACE_DIRECTORY,
            "stat -c %s d/s/g",
            "2",
        )
        .looks(),
    ]
}

const REPLACE_DIRECTORY: &str = "mv d aside; mkdir -p d/s; echo new >d/s/f; echo g >d/s/g";

fn replace_with_what_was_seen(at: &Path) -> Result<()> {
    fs::write(at.join("d/s/f"), "seen\n")?;
    Ok(fs::rename(at.join("d/s/f"), at.join("f"))?)
}

fn replace_directory(at: &Path) -> Result<()> {
    fs::rename(at.join("d"), at.join("aside"))?;
    fs::create_dir_all(at.join("d/s"))?;
    fs::write(at.join("d/s/f"), "new\n")?;
    Ok(fs::write(at.join("d/s/g"), "g\n")?)
}
