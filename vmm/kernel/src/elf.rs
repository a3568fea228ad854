//! The program headers of an ELF `vmlinux`: what is loaded where.

use std::fs::File;

use elf::abi::{EM_X86_64, ET_EXEC, ET_REL, PT_LOAD};
use elf::endian::AnyEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};

use super::file::read_at_most;

/// The whole header of a 64-bit file, and the part of it that every file has.
const EHDR_SIZE: usize = 64;
const IDENT_SIZE: usize = elf::abi::EI_NIDENT;
const PHDR_SIZE: usize = 56;
/// A `vmlinux` has about five program headers.
const MAX_PHDRS: u16 = 64;
/// Where the kernel's own mapping starts (`__START_KERNEL_map`): what tells a
/// kernel from a static program, which is linked low.
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// A loadable part of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Where it lies in the file, in bytes.
    pub file_offset: u64,
    /// How much of it lies in the file, in bytes.
    pub file_size: u64,
    pub address: u64,
    /// Its size in memory, in bytes.
    pub memory_size: u64,
    /// What its address is a multiple of, as the file says.
    pub alignment: u64,
}

impl Segment {
    /// What it has in a file with these bytes.
    pub(super) fn part_of<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        let [start, size] = [self.file_offset, self.file_size]
            .map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let rest = file.get(start..).unwrap_or_default();
        rest.get(..size).unwrap_or(rest)
    }
}

/// A `vmlinux` that passed inspection.
#[derive(Clone, Debug)]
pub struct ElfImage {
    /// Guest-physical address of `startup_64`.
    pub entry: u64,
    /// What is loaded, in the order of the program headers.
    pub segments: Vec<Segment>,
}

/// Whether the file starts as every ELF file does.
pub(super) fn has_magic(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
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
        let header = match header(head) {
            Ok(header) => header,
            Err(looks_like) => return Ok(Err(looks_like)),
        };
        let size = usize::from(header.e_phnum) * PHDR_SIZE;
        let table = read_at_most(file, header.e_phoff, size)?;
        Ok(Self::from_table(&header, &table, file_size))
    }

    /// The same for a file that is in memory.
    pub(super) fn of(image: &[u8]) -> Result<Self, String> {
        let header = header(image)?;
        let table = usize::try_from(header.e_phoff).ok();
        let table = table.and_then(|start| image.get(start..)).unwrap_or(&[]);
        let size = usize::from(header.e_phnum) * PHDR_SIZE;
        let table = table.get(..size).unwrap_or(table);
        Self::from_table(&header, table, image.len() as u64)
    }

    fn from_table(
        header: &FileHeader<AnyEndian>,
        table: &[u8],
        file_size: u64,
    ) -> Result<Self, String> {
        if table.len() < usize::from(header.e_phnum) * PHDR_SIZE {
            return Err("a truncated ELF file".to_owned());
        }
        let loads: Vec<ProgramHeader> = SegmentTable::new(header.endianness, header.class, table)
            .iter()
            .filter(|phdr| phdr.p_type == PT_LOAD)
            .collect();
        let entry = header.e_entry;
        if loads.first().is_none_or(|phdr| phdr.p_vaddr < KERNEL_MAP) {
            return Err("an ELF program, not a vmlinux".to_owned());
        }
        let segments: Vec<Segment> = loads
            .iter()
            .map(|phdr| Segment {
                file_offset: phdr.p_offset,
                file_size: phdr.p_filesz,
                address: phdr.p_paddr,
                memory_size: phdr.p_memsz,
                alignment: phdr.p_align,
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

/// The file's header, if it is one of a kernel for this machine.
fn header(head: &[u8]) -> Result<FileHeader<AnyEndian>, String> {
    let truncated = || "a truncated ELF file".to_owned();
    let ident = head.get(..IDENT_SIZE).ok_or_else(truncated)?;
    let tail = head.get(IDENT_SIZE..EHDR_SIZE).ok_or_else(truncated)?;
    let header = parse_ident::<AnyEndian>(ident)
        .and_then(|ident| FileHeader::parse_tail(ident, tail))
        .map_err(|error| format!("an ELF file with a strange header ({error})"))?;
    let is_little = header.endianness == AnyEndian::Little;
    if header.e_machine != EM_X86_64 || header.class != Class::ELF64 || !is_little {
        return Err(format!(
            "an ELF file for {}; this machine is x86-64",
            machine_name(header.e_machine)
        ));
    }
    match header.e_type {
        ET_EXEC => {}
        ET_REL => return Err("an ELF object file or kernel module".to_owned()),
        _ => return Err("an ELF shared object or program".to_owned()),
    }
    if usize::from(header.e_phentsize) != PHDR_SIZE || !(1..=MAX_PHDRS).contains(&header.e_phnum) {
        return Err("an ELF file with strange program headers".to_owned());
    }
    Ok(header)
}
