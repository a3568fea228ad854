//! The kernel's file into guest memory.

use std::fs::File;

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::{KernelLoader, elf::Elf};
use vm_memory::{ByteValued, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::file::read_at_most;
use crate::image::Image;
use crate::unpacked::Unpacked;
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
    #[error("cannot write the kernel to guest memory")]
    Write(#[from] GuestMemoryError),
}

/// What was put into guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel's file as it is: a bzImage unpacks itself.
    File,
    /// What was unpacked of it for this run.
    Unpacked,
    /// What was unpacked of it for an earlier run.
    Cache,
}

/// A kernel in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Where it starts, in 64-bit mode.
    pub entry: u64,
    /// What a bzImage says of itself.
    pub setup_header: Option<setup_header>,
    /// What it was made of.
    pub origin: Origin,
    /// Whether it has to start with page tables of five levels, not four.
    pub five_levels: bool,
}

impl Kernel {
    /// Copies the kernel to where it wants to be, from `high_ram` on. Nothing
    /// outside of `memory` is written. It is the unpacked one where the kernel cannot
    /// tell the difference with this `command_line`, on processors that can or cannot
    /// have page tables of `five_levels`.
    ///
    /// # Errors
    ///
    /// When it does not fit, or is not whole.
    pub fn load(
        &self,
        memory: &GuestMemoryMmap,
        high_ram: u64,
        command_line: &str,
        five_levels: bool,
    ) -> Result<Loaded, LoadError> {
        if let (Image::BzImage(header), Some(unpacked)) = (&self.image, &self.unpacked)
            && header.pref_address >= high_ram
            && unpacked.suits(command_line)
            && let Some(loaded) = self.load_unpacked(memory, unpacked)?
        {
            return Ok(Loaded {
                five_levels: five_levels && header.wants_five_levels(command_line),
                ..loaded
            });
        }
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
            origin: Origin::File,
            five_levels: false,
        })
    }

    /// Copies what was unpacked, and unpacks it once more where the cache has it damaged.
    fn load_unpacked(
        &self,
        memory: &GuestMemoryMmap,
        unpacked: &Unpacked,
    ) -> Result<Option<Loaded>, LoadError> {
        let (entry, origin) = match unpacked.load(memory)? {
            Some(entry) if unpacked.is_kept() => (entry, Origin::Cache),
            Some(entry) => (entry, Origin::Unpacked),
            None => {
                let Some(entry) = self.load_again(memory)? else {
                    return Ok(None);
                };
                (entry, Origin::Unpacked)
            }
        };
        Ok(self.setup_header()?.map(|header| Loaded {
            entry,
            setup_header: Some(header),
            origin,
            five_levels: false,
        }))
    }

    /// The kernel's file was whole when it was opened, so what goes wrong now is no
    /// reason to fail.
    fn load_again(&self, memory: &GuestMemoryMmap) -> Result<Option<u64>, LoadError> {
        log::debug!("what was kept of the kernel is damaged");
        self.cache.forget(&self.identity);
        // As when the entry was made.
        let is_settled = true;
        let learned = crate::learn(
            &self.file,
            &self.image,
            &self.identity,
            is_settled,
            &self.cache,
        );
        let body = learned.ok().and_then(|(_, body)| body);
        let (Image::BzImage(header), Some(config), Some(body)) = (&self.image, &self.config, body)
        else {
            return Ok(None);
        };
        match Unpacked::new(header, config, body) {
            Some(unpacked) => Ok(unpacked.load(memory)?),
            None => Ok(None),
        }
    }

    /// What a bzImage says of itself, in the form that the zero page has it.
    fn setup_header(&self) -> Result<Option<setup_header>, LoadError> {
        let mut header = setup_header::default();
        let size = header.as_slice().len();
        let bytes = read_at_most(&self.file, bzimage::HEADER, size).map_err(LoadError::Reopen)?;
        let is_whole = bytes.len() == size;
        if is_whole {
            header.as_mut_slice().copy_from_slice(&bytes);
        }
        Ok(is_whole.then_some(header))
    }
}
