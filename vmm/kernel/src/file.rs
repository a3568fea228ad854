//! Reading at a position, whatever the file claims to be.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

/// Reads up to `len` bytes at `offset`; shorter at the end of the file.
pub(super) fn read_at_most(file: &File, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    // An offset beyond what a file can have is beyond its end; the host would
    // call it invalid.
    let last = offset.checked_add(len as u64);
    if last.is_none_or(|last| i64::try_from(last).is_err()) {
        return Ok(Vec::new());
    }
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// A part of a file as a reader that leaves the file's position alone.
pub(super) struct Range<'a> {
    file: &'a File,
    position: u64,
    left: u64,
}

impl<'a> Range<'a> {
    pub(super) fn new(file: &'a File, position: u64, left: u64) -> Self {
        Self {
            file,
            position,
            left,
        }
    }
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..len], self.position)?;
        self.position += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
