//! Programs that meet debug exceptions of their own making.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use tempfile::TempDir;

use crate::vm::{below, directory};

/// INT3, then exit(0).
const INT3: &[u8] = b"\xcc\x31\xff\xb8\x3c\0\0\0\x0f\x05";
/// PUSHF, OR of TF, POPF, NOP, then exit(0).
const STEP: &[u8] = b"\x9c\x48\x81\x0c\x24\0\x01\0\0\x9d\x90\x31\xff\xb8\x3c\0\0\0\x0f\x05";

/// A directory with `int3` and `step`, which a SIGTRAP ends.
pub(super) fn programs() -> Result<TempDir> {
    let programs = directory(&[("int3", &elf(INT3)), ("step", &elf(STEP))])?;
    for name in ["int3", "step"] {
        fs::set_permissions(below(&programs, name), fs::Permissions::from_mode(0o755))?;
    }
    Ok(programs)
}

/// A static executable of `code`.
fn elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    put(&[2, 0, 62, 0, 1, 0, 0, 0]); // ET_EXEC, x86-64, version 1
    put(&(BASE + HEADERS).to_le_bytes()); // e_entry
    put(&64_u64.to_le_bytes()); // e_phoff
    put(&[0; 12]); // e_shoff, e_flags
    put(&[64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]); // sizes and counts
    put(&[1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, readable and executable
    put(&0_u64.to_le_bytes()); // p_offset
    put(&BASE.to_le_bytes()); // p_vaddr
    put(&BASE.to_le_bytes()); // p_paddr
    put(&size.to_le_bytes()); // p_filesz
    put(&size.to_le_bytes()); // p_memsz
    put(&4096_u64.to_le_bytes()); // p_align
    put(code);
    file
}
