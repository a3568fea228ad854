//! The command's standard input.

use std::fs::File;

use devices::filesystem::{Position, ReplyData, Request, Result};
use rustix::event::PollFlags;
use rustix::io::Errno;

/// What the command reads. Bytes go straight from the host's file into the
/// guest's pages, and no more are taken than the guest asked for.
#[derive(Debug)]
pub(super) struct Input(Option<File>);

impl Input {
    pub(super) fn new(file: Option<File>) -> Self {
        Self(file)
    }

    /// Waits for input and reads up to `size` bytes of it; 0 is its end.
    pub(super) fn read(
        &self,
        request: &Request<'_>,
        data: &mut dyn ReplyData,
        size: usize,
    ) -> Result<usize> {
        let Some(file) = &self.0 else { return Ok(0) };
        if size == 0 {
            return Ok(0);
        }
        let waiter = request.waiter()?;
        loop {
            // Files and /dev/null, which epoll refuses, are always ready to
            // poll(2); a closed pipe is ready with HUP, and then reads 0.
            waiter.wait(file, PollFlags::IN)?;
            match data.fill_from(file, size, Position::Current) {
                // Somebody else, who has the same pipe or terminal, was
                // quicker.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }
}
