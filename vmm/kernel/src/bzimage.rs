//! The setup header of a bzImage (Linux boot protocol,
//! `Documentation/arch/x86/boot.rst`), read once and checked, so that the
//! boot code can rely on it.

use std::fs::File;

use super::file::read_at_most;

/// Where the header starts (`setup_sects`), from the start of the file.
pub(super) const HEADER: u64 = 0x1f1;
/// One past the last header field read here (`init_size`), from the start of
/// the file.
pub(crate) const HEADER_END: usize = 0x264;
/// What is read of a file to recognize it, in bytes.
pub(super) const HEADER_SPAN: usize = 0x1000;

/// The 64-bit entry point, from the load address
/// (`Documentation/arch/x86/boot.rst`).
pub(super) const ENTRY_64: u64 = 0x200;

const MAGIC: &[u8; 4] = b"HdrS";
const MAGIC_AT: usize = 0x202;
const SECTOR: u64 = 512;
/// Protocol 2.12 brought `xloadflags`, which says whether there is a 64-bit
/// entry point.
const MIN_PROTOCOL: u16 = 0x20c;
const LOADFLAGS_LOADED_HIGH: u8 = 1 << 0;
const XLF_KERNEL_64: u16 = 1 << 0;
const XLF_5LEVEL_ENABLED: u16 = 1 << 6;
/// A version string is one line; the kernel's own has room for less.
const MAX_VERSION: usize = 512;

/// What a bzImage says about itself, in the protocol's field names.
#[derive(Clone, Copy, Debug)]
pub struct SetupHeader {
    /// Size of the real-mode part, in bytes: where the protected-mode part
    /// starts in the file.
    pub setup_size: u64,
    /// Size of the protected-mode part, in bytes.
    pub system_size: u64,
    /// Where the protected-mode part is loaded by default.
    pub code32_start: u32,
    /// What the address at which the kernel runs is a multiple of.
    pub kernel_alignment: u32,
    /// Where the kernel prefers to run.
    pub pref_address: u64,
    /// Linear memory needed from `pref_address` on while the kernel starts,
    /// in bytes.
    pub init_size: u32,
    /// The highest address an initramfs may occupy.
    pub initrd_addr_max: u32,
    /// The longest command line without its final NUL, in bytes.
    pub cmdline_size: u32,
    /// The compressed kernel, from the start of the protected-mode part.
    pub payload_offset: u32,
    /// Size of the compressed kernel, in bytes.
    pub payload_length: u32,
    version_offset: u16,
    xloadflags: u16,
}

/// Whether the file has the magic of a setup header.
pub(super) fn has_magic(head: &[u8]) -> bool {
    head.get(MAGIC_AT..MAGIC_AT + MAGIC.len()) == Some(MAGIC)
}

fn bytes<const N: usize>(head: &[u8], at: usize) -> Option<[u8; N]> {
    head.get(at..)?.first_chunk::<N>().copied()
}

fn u16_at(head: &[u8], at: usize) -> Option<u16> {
    bytes(head, at).map(u16::from_le_bytes)
}

fn u32_at(head: &[u8], at: usize) -> Option<u32> {
    bytes(head, at).map(u32::from_le_bytes)
}

impl SetupHeader {
    /// Reads the header from the first bytes of a file of `file_size` bytes.
    pub(super) fn parse(head: &[u8], file_size: u64) -> Result<Self, String> {
        let protocol = u16_at(head, 0x206).unwrap_or(0);
        if protocol < MIN_PROTOCOL {
            return Err(format!(
                "a bzImage of boot protocol {}.{:02}, which is older than Linux 3.8",
                protocol >> 8,
                protocol & 0xff
            ));
        }
        let header =
            Self::fields(head).ok_or_else(|| "a bzImage cut off in its setup header".to_owned())?;
        let loadflags = head.get(0x211).copied().unwrap_or(0);
        if loadflags & LOADFLAGS_LOADED_HIGH == 0 {
            return Err("a zImage; build a bzImage".to_owned());
        }
        if header.xloadflags & XLF_KERNEL_64 == 0 {
            return Err("a 32-bit kernel; this machine is x86-64".to_owned());
        }
        if header.system_size <= ENTRY_64 {
            return Err(
                "a bzImage without a kernel behind its setup code; build it again".to_owned(),
            );
        }
        let needed = header.setup_size + header.system_size;
        if file_size < needed {
            return Err(format!(
                "a truncated bzImage: {file_size} bytes of {needed}; copy it again"
            ));
        }
        Ok(header)
    }

    fn fields(head: &[u8]) -> Option<Self> {
        // Boot protocol: 0 means 4, for old kernels.
        let setup_sects = match *head.get(0x1f1)? {
            0 => 4,
            n => u64::from(n),
        };
        Some(Self {
            setup_size: (setup_sects + 1) * SECTOR,
            system_size: u64::from(u32_at(head, 0x1f4)?) * 16,
            code32_start: u32_at(head, 0x214)?,
            initrd_addr_max: u32_at(head, 0x22c)?,
            kernel_alignment: u32_at(head, 0x230)?,
            xloadflags: u16_at(head, 0x236)?,
            cmdline_size: u32_at(head, 0x238)?,
            payload_offset: u32_at(head, 0x248)?,
            payload_length: u32_at(head, 0x24c)?,
            pref_address: bytes(head, 0x258).map(u64::from_le_bytes)?,
            init_size: u32_at(head, 0x260)?,
            version_offset: u16_at(head, 0x20e)?,
        })
    }

    /// The version string, if the header points to one.
    pub(super) fn version_string(&self, file: &File) -> std::io::Result<Option<String>> {
        if self.version_offset == 0 {
            return Ok(None);
        }
        // Boot protocol, `kernel_version`: the pointer is less 0x200.
        let at = u64::from(self.version_offset) + SECTOR;
        let text = read_at_most(file, at, MAX_VERSION)?;
        let Some(end) = text.iter().position(|&byte| byte == 0) else {
            return Ok(None);
        };
        Ok(std::str::from_utf8(&text[..end]).ok().map(str::to_owned))
    }

    /// Whether its decompressor turns on page tables of five levels with this command
    /// line, where there can be some (`configure_5level_paging`).
    pub(super) fn wants_five_levels(&self, line: &str) -> bool {
        let is_off = line.split_ascii_whitespace().any(|word| word == "no5lvl");
        self.xloadflags & XLF_5LEVEL_ENABLED != 0 && !is_off
    }

    /// One past the highest address used while the kernel unpacks itself.
    pub(super) fn footprint_end(&self) -> u64 {
        let start = self.pref_address.max(u64::from(self.code32_start));
        let unpacked = start.saturating_add(u64::from(self.init_size));
        let loaded = u64::from(self.code32_start).saturating_add(self.system_size);
        unpacked.max(loaded)
    }
}
