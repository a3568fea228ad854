//! Loads the kernel modules that the initramfs carries.
//!
//! A distribution's kernel has the virtio-mmio transport and virtiofs as
//! modules; `vmm` packs them with what they depend on and lists them in the
//! order in which they have to be loaded.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::protocol::MODULE_ORDER;

/// Why the modules could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A packed file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the guest's kernel said.
        source: io::Error,
    },
    /// The kernel refuses a module.
    #[error("the guest's kernel refuses the module {name}: was it built for this kernel?")]
    Load {
        /// The module's file name.
        name: String,
        /// What the guest's kernel said.
        source: Errno,
    },
}

/// Loads the modules listed in the order file of `directory`, which need not
/// exist. A module that the kernel has already is no error.
pub fn load(directory: &Path) -> Result<(), Error> {
    let order = directory.join(MODULE_ORDER);
    let names = match fs::read_to_string(&order) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(Error::Read {
                path: order,
                source,
            });
        }
    };
    for name in names.lines() {
        let path = directory.join(name);
        let file = File::open(&path).map_err(|source| Error::Read { path, source })?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(source) => {
                return Err(Error::Load {
                    name: name.to_owned(),
                    source,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_initramfs_without_modules_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(&directory.path().join("modules")).is_ok());
    }

    #[test]
    fn a_listed_module_that_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(MODULE_ORDER), "gone.ko\n").unwrap();
        let error = load(directory.path()).unwrap_err();
        assert!(error.to_string().contains("gone.ko"), "{error}");
    }
}
