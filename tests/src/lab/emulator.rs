//! QEMU without the fault for which guests hang where the clock counts instructions.
//!
//! At VMRUN QEMU (7.2, and later ones) injects an interrupt into the guest, and leaves the
//! vector behind in `exception_index` until the next #VMEXIT. When the processor's loop is
//! left before that, because the instructions up to the next timer are used up or the main
//! thread asks for it, what is left behind is taken for an exception and delivered once
//! more, even with RFLAGS.IF clear. A guest that holds the lock of the interrupt's
//! descriptor then waits for that lock for ever.
//!
//! What an exception leaves is cleared by the loop itself. So `do_interrupt_x86_hardirq`,
//! by which alone VMRUN and the loop deliver an interrupt, is given the one instruction that
//! it lacks, in a copy of the program: there is room for it between this function and the
//! next. A program that does not have exactly the code that is expected is left as it is.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::endian::LittleEndian;
use rustix::fs::{MemfdFlags, memfd_create};

use super::machine::path_of;

/// Where distributions have the parts of QEMU that are loaded at run time: a copy does not
/// find them by its own path.
const MODULES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/qemu",
    "/usr/lib64/qemu",
    "/usr/lib/qemu",
];
/// The same for its firmware.
const FIRMWARE: [&str; 2] = ["/usr/share/qemu", "/usr/share/seabios"];

/// `mov %edx,%r9d; sub $environment,%rdi`, of which the number is left out.
const BEGIN: [u8; 6] = [0x41, 0x89, 0xd1, 0x48, 0x81, 0xef];
/// `xor %r8d,%r8d; xor %ecx,%ecx; xor %edx,%edx; jmp`, of which the distance is.
const END: [u8; 8] = [0x45, 0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2, 0xe9];
/// `movl $..., offset(%rdi)`
const STORE: [u8; 2] = [0xc7, 0x87];
/// The number -1, by which `exception_index` says that there is none.
const NONE: [u8; 4] = [0xff; 4];
/// Both numbers are of 32 bits.
const WORD: usize = 4;
/// The function as it is, and as it becomes.
const OLD: usize = BEGIN.len() + WORD + END.len() + WORD;
const NEW: usize = OLD + STORE.len() + 2 * WORD;

/// A copy of QEMU in memory.
#[derive(Debug)]
pub(super) struct Emulator {
    program: File,
}

impl Emulator {
    /// Copies the program at `path`, and mends the copy. Nothing where its code is not what
    /// is expected, or where the host has no memory that can be executed.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(super) fn mended(path: &Path) -> Result<Option<Self>> {
        let mut program =
            fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if mend(&mut program).is_none() {
            return Ok(None);
        }
        let copy = || -> Result<File> {
            // Before Linux 6.3 there is no other kind.
            let of_code = MemfdFlags::CLOEXEC | MemfdFlags::EXEC;
            let memory = memfd_create("qemu", of_code)
                .or_else(|_| memfd_create("qemu", MemfdFlags::CLOEXEC))?;
            let mut file = File::from(memory);
            file.write_all(&program)?;
            // What somebody may write to cannot be executed.
            Ok(File::open(path_of(&file))?)
        };
        let copy = copy().ok().map(|program| Self { program });
        Ok(copy.filter(Self::is_executable))
    }

    /// Whether the host lets a copy be run.
    fn is_executable(&self) -> bool {
        let mut command = Command::new(self.path());
        command.arg("--version").envs(Self::environment());
        let output = command.output();
        output.is_ok_and(|output| output.status.success())
    }

    /// What to execute.
    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.program).into()
    }

    /// Variables that it needs.
    pub(super) fn environment() -> Option<(&'static str, &'static str)> {
        let modules = MODULES.into_iter().find(|path| Path::new(path).is_dir());
        modules.map(|path| ("QEMU_MODULE_DIR", path))
    }

    /// Arguments that it needs.
    pub(super) fn arguments() -> impl Iterator<Item = &'static str> {
        FIRMWARE.into_iter().flat_map(|path| ["-L", path])
    }
}

/// Mends `program`, or leaves it as it is.
fn mend(program: &mut [u8]) -> Option<()> {
    let (start, new) = {
        let file = ElfBytes::<LittleEndian>::minimal_parse(program).ok()?;
        let start = place(&file, "do_interrupt_x86_hardirq")?;
        let target = place(&file, "do_interrupt_all")?;
        let store = place(&file, "cpu_loop_exit_noexc")?;
        let function = program.get(start..start.checked_add(NEW)?)?;
        // Its first act, after it has made room on the stack.
        let found = program.get(store..store.checked_add(16)?)?;
        (
            start,
            changed(function, index_of(found)?, distance(start, target)?)?,
        )
    };
    program.get_mut(start..start + NEW)?.copy_from_slice(&new);
    Some(())
}

/// Where the symbol's code is in the file. QEMU exports its functions to what it loads.
fn place(file: &ElfBytes<'_, LittleEndian>, name: &str) -> Option<usize> {
    let (symbols, names) = file.dynamic_symbol_table().ok()??;
    let symbol = symbols.iter().find(|symbol| {
        let is_it = names.get(symbol.st_name as usize).ok() == Some(name);
        is_it && !symbol.is_undefined()
    })?;
    let address = symbol.st_value;
    file.segments()?.iter().find_map(|segment| {
        let offset = address.checked_sub(segment.p_vaddr)?;
        let is_in = segment.p_type == elf::abi::PT_LOAD && offset < segment.p_filesz;
        usize::try_from(segment.p_offset.checked_add(offset)?)
            .ok()
            .filter(|_| is_in)
    })
}

/// The distance of the old function's jump, which ends where that ends. Both are in one
/// segment, so that the file has it as memory does.
fn distance(start: usize, target: usize) -> Option<i32> {
    let end = i64::try_from(start.checked_add(OLD)?).ok()?;
    i32::try_from(i64::try_from(target).ok()? - end).ok()
}

/// The offset of `exception_index`, from a function that stores -1 there.
fn index_of(function: &[u8]) -> Option<[u8; WORD]> {
    let whole = STORE.len() + 2 * WORD;
    let store = function
        .windows(whole)
        .find(|code| code.starts_with(&STORE) && code.ends_with(&NONE))?;
    store.get(STORE.len()..STORE.len() + WORD)?.try_into().ok()
}

/// The function that stores -1 at `index` first, if `function` is the one that jumps so far.
fn changed(function: &[u8], index: [u8; WORD], distance: i32) -> Option<Vec<u8>> {
    let (begin, rest) = function.split_at_checked(BEGIN.len() + WORD)?;
    let (end, rest) = rest.split_at_checked(END.len())?;
    let (jump, room) = rest.split_at_checked(WORD)?;
    let is_known = begin.starts_with(&BEGIN) && end == END && jump == distance.to_le_bytes();
    if !is_known || !is_padding(room) {
        return None;
    }
    let longer = i32::try_from(NEW - OLD).ok()?;
    let jump = distance.checked_sub(longer)?.to_le_bytes();
    let new = [begin, &STORE, &index, &NONE, end, &jump].concat();
    (new.len() == NEW).then_some(new)
}

/// Whether it is what an assembler fills the room between functions with: one long `nopw`,
/// or many short ones.
fn is_padding(room: &[u8]) -> bool {
    const LONG: [u8; 10] = [0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
    room == LONG || room.iter().all(|byte| [0x90, 0xcc].contains(byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Debian's 7.2.22.
    const KNOWN: [u8; NEW] = [
        0x41, 0x89, 0xd1, 0x48, 0x81, 0xef, 0xb0, 0x13, 0, 0, 0x45, 0x31, 0xc0, 0x31, 0xc9, 0x31,
        0xd2, 0xe9, 0x3a, 0xdd, 0xff, 0xff, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0,
    ];
    const INDEX: [u8; 4] = [4, 3, 0, 0];

    #[test]
    fn the_store_comes_before_the_same_jump() {
        let new = changed(&KNOWN, INDEX, -0x22c6).unwrap();
        assert_eq!(new[..10], KNOWN[..10]);
        assert_eq!(
            new[10..20],
            [0xc7, 0x87, 4, 3, 0, 0, 0xff, 0xff, 0xff, 0xff]
        );
        assert_eq!(new[20..28], KNOWN[10..18]);
        assert_eq!(new[28..], (-0x22c6_i32 - 10).to_le_bytes());
    }

    #[test]
    fn what_is_not_known_is_left_alone() {
        assert!(changed(&KNOWN, INDEX, -0x22c5).is_none());
        assert!(changed(&KNOWN[..NEW - 1], INDEX, -0x22c6).is_none());
        for at in (0..6).chain(10..NEW) {
            let mut other = KNOWN;
            other[at] ^= 1;
            assert!(changed(&other, INDEX, -0x22c6).is_none(), "{at}");
        }
        assert!(mend(&mut fs::read("/proc/self/exe").unwrap()).is_none());
        assert!(mend(&mut [0; 64]).is_none());
    }

    #[test]
    fn the_offset_is_that_of_the_store_of_none() {
        let function = [
            0x48, 0x83, 0xec, 8, 0xc7, 0x87, 4, 3, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xe8, 0,
        ];
        assert_eq!(index_of(&function), Some(INDEX));
        assert_eq!(index_of(&function[..13]), None);
    }

    #[test]
    fn the_qemu_of_the_recipe_is_mended_once() {
        let path = super::super::find_program("qemu-system-x86_64").unwrap();
        let version = Command::new(&path).arg("--version").output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        if !version.contains("version 7.2.") {
            println!("not checked, and labs say so: {version}");
            return;
        }
        let mut program = fs::read(path).unwrap();
        let before = program.clone();
        mend(&mut program).unwrap();
        let changed = before.iter().zip(&program).filter(|(old, new)| old != new);
        assert!((10..=NEW).contains(&changed.count()));
        assert!(mend(&mut program).is_none());
    }
}
