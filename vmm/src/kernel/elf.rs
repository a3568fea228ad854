//! The program headers of an ELF `vmlinux`: what is loaded where.

use std::fs::File;

use super::file::read_at_most;

const EHDR_SIZE: usize = 64;
const PHDR_SIZE: usize = 56;
/// A `vmlinux` has about five program headers.
const MAX_PHDRS: u16 = 64;
const ELFCLASS64: u8 = 2;
const ELFDATA2LSB: u8 = 1;
const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
/// Where the kernel's own mapping starts (`__START_KERNEL_map`): what tells a
/// kernel from a static program, which is linked low.
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// A loadable part of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// Where it lies in the file, in bytes.
    pub file_offset: u64,
    /// How much of it lies in the file, in bytes.
    pub file_size: u64,
    pub address: u64,
    /// Its size in memory, in bytes.
    pub memory_size: u64,
}

/// A `vmlinux` that passed inspection.
#[derive(Clone, Debug)]
pub(crate) struct ElfImage {
    /// Guest-physical address of `startup_64`.
    pub entry: u64,
    /// What is loaded, in the order of the program headers.
    pub segments: Vec<Segment>,
}

/// Whether the file starts as every ELF file does.
pub(super) fn has_magic(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

fn u16_at(data: &[u8], at: usize) -> u16 {
    data.get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    data.get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    data.get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn machine_name(machine: u16) -> String {
    match machine {
        3 => "32-bit x86".to_owned(),
        20 => "PowerPC".to_owned(),
        21 => "64-bit PowerPC".to_owned(),
        22 => "s390".to_owned(),
        40 => "32-bit Arm".to_owned(),
        183 => "arm64".to_owned(),
        243 => "RISC-V".to_owned(),
        258 => "LoongArch".to_owned(),
        other => format!("machine number {other}"),
    }
}

impl ElfImage {
    /// Reads the headers: the outer error is the host's, the inner one says
    /// what the file is instead of a kernel.
    pub(super) fn read(
        file: &File,
        head: &[u8],
        file_size: u64,
    ) -> std::io::Result<Result<Self, String>> {
        if let Err(looks_like) = check_header(head) {
            return Ok(Err(looks_like));
        }
        let count = u16_at(head, 56);
        let table = read_at_most(file, u64_at(head, 32), usize::from(count) * PHDR_SIZE)?;
        Ok(Self::from_table(u64_at(head, 24), &table, count, file_size))
    }

    fn from_table(entry: u64, table: &[u8], count: u16, file_size: u64) -> Result<Self, String> {
        if table.len() < usize::from(count) * PHDR_SIZE {
            return Err("a truncated ELF file".to_owned());
        }
        let loads: Vec<&[u8]> = table
            .chunks_exact(PHDR_SIZE)
            .filter(|phdr| u32_at(phdr, 0) == PT_LOAD)
            .collect();
        let runs_high = loads
            .first()
            .is_some_and(|phdr| u64_at(phdr, 16) >= KERNEL_MAP);
        if !runs_high {
            return Err("an ELF program, not a vmlinux".to_owned());
        }
        let segments: Vec<Segment> = loads
            .iter()
            .map(|phdr| Segment {
                file_offset: u64_at(phdr, 8),
                file_size: u64_at(phdr, 32),
                address: u64_at(phdr, 24),
                memory_size: u64_at(phdr, 40),
            })
            .collect();
        let complete = segments.iter().all(|segment| {
            segment
                .file_offset
                .checked_add(segment.file_size)
                .is_some_and(|end| end <= file_size)
        });
        if !complete {
            return Err("a truncated vmlinux; copy it again".to_owned());
        }
        let entry_is_loaded = segments
            .iter()
            .any(|segment| entry.wrapping_sub(segment.address) < segment.memory_size);
        if !entry_is_loaded {
            return Err("a vmlinux whose entry point is in no segment".to_owned());
        }
        Ok(Self { entry, segments })
    }

    /// One past the highest guest-physical address it occupies.
    pub(super) fn footprint_end(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.address.saturating_add(segment.memory_size))
            .max()
            .unwrap_or(0)
    }
}

fn check_header(head: &[u8]) -> Result<(), String> {
    if head.len() < EHDR_SIZE {
        return Err("a truncated ELF file".to_owned());
    }
    let machine = u16_at(head, 18);
    let wide = head.get(4) == Some(&ELFCLASS64) && head.get(5) == Some(&ELFDATA2LSB);
    if machine != EM_X86_64 || !wide {
        return Err(format!(
            "an ELF file for {}; this machine is x86-64",
            machine_name(machine)
        ));
    }
    match u16_at(head, 16) {
        ET_EXEC => {}
        ET_REL => return Err("an ELF object file or kernel module".to_owned()),
        _ => return Err("an ELF shared object or program".to_owned()),
    }
    let count = u16_at(head, 56);
    if usize::from(u16_at(head, 54)) != PHDR_SIZE || count == 0 || count > MAX_PHDRS {
        return Err("an ELF file with strange program headers".to_owned());
    }
    Ok(())
}
