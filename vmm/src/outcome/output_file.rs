//! The files that a run writes: the report and the metrics, in one piece at
//! the end, and the console's log, as the guest runs.

mod target;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

pub(crate) use target::Identity;
use target::Target;

/// A file to be written once. A reader sees the old contents or the new ones,
/// never a part, wherever the directory lets another file take its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputFile {
    option: &'static str,
    path: PathBuf,
    /// The mode of a file that is not there yet.
    mode: u32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "{option} {} cannot be written: name a file that can, in a directory that exists",
        path.display()
    )]
    Unusable {
        option: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot write {option} {}", path.display())]
    Write {
        option: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl OutputFile {
    /// Checks that `path`, given with `option`, can be written, without
    /// changing anything there.
    pub(crate) fn check(option: &'static str, path: &Path) -> Result<Self, Error> {
        let usable = match target::of(path) {
            Ok(Target::File(file)) => match beside(&file, 0o600) {
                Ok(_) => Ok(()),
                Err(error) => unless_missing(existing(&file).map(drop), error),
            },
            other => other.and_then(|target| others_usable(&target, path)),
        };
        usable.map_err(|source| unusable(option, path, source))?;
        Ok(Self {
            option,
            path: path.to_owned(),
            mode: mode_of_new(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&self, contents: &[u8]) -> Result<(), Error> {
        let written = match target::of(&self.path) {
            Ok(Target::Stream(stream)) => stream
                .try_clone_to_owned()
                .and_then(|stream| File::from(stream).write_all(contents)),
            Ok(Target::Special(kind)) => {
                open_special(&self.path, kind).and_then(|mut file| file.write_all(contents))
            }
            Ok(Target::File(file)) => replace(&file, contents, self.mode),
            Err(error) => Err(error),
        };
        written.map_err(|source| Error::Write {
            option: self.option,
            path: self.path.clone(),
            source,
        })
    }
}

/// Checks that the run can create or truncate `path`, given with `option`.
pub(crate) fn check_log(option: &'static str, path: &Path) -> Result<(), Error> {
    let usable = match target::of(path) {
        Ok(Target::File(file)) => match existing(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => beside(&file, 0o600).map(drop),
            result => result.map(drop),
        },
        other => other.and_then(|target| others_usable(&target, path)),
    };
    usable.map_err(|source| unusable(option, path, source))
}

/// Creates the log that [`check_log`] found possible.
pub(crate) fn create_log(option: &'static str, path: &Path) -> Result<File, Error> {
    let file = match target::of(path) {
        Ok(Target::Stream(stream)) => stream.try_clone_to_owned().map(File::from),
        Ok(Target::Special(kind)) => open_special(path, kind),
        _ => File::create(path),
    };
    file.map_err(|source| unusable(option, path, source))
}

fn unusable(option: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Unusable {
        option,
        path: path.to_owned(),
        source,
    }
}

/// A FIFO is opened when there is something to write: its reader may come
/// until then.
fn others_usable(target: &Target, path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    match target {
        Target::Special(_) => Ok(accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?),
        Target::Stream(_) | Target::File(_) => Ok(()),
    }
}

/// Puts a file with these contents in the place of `path`; writes into the one
/// that is there where its directory does not let it be replaced. A new one has
/// this mode.
fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let in_place = || {
        let mut file = existing(path)?;
        file.set_len(0)?;
        file.write_all(contents)
    };
    let mut file = match beside(path, mode) {
        Ok(file) => file,
        Err(error) => return unless_missing(in_place(), error),
    };
    file.write_all(contents)?;
    if let Ok(old) = fs::metadata(path) {
        // Whoever may read it now is to read the new one, too.
        let (owner, group) = (Some(old.uid()), Some(old.gid()));
        let _ = fchown(file.as_file(), owner, group);
        let mode = fs::Permissions::from_mode(old.mode() & 0o777);
        file.as_file().set_permissions(mode)?;
    }
    match file.persist(path) {
        Ok(_) => Ok(()),
        // A single file that is mounted there, as into a container; somebody else's
        // in a directory as /tmp is.
        Err(error)
            if matches!(
                error.error.kind(),
                io::ErrorKind::ResourceBusy | io::ErrorKind::PermissionDenied
            ) =>
        {
            in_place()
        }
        Err(error) => Err(error.error),
    }
}

/// The mode of a new file by the process's umask, which shares may take away later.
fn mode_of_new() -> u32 {
    let umask = rustix::process::umask(Mode::RWXU);
    rustix::process::umask(umask);
    0o666 & !umask.as_raw_mode()
}

/// A new file in the same directory, which goes with its handle.
fn beside(path: &Path, mode: u32) -> io::Result<tempfile::NamedTempFile> {
    if path.file_name().is_none() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // Opened here: tempfile would name its own path in the error.
    tempfile::Builder::new()
        .prefix(".vmm-")
        .make_in(target::directory(path), |path| {
            File::options()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(path)
        })
}

/// The file that is there, for writing, with all that is in it.
fn existing(path: &Path) -> io::Result<File> {
    File::options().write(true).open(path)
}

/// `result`, or `error` where there is no file.
fn unless_missing(result: io::Result<()>, error: io::Error) -> io::Result<()> {
    match result {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Err(error),
        result => result,
    }
}

/// Opens what is no file, but does not wait for a reader that may never come.
fn open_special(path: &Path, kind: fs::FileType) -> io::Result<File> {
    let file = File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENXIO) if kind.is_fifo() => io::Error::other("nobody reads the FIFO"),
            _ => error,
        })?;
    // A reader that is there is waited for.
    rustix::io::ioctl_fionbio(&file, false)?;
    Ok(file)
}
