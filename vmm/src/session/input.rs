//! The command's standard input.

use std::fs::File;
use std::os::fd::AsFd;

use devices::filesystem::{Position, ReplyData, Result};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::waiters::Waiter;

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
        waiter: &Waiter<'_>,
        data: &mut dyn ReplyData,
        size: usize,
    ) -> Result<usize> {
        let Some(file) = &self.0 else { return Ok(0) };
        if size == 0 {
            return Ok(0);
        }
        loop {
            // Files and /dev/null, which epoll refuses, are always ready to
            // poll(2); a closed pipe is ready with HUP, and then reads 0.
            waiter.wait(Some((file.as_fd(), PollFlags::IN)))?;
            if !is_readable(file)? {
                continue;
            }
            match data.fill_from(file, size, Position::Current) {
                // Somebody else, who has the same pipe or terminal, was
                // quicker.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }
}

/// Whether a read would not block at this moment: the wait may have ended for
/// another reason.
fn is_readable(file: &File) -> Result<bool> {
    let mut polled = [rustix::event::PollFd::new(file, PollFlags::IN)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match rustix::event::poll(&mut polled, Some(&now)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}
