//! The command's standard output and standard error.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use devices::filesystem::{Position, Request, RequestData, Result, Waiter};
use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// What a stream that is ready for writing takes without waiting (`PIPE_BUF`).
const READY: usize = 4096;

/// Where the command's output goes: straight from the guest's pages into the
/// host's file.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    /// A write may wait, and cannot be woken then.
    blocks: bool,
    /// Why something that the guest wrote is not there.
    lost: OnceLock<Errno>,
}

impl Output {
    /// A pipe or terminal is opened once more, without blocking: the
    /// descriptor we were given shares its flags with whoever gave it.
    pub(super) fn new(file: File) -> Self {
        let output = |file, blocks| Self {
            file,
            blocks,
            lost: OnceLock::new(),
        };
        if !may_wait(&file) {
            return output(file, false);
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(again) => output(again.into(), false),
            // A socket, or one that another user made.
            Err(_) => output(file, true),
        }
    }

    /// The first error that lost some of the output. Not `EPIPE`: a reader
    /// that leaves wants no more.
    pub(super) fn lost(&self) -> Option<Errno> {
        self.lost.get().copied()
    }

    /// Writes `size` bytes, waiting for whoever reads them. `EPIPE` when
    /// nobody does; the guest makes a SIGPIPE of it.
    ///
    /// The bytes written so far are reported when a later part fails, so that
    /// the guest neither loses nor repeats any.
    pub(super) fn write(
        &self,
        request: &Request<'_>,
        data: &mut dyn RequestData,
        size: usize,
    ) -> Result<usize> {
        let mut left = size.min(data.remaining());
        let mut written = 0_usize;
        let mut waiter = None;
        while left > 0 {
            match self.write_part(request, &mut waiter, data, left) {
                Ok(0) => break,
                Ok(count) => {
                    written = written.saturating_add(count);
                    left = left.saturating_sub(count);
                }
                Err(error) => {
                    // Whoever is interrupted asks again.
                    if !matches!(error, Errno::PIPE | Errno::INTR) {
                        let _ = self.lost.set(error);
                    }
                    if written == 0 {
                        return Err(error);
                    }
                    break;
                }
            }
        }
        Ok(written)
    }

    fn write_part<'s>(
        &self,
        request: &Request<'s>,
        waiter: &mut Option<Waiter<'s>>,
        data: &mut dyn RequestData,
        left: usize,
    ) -> Result<usize> {
        if self.blocks {
            self.wait(request, waiter)?;
        }
        let part = if self.blocks { left.min(READY) } else { left };
        loop {
            match data.drain_to(&self.file, part, Position::Current) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(request, waiter)?,
                outcome => return outcome,
            }
        }
    }

    fn wait<'s>(&self, request: &Request<'s>, waiter: &mut Option<Waiter<'s>>) -> Result<()> {
        let waiter = match waiter {
            Some(waiter) => waiter,
            None => waiter.insert(request.waiter()?),
        };
        waiter.wait(&self.file, PollFlags::OUT)
    }
}

/// Whether a write waits for whoever reads.
fn may_wait(file: &File) -> bool {
    match rustix::fs::fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::RegularFile | FileType::BlockDevice) => false,
        Ok(FileType::CharacterDevice) => rustix::termios::isatty(file),
        _ => true,
    }
}
