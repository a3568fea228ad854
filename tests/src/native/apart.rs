//! The server in a process of its own and as a user of its own, while who asks is
//! root: as a `vmm` that an ordinary user runs, and its guest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use vmm_sandbox::{Mode, Sandbox};

use super::connection::Connection;
use super::share::NativeShare;

/// A user with the groups that they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUser {
    uid: u32,
    gid: u32,
    others: Vec<u32>,
}

impl FromStr for ServerUser {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([uid, gid, others @ ..]) => Ok(Self {
                uid: *uid,
                gid: *gid,
                others: others.to_vec(),
            }),
            _ => Err("a user is UID:GID[:GROUP]...".to_owned()),
        }
    }
}

impl std::fmt::Display for ServerUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)?;
        self.others.iter().try_for_each(|gid| write!(f, ":{gid}"))
    }
}

impl ServerUser {
    /// Makes this process theirs, while there is one thread.
    fn assume(&self) -> Result<()> {
        let groups: Vec<Gid> = (self.others.iter())
            .map(|gid| Gid::from_raw(*gid))
            .collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setgroups(&groups)
            .and_then(|()| setresgid(gid, gid, gid))
            .and_then(|()| setresuid(uid, uid, uid))
            // Its files in /proc belong to its user again, as those of a program
            // that the user has started.
            .and_then(|()| nix::sys::prctl::set_dumpable(true))
            .with_context(|| format!("cannot become the user {self}"))
    }
}

/// The process that serves.
#[derive(Debug)]
pub struct Apart(Child);

/// What it says once it can.
const READY: u8 = b'r';

impl Apart {
    /// Starts `serve` once more, to serve a directory at a place as `user` what
    /// `device` is asked, in a sandbox or in none.
    ///
    /// # Errors
    ///
    /// When it cannot serve, which it has said then.
    pub fn start(
        user: &ServerUser,
        (directory, place): (&Path, &std::ffi::OsStr),
        sandbox: Mode,
        device: File,
    ) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args(["--server-user", &user.to_string(), "--serve-standard-input"])
            .args(["--sandbox", sandbox.name()])
            .arg(directory)
            .arg(place)
            .stdin(device)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let mut ready = [0];
        let said = child.stdout.as_mut().map(|out| out.read_exact(&mut ready));
        if matches!(said, Some(Ok(()))) && ready == [READY] {
            return Ok(Self(child));
        }
        child.wait()?;
        bail!("the server has not started")
    }

    /// Waits for its end, after the file system was unmounted.
    ///
    /// # Errors
    ///
    /// When something went wrong in it, which it has said then.
    pub fn finish(mut self) -> Result<()> {
        let status = self.0.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// What the process that [`Apart::start`] starts does: it serves `share` to the
/// device on its standard input, as `user`, in a sandbox or in none.
///
/// # Errors
///
/// What is wrong with the share, and what went wrong while it was served.
pub fn serve(user: &ServerUser, share: &NativeShare, sandbox: Mode) -> Result<()> {
    let device = rustix::stdio::stdin().try_clone_to_owned()?;
    user.assume()?;
    let mut open = share.open(&Sandbox::plan(sandbox)?)?;
    let threads = open.threads()?;
    let mut out = io::stdout();
    out.write_all(&[READY])?;
    out.flush()?;
    let device = Arc::new(File::from(device));
    Connection::serve(device, Arc::clone(&open.server), share.queues, threads)?.finish()?;
    open.ensure_nothing_refused()
}
