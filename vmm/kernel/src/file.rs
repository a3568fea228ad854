//! Reading at a position, whatever the file claims to be.

use std::fs::File;
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
