//! What is kept of one kernel, and how: a head with everything but the image, then
//! what the image's segments have in the file, in their order. Both have a checksum
//! (CRC-32, as in gzip): an entry that was cut off or changed is none.
//!
//! | at | what, little-endian |
//! | --- | --- |
//! | 0 | magic with the version of this format |
//! | 8 | [`Identity`] of the kernel's file |
//! | 64 | sizes of version and configuration, 32 bits each, all ones where there is none |
//! | 72 | entry point of the image, 64 bits |
//! | 80 | number of segments, 0 without an image, and checksum of what they have, 32 bits each |
//! | 88 | for each segment size here, address, size in memory, alignment, 64 bits each |
//! | then | version, configuration, checksum of all before, segments |

use std::fs::File;
use std::io::{self, Read, Write};

use flate2::Crc;

use crate::elf::{ElfImage, Segment};
use crate::identity::Identity;

/// The last byte is the format's version.
const MAGIC: [u8; 8] = *b"vmmkern\x01";
const FIXED: usize = 88;
const PER_SEGMENT: usize = 32;
const SUM: usize = 4;
const ABSENT: u32 = u32::MAX;
/// A version is a line, and a configuration some 100 to 300 KiB.
const MAX_TEXT: u32 = 8 << 20;
/// The largest image that is kept, in bytes.
pub(crate) const MAX_IMAGE: u64 = 256 << 20;
/// A `vmlinux` has about five.
const MAX_SEGMENTS: u32 = 64;

/// What is known of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// As in [`crate::Kernel::version`].
    pub(crate) version: Option<String>,
    /// The text of the configuration.
    pub(crate) config: Option<String>,
}

/// An image in an entry.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Where the file is that of the entry.
    pub(crate) elf: ElfImage,
    pub(crate) file: File,
    /// The checksum of all that its segments have in the file.
    pub(crate) sum: u32,
}

/// Why a file is no entry for a kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Of a kernel that there was.
    Outdated,
    /// Cut off, changed, of another version.
    Damaged,
}

fn length(text: Option<&String>) -> u32 {
    text.map_or(ABSENT, |text| u32::try_from(text.len()).unwrap_or(ABSENT))
}

/// Writes what is known of the kernel that `identity` is of.
pub(crate) fn write(
    mut to: impl Write,
    identity: &Identity,
    facts: &Facts,
    image: Option<(&ElfImage, &[u8])>,
) -> io::Result<()> {
    let segments = image.map_or(&[][..], |(elf, _)| &elf.segments);
    let parts = || {
        image
            .iter()
            .flat_map(|(elf, bytes)| elf.segments.iter().map(|segment| segment.part_of(bytes)))
    };
    let mut sum = Crc::new();
    parts().for_each(|part| sum.update(part));
    let mut head = Vec::with_capacity(FIXED);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&identity.bytes());
    head.extend_from_slice(&length(facts.version.as_ref()).to_le_bytes());
    head.extend_from_slice(&length(facts.config.as_ref()).to_le_bytes());
    head.extend_from_slice(&image.map_or(0, |(elf, _)| elf.entry).to_le_bytes());
    head.extend_from_slice(
        &u32::try_from(segments.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    head.extend_from_slice(&sum.sum().to_le_bytes());
    for segment in segments {
        let Segment {
            file_size,
            address,
            memory_size,
            alignment,
            ..
        } = segment;
        for number in [file_size, address, memory_size, alignment] {
            head.extend_from_slice(&number.to_le_bytes());
        }
    }
    for text in [&facts.version, &facts.config].into_iter().flatten() {
        head.extend_from_slice(text.as_bytes());
    }
    let mut sum = Crc::new();
    sum.update(&head);
    head.extend_from_slice(&sum.sum().to_le_bytes());
    to.write_all(&head)?;
    parts().try_for_each(|part| to.write_all(part))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    word.map_or(0, |word| u32::from_le_bytes(*word))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

/// Reads what is known of the kernel that `identity` is of. Whether its image is whole
/// is known to who has read it.
///
/// # Errors
///
/// The outer one is the host's.
pub(crate) fn read(
    file: File,
    identity: &Identity,
) -> io::Result<Result<(Facts, Option<Kept>), Unusable>> {
    let size = file.metadata()?.len();
    let mut head = vec![0; FIXED];
    if size < FIXED as u64 {
        return Ok(Err(Unusable::Damaged));
    }
    (&file).read_exact(&mut head)?;
    let texts = [u32_at(&head, 64), u32_at(&head, 68)].map(|size| (size != ABSENT).then_some(size));
    let [version_size, config_size] = texts.map(Option::unwrap_or_default);
    let (entry, count, image_sum) = (u64_at(&head, 72), u32_at(&head, 80), u32_at(&head, 84));
    let head_size = FIXED + count as usize * PER_SEGMENT;
    let whole = head_size as u64 + u64::from(version_size) + u64::from(config_size) + SUM as u64;
    let is_plausible = head.starts_with(&MAGIC)
        && count <= MAX_SEGMENTS
        && version_size <= MAX_TEXT
        && config_size <= MAX_TEXT
        && whole <= size;
    if !is_plausible {
        return Ok(Err(Unusable::Damaged));
    }
    head.resize(usize::try_from(whole).unwrap_or(FIXED), 0);
    (&file).read_exact(&mut head[FIXED..])?;
    let sum_at = head.len() - SUM;
    let mut sum = Crc::new();
    sum.update(&head[..sum_at]);
    if sum.sum() != u32_at(&head, sum_at) {
        return Ok(Err(Unusable::Damaged));
    }
    if head[MAGIC.len()..][..Identity::SIZE] != identity.bytes() {
        return Ok(Err(Unusable::Outdated));
    }
    let mut end = whole;
    let mut segments = Vec::new();
    for numbers in head[FIXED..head_size].chunks_exact(PER_SEGMENT) {
        let [file_size, address, memory_size, alignment] =
            [0, 8, 16, 24].map(|at| u64_at(numbers, at));
        if file_size > MAX_IMAGE {
            return Ok(Err(Unusable::Damaged));
        }
        segments.push(Segment {
            file_offset: end,
            file_size,
            address,
            memory_size,
            alignment,
        });
        end += file_size;
    }
    let texts = head.split_off(head_size);
    let (version, config) = texts[..texts.len() - SUM].split_at(version_size as usize);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
    let (Ok(version), Ok(config)) = (text(version), text(config)) else {
        return Ok(Err(Unusable::Damaged));
    };
    if end != size {
        return Ok(Err(Unusable::Damaged));
    }
    let facts = Facts {
        version: (u32_at(&head, 64) != ABSENT).then_some(version),
        config: (u32_at(&head, 68) != ABSENT).then_some(config),
    };
    let kept = (count > 0).then_some(Kept {
        elf: ElfImage { entry, segments },
        file,
        sum: image_sum,
    });
    Ok(Ok((facts, kept)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::samples::vmlinux;
    use crate::unpacked::{Body, Unpacked};

    fn identity() -> Identity {
        Identity {
            device: 1,
            inode: 2,
            size: 3,
            modified: (4, 5),
            changed: (6, 7),
        }
    }

    fn facts() -> Facts {
        Facts {
            version: Some("6.1.0 (nobody)".to_owned()),
            config: Some("CONFIG_A=y\n".to_owned()),
        }
    }

    fn written(facts: &Facts) -> Vec<u8> {
        let image = vmlinux();
        let elf = ElfImage::of(&image).unwrap();
        let mut bytes = Vec::new();
        write(&mut bytes, &identity(), facts, Some((&elf, &image))).unwrap();
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<(Facts, Option<Kept>), Unusable> {
        read_for(bytes, &identity())
    }

    fn read_for(bytes: &[u8], identity: &Identity) -> Result<(Facts, Option<Kept>), Unusable> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        read(File::open(file.path()).unwrap(), identity).unwrap()
    }

    /// Whether head and image are whole.
    fn is_whole(bytes: &[u8]) -> bool {
        read_bytes(bytes).is_ok_and(|(_, kept)| {
            let ranges = [(vm_memory::GuestAddress(0), 32 << 20)];
            let memory = vm_memory::GuestMemoryMmap::from_ranges(&ranges).unwrap();
            let unpacked = Unpacked::of(Body::Kept(kept.unwrap()));
            unpacked.load(&memory).is_ok_and(|entry| entry.is_some())
        })
    }

    #[test]
    fn what_was_kept_is_what_is_known() {
        let (version, config) = (facts().version, facts().config);
        for facts in [
            facts(),
            Facts::default(),
            Facts {
                version: None,
                config,
            },
            Facts {
                version,
                config: Some(String::new()),
            },
        ] {
            let bytes = written(&facts);
            assert_eq!(read_bytes(&bytes).unwrap().0, facts);
            assert!(is_whole(&bytes));
            let mut without = Vec::new();
            write(&mut without, &identity(), &facts, None).unwrap();
            let (read, kept) = read_bytes(&without).unwrap();
            assert!(read == facts && kept.is_none());
        }
    }

    #[test]
    fn every_byte_counts() {
        let bytes = written(&facts());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(!is_whole(&damaged), "byte {at}");
        }
    }

    #[test]
    fn what_is_shorter_or_longer_is_damaged() {
        let bytes = written(&facts());
        for end in 0..bytes.len() {
            let result = read_bytes(&bytes[..end]);
            assert_eq!(result.err(), Some(Unusable::Damaged), "{end} bytes");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(read_bytes(&longer).err(), Some(Unusable::Damaged));
    }

    #[test]
    fn an_entry_of_a_file_that_was_changed_is_outdated() {
        let bytes = written(&facts());
        let one = identity();
        let others = [
            Identity { device: 9, ..one },
            Identity { inode: 9, ..one },
            Identity { size: 9, ..one },
            Identity {
                modified: (9, 5),
                ..one
            },
            Identity {
                modified: (4, 9),
                ..one
            },
            Identity {
                changed: (9, 7),
                ..one
            },
            Identity {
                changed: (6, 9),
                ..one
            },
        ];
        for other in others {
            let result = read_for(&bytes, &other);
            assert_eq!(result.err(), Some(Unusable::Outdated), "{other:?}");
        }
    }

    /// With checksums that are right, as one that somebody has made.
    #[test]
    fn sizes_that_no_kernel_has_ask_for_no_memory() {
        for at in (64..72).chain(80..84).chain(88..120) {
            for value in [0x7f, 0x80, 0xff] {
                let mut bytes = written(&facts());
                bytes[at] ^= value;
                let sum_at = FIXED + PER_SEGMENT + 14 + 11;
                let mut sum = Crc::new();
                sum.update(&bytes[..sum_at]);
                bytes[sum_at..][..SUM].copy_from_slice(&sum.sum().to_le_bytes());
                let _ = is_whole(&bytes);
            }
        }
    }
}
