//! Carries bytes from one file to another until there are no more.
//!
//! One thread per stream runs [`carry`]. A stream of the session is a file
//! whose READ and WRITE block on the host, so back pressure is the host's:
//! nothing is buffered here beyond one read.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes moved at once. Stays below the 128 KiB that a FUSE request carries
/// on kernels without `FUSE_MAX_PAGES`, so that one read is one request: a
/// second one would wait for more input while the first has some to deliver.
const CHUNK: usize = 64 << 10;

/// Why [`carry`] came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The source has no more bytes, or broke.
    Source,
    /// The sink takes no more bytes.
    Sink,
}

/// Copies from `source` to `sink` until one of them ends.
///
/// A pseudo-terminal's master answers `EIO` when nobody has the other side
/// open any more: an end of the source like any other.
pub fn carry(mut source: &File, mut sink: &File) -> End {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match retry(|| source.read(&mut buffer)) {
            Ok(0) | Err(_) => return End::Source,
            Ok(count) => count,
        };
        let Some(mut bytes) = buffer.get(..count) else {
            return End::Source;
        };
        while !bytes.is_empty() {
            match retry(|| sink.write(bytes)) {
                Ok(0) | Err(_) => return End::Sink,
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            }
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn every_byte_arrives_in_order() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&bytes).unwrap();
        source.rewind().unwrap();
        let mut sink = tempfile::tempfile().unwrap();

        assert_eq!(carry(&source, &sink), End::Source);

        let mut copied = Vec::new();
        sink.rewind().unwrap();
        sink.read_to_end(&mut copied).unwrap();
        assert!(copied == bytes);
    }

    #[test]
    fn a_pipe_without_readers_ends_the_sink() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(b"some").unwrap();
        source.rewind().unwrap();

        let end = carry(&source, &File::from(std::os::fd::OwnedFd::from(writer)));

        assert_eq!(end, End::Sink);
    }
}
