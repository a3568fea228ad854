//! Modules that do what the kernel's own do not: one of these with other code.

use std::fs;

use anyhow::{Context, Result, ensure};
use elf::ElfBytes;
use elf::abi::{R_X86_64_NONE, SHT_RELA};
use elf::endian::LittleEndian;
use elf::section::SectionHeader;
use tempfile::TempDir;
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

use crate::vm::directory;

/// The bytes of an entry of a table of relocations, and where in it its type is.
const RELA: usize = 24;
const TYPE: std::ops::Range<usize> = 8..12;

/// A share with `NAME.ko` for the kernel with our series, which executes `code` when it is
/// loaded.
pub(crate) fn share(fixtures: &Fixtures, name: &str, code: &[u8]) -> Result<TempDir> {
    let path = fixtures.kernel(Kernel::PATCHED)?.join("modules/dummy.ko");
    let mut module = fs::read(&path).with_context(|| path.display().to_string())?;
    replace(&mut module, "init_module", code).with_context(|| path.display().to_string())?;
    directory(&[(&format!("{name}.ko"), &module)])
}

/// Puts `code` in the place of that of `function`, so that it stays as it is when the
/// module is loaded.
fn replace(object: &mut [u8], function: &str, code: &[u8]) -> Result<()> {
    let (start, relocations) = place_of(object, function, code.len())?;
    let place = object.get_mut(start..start + code.len());
    place.context("beyond the file")?.copy_from_slice(code);
    for relocation in relocations {
        let kind = object.get_mut(relocation + TYPE.start..relocation + TYPE.end);
        let kind = kind.context("a relocation beyond the file")?;
        kind.copy_from_slice(&R_X86_64_NONE.to_le_bytes());
    }
    Ok(())
}

/// Where in an object file the code of `function` starts, and the relocations of its first
/// `length` bytes.
fn place_of(object: &[u8], function: &str, length: usize) -> Result<(usize, Vec<usize>)> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(object)?;
    let (symbols, names) = elf.symbol_table()?.context("no symbols")?;
    let is_named = |index: u32| names.get(index as usize).is_ok_and(|name| name == function);
    let symbol = (symbols.iter()).find(|symbol| is_named(symbol.st_name));
    let symbol = symbol.context("no such function")?;
    ensure!(length as u64 <= symbol.st_size, "no room for the code");
    let sections = elf.section_headers().context("no sections")?;
    let section = sections.get(usize::from(symbol.st_shndx))?;
    let is_for_it = |header: &SectionHeader| {
        header.sh_type == SHT_RELA && header.sh_info == u32::from(symbol.st_shndx)
    };
    let mut within = Vec::new();
    for table in sections.iter().filter(is_for_it) {
        let at = usize::try_from(table.sh_offset)?;
        for (index, relocation) in elf.section_data_as_relas(&table)?.enumerate() {
            let end = symbol.st_value + length as u64;
            // Of up to 8 bytes.
            if relocation.r_offset + 8 > symbol.st_value && relocation.r_offset < end {
                within.push(at + index * RELA);
            }
        }
    }
    let start = usize::try_from(section.sh_offset + symbol.st_value)?;
    Ok((start, within))
}
