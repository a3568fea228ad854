//! The command's standard output and standard error.

use std::fs::File;

use devices::filesystem::{Position, RequestData, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

/// Where the command's output goes: straight from the guest's pages into the
/// host's file.
#[derive(Debug)]
pub(super) struct Output(File);

impl Output {
    pub(super) fn new(file: File) -> Self {
        Self(file)
    }

    /// Writes `size` bytes, waiting for whoever reads them. `EPIPE` when
    /// nobody does; the guest makes a SIGPIPE of it.
    ///
    /// The bytes written so far are reported when a later part fails, so that
    /// the guest neither loses nor repeats any.
    pub(super) fn write(&self, data: &mut dyn RequestData, size: usize) -> Result<usize> {
        let mut left = size.min(data.remaining());
        let mut written = 0_usize;
        while left > 0 {
            match data.drain_to(&self.0, left, Position::Current) {
                Ok(0) => break,
                Ok(count) => {
                    written = written.saturating_add(count);
                    left = left.saturating_sub(count);
                }
                Err(Errno::INTR) => {}
                // Whoever gave us the stream made it non-blocking.
                Err(Errno::AGAIN) => self.wait(),
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    fn wait(&self) {
        let _ = rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None);
    }
}
