//! The files of a run are not each other's: what one option writes, no other
//! writes over, and what is read is not written.

use std::path::{Path, PathBuf};

use crate::options::RunArguments;
use crate::outcome::output_file::Identity;

#[derive(Debug, thiserror::Error)]
#[error("{one} and {other} are the same file, {}: name another for {other}", path.display())]
pub(crate) struct Error {
    one: &'static str,
    other: &'static str,
    path: PathBuf,
}

/// Checks the files that the arguments name, and the `kernel` that was found,
/// against each other.
pub(super) fn check(arguments: &RunArguments, kernel: &Path) -> Result<(), Error> {
    let read = [
        ("--kernel", Some(kernel)),
        ("--initramfs", arguments.initramfs.as_deref()),
    ];
    let written = [
        ("--console-log", arguments.console_log.as_ref()),
        ("--metrics", arguments.metrics.as_ref()),
        ("--report", arguments.report.as_ref()),
        ("--junit", arguments.junit.as_ref()),
    ];
    let identity = |path: Option<&Path>| path.and_then(Identity::of);
    let mut others: Vec<_> = read.map(|(option, path)| (option, identity(path))).into();
    for (other, path) in written {
        let Some(path) = path else { continue };
        let Some(file) = Identity::of(path) else {
            continue;
        };
        let same = |(_, of): &&(_, Option<Identity>)| of.as_ref() == Some(&file);
        if let Some((one, _)) = others.iter().find(same) {
            return Err(Error {
                one,
                other,
                path: path.clone(),
            });
        }
        others.push((other, Some(file)));
    }
    Ok(())
}
