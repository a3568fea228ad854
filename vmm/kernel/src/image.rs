//! The two forms of a kernel that can be booted.

use super::bzimage::SetupHeader;
use super::elf::ElfImage;

/// How the kernel is packed.
#[derive(Debug)]
pub enum Image {
    /// A bzImage, as `make bzImage` and distributions produce it.
    BzImage(SetupHeader),
    /// An ELF `vmlinux`.
    Elf(ElfImage),
}
