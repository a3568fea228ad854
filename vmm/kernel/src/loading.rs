//! The kernel's file into guest memory.

use std::fs::File;

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::{KernelLoader, elf::Elf};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::image::Image;
use crate::{Kernel, bzimage};

/// Why a kernel is not in guest memory.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // Each says itself what it is.
pub enum LoadError {
    #[error("cannot load the kernel")]
    Load(#[from] linux_loader::loader::Error),
    /// The descriptor of the kernel file cannot be duplicated.
    #[error("cannot read the kernel file again")]
    Reopen(#[source] std::io::Error),
}

/// A kernel in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Where it starts, in 64-bit mode.
    pub entry: u64,
    /// What a bzImage says of itself.
    pub setup_header: Option<setup_header>,
}

impl Kernel {
    /// Copies the kernel to where it wants to be, from `high_ram` on. Nothing
    /// outside of `memory` is written.
    ///
    /// # Errors
    ///
    /// When it does not fit, or is not whole.
    pub fn load(&self, memory: &GuestMemoryMmap, high_ram: u64) -> Result<Loaded, LoadError> {
        // The loader seeks; what else is read of the file is read at positions.
        let mut file: File = self.file.try_clone().map_err(LoadError::Reopen)?;
        let high_ram = Some(GuestAddress(high_ram));
        let loaded = match &self.image {
            Image::BzImage(_) => BzImage::load(memory, None, &mut file, high_ram),
            Image::Elf(_) => Elf::load(memory, None, &mut file, high_ram),
        }?;
        let entry = match &self.image {
            Image::BzImage(_) => loaded.kernel_load.0 + bzimage::ENTRY_64,
            Image::Elf(elf) => elf.entry,
        };
        Ok(Loaded {
            entry,
            setup_header: loaded.setup_header,
        })
    }
}
