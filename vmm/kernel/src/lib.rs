//! The guest kernel as a file: what it is, and what can be known about it
//! before anything runs.
//!
//! The command line opens the kernel first, so that a wrong file, or a kernel
//! without the drivers this machine needs, is refused in one line. The
//! machine's boot code then has the same open file loaded into guest memory, or what
//! was unpacked of it. What it takes time to find out is kept in a [`Cache`].

mod bzimage;
mod cache;
mod config;
mod elf;
mod entry;
mod file;
mod identity;
mod ikconfig;
mod image;
mod loading;
pub mod requirements;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
mod unpacked;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use bzimage::SetupHeader;
pub use cache::Cache;
pub use config::{KernelConfig, OptionState};
pub use elf::ElfImage;
use entry::Facts;
use identity::Identity;
pub use image::Image;
pub use loading::{LoadError, Loaded, Origin};
use unpacked::{Body, Unpacked};

/// Why a file is not booted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // Each says itself what it is.
pub enum Error {
    #[error("cannot read the kernel {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not a kernel: {looks_like}")]
    NotAKernel {
        path: PathBuf,
        /// What it looks like, and what to do about it.
        looks_like: String,
    },
}

/// How the guest kernel learns where its virtio-mmio devices are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// ACPI tables: the DSDT has an `LNRO0005` node for each device.
    Acpi,
    /// `virtio_mmio.device=` on the command line, and an MP table for the
    /// processors and the IO-APIC.
    CommandLine,
}

/// A kernel file that passed inspection, kept open for loading.
#[derive(Debug)]
pub struct Kernel {
    /// The file, positioned reads only.
    pub file: File,
    /// The format, with the numbers that the boot needs.
    pub image: Image,
    /// What `uname` will say and more, for instance
    /// `6.1.0-54-cloud-amd64 (builder@host) #1 SMP ...`; read from the image.
    pub version: Option<String>,
    config: Option<KernelConfig>,
    unpacked: Option<Unpacked>,
    identity: Identity,
    cache: Cache,
}

impl Kernel {
    /// Opens and recognizes a kernel.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when the file cannot be read, [`Error::NotAKernel`]
    /// when it is not an x86-64 bzImage or `vmlinux`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_known(path, &Cache::none()).map(Self::packed)
    }

    /// The same, with what `cache` has of it, which is kept there otherwise. It is ready
    /// to be loaded without its decompressor.
    ///
    /// # Errors
    ///
    /// As for [`Self::open`]: the cache cannot be what is wrong.
    pub fn open_known(path: &Path, cache: &Cache) -> Result<Self, Error> {
        Self::open_at(path, cache, SystemTime::now())
    }

    /// The same, at the time `now`.
    fn open_at(path: &Path, cache: &Cache, now: SystemTime) -> Result<Self, Error> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let not_a_kernel = |looks_like| Error::NotAKernel {
            path: path.to_owned(),
            looks_like,
        };
        // A FIFO without a writer must not make the user wait to hear that it
        // is no kernel; to a regular file the flag means nothing.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        if metadata.is_dir() {
            return Err(not_a_kernel(
                "a directory; name the bzImage or vmlinux in it".to_owned(),
            ));
        }
        if !metadata.is_file() {
            return Err(not_a_kernel("not a regular file".to_owned()));
        }
        Self::from_file(file, cache, now)
            .map_err(read)?
            .map_err(not_a_kernel)
    }

    /// Recognizes an open file: the outer error is the host's, the inner one
    /// says what the file looks like.
    fn from_file(
        file: File,
        cache: &Cache,
        now: SystemTime,
    ) -> std::io::Result<Result<Self, String>> {
        let identity = Identity::of(&file)?;
        let head = file::read_at_most(&file, 0, bzimage::HEADER_SPAN)?;
        let recognized = if elf::has_magic(&head) {
            ElfImage::read(&file, &head, identity.size)?.map(Image::Elf)
        } else if bzimage::has_magic(&head) {
            SetupHeader::parse(&head, identity.size).map(Image::BzImage)
        } else {
            Err(describe(&head))
        };
        let image = match recognized {
            Ok(image) => image,
            Err(looks_like) => return Ok(Err(looks_like)),
        };
        let (facts, body) = match cache.find(&identity) {
            Some((facts, kept)) => (facts, kept.map(Body::Kept)),
            None => {
                let is_settled = identity.is_settled(now);
                learn(&file, &image, &identity, is_settled, cache)?
            }
        };
        let config = facts.config.as_deref().map(KernelConfig::parse);
        let unpacked = match (&image, &config, body) {
            (Image::BzImage(header), Some(config), Some(body)) => {
                Unpacked::new(header, config, body)
            }
            _ => None,
        };
        Ok(Ok(Self {
            file,
            image,
            version: facts.version,
            config,
            unpacked,
            identity,
            cache: cache.clone(),
        }))
    }

    /// The same, to be loaded as its file has it: a bzImage unpacks itself.
    #[must_use]
    pub fn packed(self) -> Self {
        Self {
            unpacked: None,
            ..self
        }
    }

    /// The release, as `uname -r` prints it: the first word of the version.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.version.as_deref()?.split_whitespace().next()
    }

    /// The configuration this kernel was built with, if it carries it
    /// (`CONFIG_IKCONFIG=y`) in a form that can be read here.
    #[must_use]
    pub fn config(&self) -> Option<&KernelConfig> {
        self.config.as_ref()
    }

    /// Which of the named options, such as `CONFIG_VIRTIO_FS`, are neither
    /// built in nor built as modules. Empty when the configuration is not
    /// readable: nothing is known to be missing.
    #[must_use]
    pub fn missing_for<'a>(&self, options: &[&'a str]) -> Vec<&'a str> {
        let Some(config) = self.config() else {
            return Vec::new();
        };
        options
            .iter()
            .copied()
            .filter(|option| config.state(option) == OptionState::Absent)
            .collect()
    }

    /// Why this kernel can find no virtio-mmio device at all, in words for
    /// the user; `None` when it can or when it is not known.
    #[must_use]
    pub fn cannot_find_devices(&self) -> Option<String> {
        requirements::cannot_find_devices(self.config()?)
    }

    /// How this kernel is told about its devices.
    #[must_use]
    pub fn discovery(&self) -> Discovery {
        match self.config() {
            Some(config) if requirements::finds_by_command_line(config) => Discovery::CommandLine,
            _ => Discovery::Acpi,
        }
    }

    /// One past the highest guest-physical address the kernel occupies while
    /// it starts, in bytes.
    #[must_use]
    pub fn footprint_end(&self) -> u64 {
        match &self.image {
            Image::BzImage(header) => header.footprint_end(),
            Image::Elf(elf) => elf.footprint_end(),
        }
    }
}

/// What there is to know of a kernel: some ten milliseconds, for a bzImage has to be
/// unpacked for it. Kept where the file `is_settled`, so that every change shows.
fn learn(
    file: &File,
    image: &Image,
    identity: &Identity,
    is_settled: bool,
    cache: &Cache,
) -> std::io::Result<(Facts, Option<Body>)> {
    let (facts, image) = match image {
        Image::BzImage(header) => {
            let unpacked = unpacked::unpack(file, header);
            let config = |(image, _): &(Vec<u8>, bool)| ikconfig::in_image(image);
            let facts = Facts {
                version: header.version_string(file)?,
                config: unpacked.as_ref().and_then(config),
            };
            let image = unpacked.and_then(|(image, is_whole)| is_whole.then_some(image));
            (facts, image)
        }
        Image::Elf(elf) => {
            let facts = Facts {
                version: ikconfig::banner(file, elf)?,
                config: ikconfig::in_segments(file, elf),
            };
            (facts, None)
        }
    };
    let unpacked = image.and_then(|image| Some((ElfImage::of(&image).ok()?, image)));
    if is_settled && Identity::of(file)? == *identity {
        let image = unpacked.as_ref().map(|(elf, image)| (elf, &**image));
        cache.keep(identity, &facts, image);
    }
    let body = unpacked.map(|(elf, image)| Body::Memory(elf, image));
    Ok((facts, body))
}

/// What a file that is neither ELF nor bzImage looks like, from its first
/// bytes.
fn describe(head: &[u8]) -> String {
    const ARM64_MAGIC: std::ops::Range<usize> = 0x38..0x3c;
    let compressed = |kind: &str, tool: &str| {
        format!("{kind}-compressed data; unpack it with {tool} or name the bzImage itself")
    };
    match head {
        [] => "the file is empty".to_owned(),
        [0x1f, 0x8b, ..] => compressed("gzip", "gunzip"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => compressed("xz", "unxz"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => compressed("zstd", "unzstd"),
        [b'B', b'Z', b'h', ..] => compressed("bzip2", "bunzip2"),
        [0x02, 0x21, 0x4c, 0x18, ..] | [0x04, 0x22, 0x4d, 0x18, ..] => compressed("lz4", "unlz4"),
        [b'0', b'7', b'0', b'7', b'0', b'1' | b'2', ..] => {
            "a cpio archive; use it with --initramfs".to_owned()
        }
        _ if head.get(ARM64_MAGIC) == Some(b"ARM\x64") => {
            "an arm64 Image; this machine is x86-64".to_owned()
        }
        [b'M', b'Z', ..] => "a PE executable without a Linux setup header".to_owned(),
        [b'#', b'!', ..] => "a script".to_owned(),
        _ if head.len() < bzimage::HEADER_END => {
            format!("only {} bytes, less than a setup header", head.len())
        }
        _ => "neither a bzImage (no HdrS at 0x202) nor an ELF file".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
