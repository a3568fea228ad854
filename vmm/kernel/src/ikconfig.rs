//! Finds what a kernel carries about itself: the build configuration
//! (`CONFIG_IKCONFIG`: gzip data between two markers) and the version banner.
//!
//! Everything is bounded: a file is data of the user's, not a promise. A
//! kernel that cannot be read this way is not an error; its configuration is
//! unknown then.

use std::fs::File;
use std::io::Read;

use flate2::read::GzDecoder;
use memchr::memmem;

use super::elf::ElfImage;
use super::file::Range;

const CONFIG_START: &[u8] = b"IKCFG_ST";
const BANNER_START: &[u8] = b"Linux version ";
/// A compressed `.config` is some 30 to 70 KiB.
const MAX_CONFIG_GZ: usize = 1 << 20;
/// An unpacked `.config` is some 100 to 300 KiB.
const MAX_CONFIG_TEXT: u64 = 8 << 20;
/// How much of a segment is searched; the largest are below 100 MiB.
const MAX_SEARCHED: u64 = 256 << 20;
const MAX_BANNER: usize = 512;
const CHUNK: usize = 256 << 10;

/// The configuration that an unpacked kernel carries.
pub(super) fn in_image(image: &[u8]) -> Option<String> {
    let start = memmem::find(image, CONFIG_START)? + CONFIG_START.len();
    let packed = image.get(start..)?;
    text(packed.get(..MAX_CONFIG_GZ).unwrap_or(packed))
}

/// The configuration that a `vmlinux` carries.
pub(super) fn in_segments(file: &File, elf: &ElfImage) -> Option<String> {
    let packed = (elf.segments.iter())
        .find_map(|segment| after(segment_reader(file, segment), CONFIG_START, MAX_CONFIG_GZ));
    text(&packed?)
}

fn text(packed: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    // Bytes after the gzip member are the end marker: GzDecoder stops there.
    GzDecoder::new(packed)
        .take(MAX_CONFIG_TEXT)
        .read_to_end(&mut text)
        .ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
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
            // What came before an error counts.
            let _ = from.take(rest).read_to_end(&mut found);
            found.truncate(max);
            return Some(found);
        }
        let keep = window.len().min(marker.len() - 1);
        window.drain(..window.len() - keep);
    }
}
