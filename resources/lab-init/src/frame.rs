//! A byte stream cut into frames, so that its end can be told from a pause.
//!
//! A frame is a length (32 bits, little endian) and that many bytes; a length
//! of 0 ends the stream.

use std::io::{self, Read, Write};

/// The largest frame anybody sends, in bytes. A port of the Linux guest takes
/// at most 32 KiB per write.
pub const LARGEST: usize = 32 * 1024 - HEADER;
const HEADER: usize = 4;

/// Sends `data` as one frame.
///
/// # Errors
///
/// What `port` fails with, and `InvalidInput` for an empty or oversized frame.
pub fn send(port: &mut impl Write, data: &[u8]) -> io::Result<()> {
    if data.is_empty() || data.len() > LARGEST {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let length = u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // One write, so that a frame crosses the port in one piece.
    let mut frame = Vec::with_capacity(HEADER + data.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(data);
    port.write_all(&frame)
}

/// Says that the stream ends here.
///
/// # Errors
///
/// What `port` fails with.
pub fn end(port: &mut impl Write) -> io::Result<()> {
    port.write_all(&0u32.to_le_bytes())
}

/// Receives one frame into `buffer`, which takes its length; `false` is the
/// end of the stream.
///
/// # Errors
///
/// What `port` fails with, `UnexpectedEof` when it ends without an end frame,
/// and `InvalidData` for a frame nobody sends.
pub fn receive(port: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut header = [0; HEADER];
    port.read_exact(&mut header)?;
    let length = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if length > LARGEST {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    buffer.resize(length, 0);
    port.read_exact(buffer)?;
    Ok(length != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_in_order_and_the_end_is_seen() {
        let mut wire = Vec::new();
        send(&mut wire, b"one").unwrap();
        send(&mut wire, &[7; LARGEST]).unwrap();
        end(&mut wire).unwrap();
        let mut wire = wire.as_slice();
        let mut buffer = Vec::new();
        assert!(receive(&mut wire, &mut buffer).unwrap());
        assert_eq!(buffer, b"one");
        assert!(receive(&mut wire, &mut buffer).unwrap());
        assert_eq!(buffer, [7; LARGEST]);
        assert!(!receive(&mut wire, &mut buffer).unwrap());
    }

    #[test]
    fn a_stream_cut_short_is_an_error_and_not_an_end() {
        let mut buffer = Vec::new();
        let cut = receive(&mut [3, 0, 0, 0, b'x'].as_slice(), &mut buffer);
        assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let nothing = receive(&mut [].as_slice(), &mut buffer);
        assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_oversized_length_is_refused_before_anything_is_allocated() {
        let wire = u32::MAX.to_le_bytes();
        let refused = receive(&mut wire.as_slice(), &mut Vec::new());
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
