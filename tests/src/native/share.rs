//! A share of `vmm run` as this host's own kernel sees it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use devices::fuse::Server;
use devices::passthrough::{Config, Passthrough};
use devices::virtio::fs::{Queues, Threads, Unconfined};
use vmm_options::share::{self, IdMaps};
use vmm_owners::{Plan, Wish};
use vmm_sandbox::{Keeper, Sandbox};

/// A directory, where it is to be seen, and how.
#[derive(Clone, Debug)]
pub struct NativeShare {
    directory: PathBuf,
    config: Config,
    maps: IdMaps,
    /// Where it is mounted.
    pub at: PathBuf,
    /// Threads that serve it.
    pub queues: u16,
}

impl NativeShare {
    /// `directory` at `place`, which is a mount point with the options that
    /// `vmm run --share` takes after a directory.
    ///
    /// # Errors
    ///
    /// When `vmm run` would refuse the options, when they are for a guest, and
    /// when there is no such mount point.
    pub fn parse(directory: &Path, place: &OsStr) -> Result<Self> {
        let share = share::share(place)?;
        ensure!(
            share.tag.is_none()
                && share.at.is_none()
                && share.service.queues.size == Queues::default().size,
            "tag=, at= and queue-size= are for a guest, and here is none: leave them out"
        );
        let at = share.directory;
        Ok(Self {
            directory: directory.to_owned(),
            config: share.service.server,
            maps: share.maps,
            at: at
                .canonicalize()
                .with_context(|| format!("cannot find the mount point {}", at.display()))?,
            queues: share.service.queues.requests,
        })
    }

    /// The server that `vmm run` would have for it, for the calling thread's
    /// user, and `sandbox`. This process becomes what it takes, so there is one
    /// thread yet.
    ///
    /// # Errors
    ///
    /// When the directory cannot be shared.
    pub fn open(&self, sandbox: &Sandbox) -> Result<OpenShare> {
        let plan = Plan::make(&[Wish {
            directory: &self.directory,
            owners: self.config.owners,
            maps: &self.maps,
        }])?;
        let refused = plan.enter()?;
        for refused in [&plan.refused, &refused].into_iter().flatten() {
            eprintln!("serve: note: {refused}");
        }
        let planned = plan.shares.first().context("there is no share")?;
        let config = Config {
            owners: planned.owners,
            file_handles: !sandbox.is_on(),
            ..self.config
        };
        let passthrough = Passthrough::new(&planned.path(&self.directory), config)?;
        let place = passthrough.needs()?.into();
        Ok(OpenShare {
            keeper: (sandbox.is_on()).then(|| Keeper::new(sandbox, "native", Some(place))),
            server: Arc::new(Server::new(Arc::new(passthrough))),
            sandbox: sandbox.clone(),
            _owners: plan,
        })
    }
}

/// A share that can be served.
#[derive(Debug)]
pub struct OpenShare {
    /// What answers requests.
    pub server: Arc<Server>,
    keeper: Option<Keeper>,
    sandbox: Sandbox,
    _owners: Plan,
}

impl OpenShare {
    /// What starts the threads that serve it, confined as in `vmm run` where there
    /// is a sandbox.
    ///
    /// # Errors
    ///
    /// When they cannot be confined.
    pub fn threads(&mut self) -> Result<Arc<dyn Threads>> {
        let Some(keeper) = self.keeper.take() else {
            return Ok(Arc::new(Unconfined));
        };
        keeper.start()?;
        Ok(Arc::new(keeper))
    }

    /// For the end: whether the lists of the sandbox had all that serving took.
    ///
    /// # Errors
    ///
    /// When they lack something, whatever came of that.
    pub fn ensure_nothing_refused(&self) -> Result<()> {
        let record = self.sandbox.holds().record();
        let refused = record.refused();
        ensure!(refused.is_empty(), "the sandbox refused {refused:?}");
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use devices::passthrough::CachePolicy;

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
        assert_eq!((plain.queues, plain.at.as_path()), (1, top.path()));
        let full = place(",cache=always,writeback,no-xattr,queues=3").unwrap();
        let config = full.config;
        assert!(!config.read_only && config.writeback && !config.xattr);
        assert_eq!((config.cache, full.queues), (CachePolicy::Always, 3));
        for wrong in [
            ",fast",
            ",cache=",
            ",cache=often",
            ",queues=0",
            ",ro=1",
            ",ro,writeback",
            ",cache=never,writeback",
            ",tag=t",
            ",at=/x",
            ",queue-size=64",
            ",overlay-size=1M",
            ",",
        ] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
