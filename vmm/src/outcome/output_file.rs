//! Files that are written in one piece at the end: the report and the metrics.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A file to be written once. A reader sees the old contents or the new ones,
/// never a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputFile {
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write {option} {}: name a file in a directory that exists and is writable", path.display())]
pub(crate) struct Error {
    option: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl OutputFile {
    /// Checks that `path`, given with `option`, can be written, without
    /// changing anything there.
    pub(crate) fn check(option: &'static str, path: &Path) -> Result<Self, Error> {
        let file = Self {
            path: path.to_owned(),
        };
        file.try_out().map_err(|source| Error {
            option,
            path: path.to_owned(),
            source,
        })?;
        Ok(file)
    }

    fn try_out(&self) -> io::Result<()> {
        if let Some(metadata) = self.special()? {
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            // Opening a FIFO without a reader would block; it is opened when
            // there is something to write.
            return Ok(());
        }
        self.temporary().map(drop)
    }

    pub(crate) fn write(&self, contents: &[u8]) -> io::Result<()> {
        if self.special()?.is_some() {
            return OpenOptions::new()
                .write(true)
                .open(&self.path)?
                .write_all(contents);
        }
        let mut file = self.temporary()?;
        file.write_all(contents)?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// The metadata of a path that is something else than a file, such as
    /// `/dev/stderr`: that must not be replaced by a file.
    fn special(&self) -> io::Result<Option<fs::Metadata>> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => Ok(None),
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        let directory = match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        if self.path.file_name().is_none() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        tempfile::Builder::new()
            .prefix(".vmm-")
            // The process's umask applies, as to any other file.
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory)
    }
}

/// Creates the file of `--console-log`, which is written as the guest runs.
pub(crate) fn create(option: &'static str, path: &Path) -> Result<File, Error> {
    File::create(path).map_err(|source| Error {
        option,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn checking_leaves_nothing_behind_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        OutputFile::check("--report", &path).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);

        fs::write(&path, "old").unwrap();
        OutputFile::check("--report", &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn writing_replaces_the_contents_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        fs::write(&path, "old and longer").unwrap();
        OutputFile::check("--report", &path)
            .unwrap()
            .write(b"new")
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_not_there_is_found_at_once() {
        let error = OutputFile::check("--report", Path::new("/no/such/report")).unwrap_err();
        assert!(error.to_string().contains("--report /no/such/report"));
    }

    #[test]
    fn a_directory_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        assert!(OutputFile::check("--report", directory.path()).is_err());
        assert!(OutputFile::check("--report", Path::new("..")).is_err());
    }

    #[test]
    fn a_device_is_written_and_not_replaced() {
        let file = OutputFile::check("--report", Path::new("/dev/null")).unwrap();
        file.write(b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
