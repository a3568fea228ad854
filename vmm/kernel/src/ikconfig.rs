//! Finds what a kernel carries about itself: the build configuration
//! (`CONFIG_IKCONFIG`: gzip data between two markers) and the version banner.
//!
//! Everything is bounded: a file is data of the user's, not a promise. A
//! kernel that cannot be read this way is not an error; its configuration is
//! unknown then.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use flate2::read::{GzDecoder, MultiGzDecoder};
use memchr::memmem;

use super::config::KernelConfig;
use super::elf::ElfImage;
use super::image::Image;

const CONFIG_START: &[u8] = b"IKCFG_ST";
const BANNER_START: &[u8] = b"Linux version ";
/// A compressed `.config` is some 30 to 70 KiB.
const MAX_CONFIG_GZ: usize = 1 << 20;
/// An unpacked `.config` is some 100 to 300 KiB.
const MAX_CONFIG_TEXT: u64 = 8 << 20;
/// How much of an unpacked kernel is searched; the largest are below 100 MiB.
const MAX_SEARCHED: u64 = 256 << 20;
const MAX_BANNER: usize = 512;
const CHUNK: usize = 256 << 10;

/// The configuration a kernel carries.
pub(super) fn find(file: &File, image: &Image) -> Option<KernelConfig> {
    let packed = match image {
        Image::Elf(elf) => elf
            .segments
            .iter()
            .find_map(|segment| after(segment_reader(file, segment), CONFIG_START, MAX_CONFIG_GZ)),
        Image::BzImage(header) => {
            let start = header.setup_size + u64::from(header.payload_offset);
            let payload = Range::new(file, start, u64::from(header.payload_length));
            let unpacked = unpack(payload)?.take(MAX_SEARCHED);
            after(unpacked, CONFIG_START, MAX_CONFIG_GZ)
        }
    }?;
    let mut text = Vec::new();
    // Bytes after the gzip member are the end marker: GzDecoder stops there.
    GzDecoder::new(packed.as_slice())
        .take(MAX_CONFIG_TEXT)
        .read_to_end(&mut text)
        .ok()?;
    Some(KernelConfig::parse(&String::from_utf8_lossy(&text)))
}

/// The version in the banner of a `vmlinux`, without "Linux version ".
pub(super) fn banner(file: &File, elf: &ElfImage) -> std::io::Result<Option<String>> {
    let found = elf
        .segments
        .iter()
        .find_map(|segment| after(segment_reader(file, segment), BANNER_START, MAX_BANNER));
    Ok(found.and_then(|text| {
        let end = text.iter().position(|&byte| byte == b'\n' || byte == 0)?;
        std::str::from_utf8(&text[..end]).ok().map(str::to_owned)
    }))
}

fn segment_reader<'a>(file: &'a File, segment: &super::elf::Segment) -> Range<'a> {
    Range::new(
        file,
        segment.file_offset,
        segment.file_size.min(MAX_SEARCHED),
    )
}

/// Chooses the decompressor by the payload's magic. Other formats than gzip
/// are left unread: their configuration is unknown.
fn unpack(payload: Range<'_>) -> Option<impl Read + '_> {
    let mut magic = [0; 2];
    payload
        .file
        .read_exact_at(&mut magic, payload.position)
        .ok()?;
    (magic == [0x1f, 0x8b]).then(|| MultiGzDecoder::new(payload))
}

/// Up to `max` bytes that follow the first `marker`.
fn after(mut from: impl Read, marker: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut window = Vec::with_capacity(CHUNK + marker.len());
    loop {
        let carried = window.len();
        let read = (&mut from)
            .take(CHUNK as u64)
            .read_to_end(&mut window)
            .unwrap_or(0);
        if read == 0 && window.len() == carried {
            return None;
        }
        if let Some(at) = memmem::find(&window, marker) {
            let mut found = window.split_off(at + marker.len());
            let rest = max.saturating_sub(found.len()) as u64;
            // The data after a kernel's payload may end in an error (padding,
            // a size word); what came before it counts.
            let _ = from.take(rest).read_to_end(&mut found);
            found.truncate(max);
            return Some(found);
        }
        let keep = window.len().min(marker.len() - 1);
        window.drain(..window.len() - keep);
    }
}

/// A part of a file as a reader that leaves the file's position alone.
struct Range<'a> {
    file: &'a File,
    position: u64,
    left: u64,
}

impl<'a> Range<'a> {
    fn new(file: &'a File, position: u64, left: u64) -> Self {
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
