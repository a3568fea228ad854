//! Kernels of a few instructions, for tests.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A kernel that prints its command line, a newline and its initramfs, which
/// it finds by the zero page (RSI), and switches off.
const KERNEL: &[u8] = &[
    0x8b, 0x9e, 0x28, 0x02, 0, 0, // mov ebx, [rsi+cmd_line_ptr]
    0xba, 0xf8, 0x03, 0, 0, // mov edx, 0x3f8
    0x8a, 0x03, 0x84, 0xc0, 0x74, 0x06, // mov al, [rbx]; test al, al; je
    0xee, 0x48, 0xff, 0xc3, 0xeb, 0xf4, // out dx, al; inc rbx; jmp
    0xb0, 0x0a, 0xee, // newline
    0x8b, 0x9e, 0x18, 0x02, 0, 0, // mov ebx, [rsi+ramdisk_image]
    0x8b, 0x8e, 0x1c, 0x02, 0, 0, // mov ecx, [rsi+ramdisk_size]
    0x85, 0xc9, 0x74, 0x0a, 0x8a, 0x03, // test ecx, ecx; je; mov al, [rbx]
    0xee, 0x48, 0xff, 0xc3, 0xff, 0xc9, 0xeb, 0xf2, // out; inc rbx; dec ecx; jmp
    0xba, 0x00, 0x06, 0, 0, 0xb0, 0x34, 0xee, 0xf4, // power off
];

/// The protected-mode part of the bzImage: the 64-bit entry is 0x200 in.
#[must_use]
pub fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 0x400];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // setup_sects
    put(0x1f4, &(0x600_u32 / 16).to_le_bytes()); // syssize
    put(0x202, b"HdrS");
    put(0x206, &0x20f_u16.to_le_bytes()); // version
    put(0x20e, &0x100_u16.to_le_bytes()); // kernel_version, less 0x200
    put(0x211, &[1]); // LOADED_HIGH
    put(0x214, &0x10_0000_u32.to_le_bytes()); // code32_start
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes()); // initrd_addr_max
    put(0x230, &0x20_0000_u32.to_le_bytes()); // kernel_alignment
    put(0x236, &1_u16.to_le_bytes()); // XLF_KERNEL_64
    put(0x238, &2047_u32.to_le_bytes()); // cmdline_size
    put(0x258, &0x100_0000_u64.to_le_bytes()); // pref_address
    put(0x260, &0x10_0000_u32.to_le_bytes()); // init_size
    put(0x300, b"6.1.0-test (nobody) #1\0");
    image.resize(0x400 + 0x200, 0x90);
    image.extend_from_slice(KERNEL);
    image.resize(0x400 + 0x600, 0x90);
    image
}

/// A bzImage that has [`vmlinux`] packed, with this configuration.
#[must_use]
pub fn packed(config: &str) -> Vec<u8> {
    let mut unpacked = vmlinux();
    unpacked.extend_from_slice(&ikconfig(config));
    with_payload(&unpacked)
}

/// A bzImage whose payload is `unpacked`, compressed.
#[must_use]
pub fn with_payload(unpacked: &[u8]) -> Vec<u8> {
    let payload = gzip(unpacked);
    let mut image = bzimage();
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let offset = number(image.len() - 0x400);
    image.extend_from_slice(&payload);
    image.resize(image.len().next_multiple_of(16), 0);
    let system = number((image.len() - 0x400) / 16);
    let length = number(payload.len());
    for (at, value) in [(0x1f4, system), (0x248, offset), (0x24c, length)] {
        image[at..at + 4].copy_from_slice(&value);
    }
    image
}

/// What `CONFIG_IKCONFIG` puts into a kernel.
#[must_use]
pub fn ikconfig(config: &str) -> Vec<u8> {
    [b"IKCFG_ST", gzip(config.as_bytes()).as_slice(), b"IKCFG_ED"].concat()
}

/// `bytes`, compressed as kernels are.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // To memory: nothing that can fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// A `vmlinux` of one segment at 16 MiB.
#[must_use]
pub fn vmlinux() -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2_u16.to_le_bytes()); // ET_EXEC
    put(18, &62_u16.to_le_bytes()); // x86-64
    put(24, &0x100_0000_u64.to_le_bytes()); // entry
    put(32, &64_u64.to_le_bytes()); // program headers
    put(54, &56_u16.to_le_bytes());
    put(56, &1_u16.to_le_bytes());
    put(64, &1_u32.to_le_bytes()); // PT_LOAD
    put(72, &0x1000_u64.to_le_bytes()); // offset
    put(80, &0xffff_ffff_8100_0000_u64.to_le_bytes()); // virtual
    put(88, &0x100_0000_u64.to_le_bytes()); // physical
    put(96, &0x200_u64.to_le_bytes()); // in the file
    put(104, &0x2000_u64.to_le_bytes()); // in memory
    put(112, &0x20_0000_u64.to_le_bytes()); // alignment
    image.extend_from_slice(KERNEL);
    image.resize(0x1100, 0);
    image.extend_from_slice(b"Linux version 6.1.0-test (nobody) #1\n\0");
    image.resize(0x1200, 0);
    image
}
