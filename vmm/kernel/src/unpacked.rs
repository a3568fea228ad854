//! What a bzImage has packed: the `vmlinux` without its symbols that the guest's
//! decompressor would unpack, and what is left to do of that one's work
//! (`arch/x86/boot/compressed` of the kernel's source).
//!
//! Where it would move the kernel to a random place, or say or set up something
//! for the kernel that is not known here, the guest unpacks it as ever.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use flate2::Crc;
use flate2::read::MultiGzDecoder;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::bzimage::SetupHeader;
use crate::config::KernelConfig;
use crate::elf::ElfImage;
use crate::entry::{Kept, MAX_IMAGE};
use crate::file::Range;

/// The decompressor wants it of each segment (`parse_elf` in `misc.c`).
const SEGMENT_ALIGNMENT: u64 = 2 << 20;
/// How much is read at a time.
const CHUNK: usize = 128 << 10;
/// What gzip makes of data at most, from its format.
const MOST_PER_BYTE: u64 = 1032;

/// The payload of a bzImage, as far as it can be unpacked, and whether that is all
/// of it. `None` for other formats than gzip, or where it is too large.
pub(crate) fn unpack(file: &File, header: &SetupHeader) -> Option<(Vec<u8>, bool)> {
    let start = header.setup_size + u64::from(header.payload_offset);
    let length = u64::from(header.payload_length);
    let mut ends = [[0; 2], [0; 2]];
    Range::new(file, start, 2).read_exact(&mut ends[0]).ok()?;
    if ends[0] != [0x1f, 0x8b] {
        return None;
    }
    let mut size = [0; 4];
    let end = start + length.saturating_sub(4);
    Range::new(file, end, 4).read_exact(&mut size).ok()?;
    // Only where to begin with.
    let size = u64::from(u32::from_le_bytes(size)).min(length * MOST_PER_BYTE);
    let room = usize::try_from(size.min(MAX_IMAGE)).unwrap_or_default();
    let mut image = Vec::with_capacity(room + 1);
    let mut unpacked = MultiGzDecoder::new(Range::new(file, start, length)).take(MAX_IMAGE + 1);
    let is_whole = unpacked.read_to_end(&mut image).is_ok() && image.len() as u64 <= MAX_IMAGE;
    Some((image, is_whole))
}

/// Where the image is.
#[derive(Debug)]
pub(crate) enum Body {
    /// In memory, as it was unpacked.
    Memory(ElfImage, Vec<u8>),
    /// In the cache.
    Kept(Kept),
}

/// A kernel that can start without its decompressor.
#[derive(Debug)]
pub(crate) struct Unpacked {
    body: Body,
    is_random: bool,
}

impl Unpacked {
    /// `None` where it is not known that all is done then which the decompressor
    /// does.
    pub(crate) fn new(header: &SetupHeader, config: &KernelConfig, body: Body) -> Option<Self> {
        let unpacked = Self {
            body,
            is_random: config.has("CONFIG_RANDOMIZE_BASE"),
        };
        let room = header.pref_address..header.pref_address.checked_add(header.init_size.into())?;
        // Below it the kernel would be moved upwards.
        let is_preferred = room.start >= u64::from(header.code32_start)
            && room.start % SEGMENT_ALIGNMENT == 0
            && header.kernel_alignment.is_power_of_two()
            && room.start % u64::from(header.kernel_alignment) == 0;
        let elf = unpacked.elf();
        let fits = elf.segments.iter().all(|segment| {
            let end = segment.address.checked_add(segment.memory_size);
            segment.file_size <= segment.memory_size
                && segment.alignment % SEGMENT_ALIGNMENT == 0
                && segment.address >= room.start
                && end.is_some_and(|end| end <= room.end)
        });
        let starts = elf
            .segments
            .iter()
            .any(|segment| elf.entry.wrapping_sub(segment.address) < segment.file_size);
        (is_preferred && fits && starts).then_some(unpacked)
    }

    #[cfg(test)]
    pub(crate) fn of(body: Body) -> Self {
        let is_random = false;
        Self { body, is_random }
    }

    fn elf(&self) -> &ElfImage {
        match &self.body {
            Body::Memory(elf, _) => elf,
            Body::Kept(kept) => &kept.elf,
        }
    }

    /// Whether it is from the cache.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.body, Body::Kept(_))
    }

    /// Whether the decompressor has nothing else to do where it finds this command
    /// line.
    pub(crate) fn suits(&self, line: &str) -> bool {
        let mut stays = !self.is_random;
        for word in line.split_ascii_whitespace() {
            // It looks beyond `--` as well.
            stays |= word == "nokaslr";
            let speaks = word.starts_with("earlyprintk") || word.starts_with("console=uart");
            if speaks || word.starts_with("mem_encrypt=") {
                return false;
            }
        }
        stays
    }

    /// Copies it to where it runs, and says where it starts: nowhere if it is damaged,
    /// which may have been copied already.
    pub(crate) fn load(
        &self,
        memory: &GuestMemoryMmap,
    ) -> Result<Option<u64>, vm_memory::GuestMemoryError> {
        match &self.body {
            Body::Memory(elf, image) => {
                for segment in &elf.segments {
                    let bytes = segment.part_of(image);
                    memory.write_slice(bytes, GuestAddress(segment.address))?;
                }
            }
            Body::Kept(kept) => {
                let mut sum = Crc::new();
                let mut chunk = vec![0; CHUNK];
                for segment in &kept.elf.segments {
                    let mut done = 0;
                    while done < segment.file_size {
                        let left = usize::try_from(segment.file_size - done).unwrap_or(CHUNK);
                        let bytes = &mut chunk[..left.min(CHUNK)];
                        let at = segment.file_offset + done;
                        if kept.file.read_exact_at(bytes, at).is_err() {
                            return Ok(None);
                        }
                        sum.update(bytes);
                        let to = GuestAddress(segment.address.saturating_add(done));
                        memory.write_slice(bytes, to)?;
                        done += bytes.len() as u64;
                    }
                }
                if sum.sum() != kept.sum {
                    return Ok(None);
                }
            }
        }
        Ok(Some(self.elf().entry))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
