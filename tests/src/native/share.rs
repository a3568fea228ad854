//! The options of `vmm run --share` that the server acts on.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use devices::fuse::Server;
use devices::passthrough::{CachePolicy, Config, Passthrough};

/// A directory, where it is to be seen, and how.
#[derive(Clone, Debug)]
pub struct NativeShare {
    directory: PathBuf,
    config: Config,
    /// Where it is mounted.
    pub at: PathBuf,
    /// Threads that serve it.
    pub queues: u16,
}

impl NativeShare {
    /// `directory` at `place`, which is `MOUNTPOINT[,option[=value]]...`.
    ///
    /// # Errors
    ///
    /// When there is no such option, or no such mount point.
    pub fn parse(directory: &Path, place: &OsStr) -> Result<Self> {
        let mut parts = place.as_bytes().split(|byte| *byte == b',');
        let at = Path::new(OsStr::from_bytes(parts.next().unwrap_or_default()));
        let mut share = Self {
            directory: directory.to_owned(),
            // What a share without options is to `vmm run`.
            config: Config::default(),
            at: at
                .canonicalize()
                .with_context(|| format!("cannot find the mount point {}", at.display()))?,
            queues: 2,
        };
        for option in parts {
            share.set(&String::from_utf8_lossy(option))?;
        }
        Ok(share)
    }

    fn set(&mut self, option: &str) -> Result<()> {
        let config = &mut self.config;
        match option.split_once('=').unwrap_or((option, "")) {
            ("rw", "") => config.read_only = false,
            ("ro", "") => config.read_only = true,
            ("writeback", "") => config.writeback = true,
            ("xattr", "") => config.xattr = true,
            ("no-xattr", "") => config.xattr = false,
            ("acl", "") => config.posix_acl = true,
            ("idmap", "") => config.idmap = true,
            ("export", "") => config.remembered = Config::EXPORTED,
            ("locks", "") => config.locks = true,
            ("cache", "never") => config.cache = CachePolicy::Never,
            ("cache", "metadata") => config.cache = CachePolicy::Metadata,
            ("cache", "auto") => config.cache = CachePolicy::Auto,
            ("cache", "always") => config.cache = CachePolicy::Always,
            ("queues", number) => {
                let number = number
                    .parse()
                    .ok()
                    .filter(|number| (1..=64).contains(number));
                self.queues = number.context("queues= is a number from 1 to 64")?;
            }
            _ => bail!(
                "'{option}' is none of cache=never, metadata, auto or always, writeback, ro, rw, \
                 xattr, no-xattr, acl, idmap, export, locks and queues=N"
            ),
        }
        Ok(())
    }

    /// The server that `vmm run` would have for it, for the calling thread's
    /// user.
    ///
    /// # Errors
    ///
    /// When the directory cannot be shared.
    pub fn server(&self) -> Result<Arc<Server>> {
        let passthrough = Passthrough::new(&self.directory, self.config)?;
        Ok(Arc::new(Server::new(Arc::new(passthrough))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_a_share() {
        let top = tempfile::tempdir().unwrap();
        let place = |options: &str| {
            let mut place = top.path().as_os_str().to_owned();
            place.push(options);
            NativeShare::parse(Path::new("/"), &place)
        };
        let plain = place("").unwrap();
        assert_eq!(plain.config.cache, CachePolicy::Auto);
        assert!(plain.config.xattr && !plain.config.read_only);
        assert_eq!((plain.queues, plain.at.as_path()), (2, top.path()));
        let full = place(",ro,cache=always,writeback,no-xattr,locks,queues=3").unwrap();
        let config = full.config;
        assert!(config.read_only && config.writeback && !config.xattr && config.locks);
        assert_eq!((config.cache, full.queues), (CachePolicy::Always, 3));
        for wrong in [
            ",fast",
            ",cache=",
            ",cache=often",
            ",queues=0",
            ",ro=1",
            ",",
        ] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
