//! Recognizing kernels, and what they carry about themselves.

use std::io::Write;

use super::*;
use crate::samples::{bzimage, gzip, ikconfig, vmlinux, with_payload};

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(bytes: &[u8]) -> Result<Kernel, Error> {
    Kernel::open(file(bytes).path())
}

/// What a file is said to look like.
fn looks_like(bytes: &[u8]) -> String {
    match open(bytes) {
        Err(Error::NotAKernel { looks_like, .. }) => looks_like,
        other => panic!("{other:?}"),
    }
}

fn patched(mut bytes: Vec<u8>, at: usize, with: &[u8]) -> Vec<u8> {
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

const CONFIG: &str =
    "#\nCONFIG_ACPI=y\nCONFIG_PCI=y\nCONFIG_VIRTIO_MMIO=m\n# CONFIG_VIRTIO_FS is not set\n";

#[test]
fn a_fifo_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send(Kernel::open(&path).unwrap_err().to_string()));
    let error = heard
        .recv_timeout(std::time::Duration::from_secs(20))
        .unwrap();
    assert!(error.ends_with("not a regular file"), "{error}");
}

#[test]
fn a_bzimage_is_recognized_with_its_version() {
    let kernel = open(&bzimage()).unwrap();
    assert!(matches!(kernel.image, Image::BzImage(_)));
    assert_eq!(kernel.version.as_deref(), Some("6.1.0-test (nobody) #1"));
    assert_eq!(kernel.release(), Some("6.1.0-test"));
    assert_eq!(kernel.footprint_end(), 0x110_0000);
}

#[test]
fn a_vmlinux_is_recognized_with_its_version() {
    let kernel = open(&vmlinux()).unwrap();
    assert!(matches!(kernel.image, Image::Elf(_)));
    assert_eq!(kernel.release(), Some("6.1.0-test"));
    assert_eq!(kernel.footprint_end(), 0x100_2000);
}

#[test]
fn a_file_that_is_no_kernel_is_named_for_what_it_is() {
    assert_eq!(looks_like(b""), "the file is empty");
    assert!(looks_like(&gzip(&vmlinux())).starts_with("gzip-compressed data; unpack"));
    assert!(looks_like(b"\xfd7zXZ\0rest").starts_with("xz-compressed"));
    assert!(looks_like(b"\x28\xb5\x2f\xfdrest").starts_with("zstd-compressed"));
    assert!(looks_like(b"070701rest").starts_with("a cpio archive"));
    assert_eq!(looks_like(b"#!/bin/sh\n"), "a script");
    assert!(looks_like(b"text").starts_with("only 4 bytes"));
    assert!(looks_like(&[0; 4096]).starts_with("neither a bzImage"));
}

#[test]
fn a_directory_is_no_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let error = Kernel::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("a directory"), "{error}");
}

#[test]
fn a_missing_file_is_an_error_of_the_host() {
    let error = Kernel::open(Path::new("/nonexistent/bzImage")).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
}

#[test]
fn a_kernel_for_another_processor_is_refused() {
    let arm = patched(vmlinux(), 18, &183_u16.to_le_bytes());
    assert_eq!(
        looks_like(&arm),
        "an ELF file for arm64; this machine is x86-64"
    );
    let narrow = patched(bzimage(), 0x236, &[0, 0]);
    assert!(looks_like(&narrow).starts_with("a 32-bit kernel"));
    let image = patched(vec![0; 4096], 0x38, b"ARM\x64");
    assert!(looks_like(&image).starts_with("an arm64 Image"));
}

#[test]
fn other_elf_files_are_not_kernels() {
    let module = patched(vmlinux(), 16, &1_u16.to_le_bytes());
    assert_eq!(looks_like(&module), "an ELF object file or kernel module");
    let library = patched(vmlinux(), 16, &3_u16.to_le_bytes());
    assert_eq!(looks_like(&library), "an ELF shared object or program");
    let program = patched(vmlinux(), 80, &0x40_0000_u64.to_le_bytes());
    assert_eq!(looks_like(&program), "an ELF program, not a vmlinux");
}

#[test]
fn a_truncated_kernel_is_refused() {
    let image = bzimage();
    assert!(looks_like(&image[..image.len() - 1]).starts_with("a truncated bzImage"));
    assert!(looks_like(&image[..0x230]).contains("cut off"));
    let elf = vmlinux();
    assert!(looks_like(&elf[..0x1100]).starts_with("a truncated vmlinux"));
    assert_eq!(looks_like(&elf[..80]), "a truncated ELF file");
    assert_eq!(looks_like(&elf[..10]), "a truncated ELF file");
}

#[test]
fn a_bzimage_that_ends_before_its_entry_point_is_refused() {
    for system_size in [0_u32, 0x200 / 16] {
        let image = patched(bzimage(), 0x1f4, &system_size.to_le_bytes());
        assert!(looks_like(&image).starts_with("a bzImage without a kernel"));
    }
}

#[test]
fn header_fields_that_overflow_are_refused_or_harmless() {
    let offset = patched(vmlinux(), 72, &u64::MAX.to_le_bytes());
    assert!(looks_like(&offset).starts_with("a truncated vmlinux"));
    let table = patched(vmlinux(), 32, &(u64::MAX / 2).to_le_bytes());
    assert_eq!(looks_like(&table), "a truncated ELF file");
    let entry = patched(vmlinux(), 24, &0_u64.to_le_bytes());
    assert!(looks_like(&entry).starts_with("a vmlinux whose entry point"));
    let payload = patched(bzimage(), 0x248, &[0xff; 8]);
    assert!(open(&payload).unwrap().config().is_none());
    let preferred = patched(bzimage(), 0x258, &[0xff; 8]);
    assert_eq!(open(&preferred).unwrap().footprint_end(), u64::MAX);
}

#[test]
fn the_configuration_is_read_out_of_a_bzimage() {
    let kernel = open(&with_payload(&ikconfig(CONFIG))).unwrap();
    let config = kernel.config().unwrap();
    assert_eq!(config.state("CONFIG_ACPI"), OptionState::BuiltIn);
    assert_eq!(config.state("CONFIG_VIRTIO_MMIO"), OptionState::Module);
    assert_eq!(config.state("CONFIG_VIRTIO_FS"), OptionState::Absent);
    assert_eq!(
        kernel.missing_for(&["CONFIG_VIRTIO_MMIO", "CONFIG_VIRTIO_FS"]),
        ["CONFIG_VIRTIO_FS"]
    );
}

#[test]
fn the_configuration_is_found_across_the_search_s_chunks() {
    // The marker starts four bytes before the end of the first 256 KiB.
    let mut unpacked = vec![b'I'; (256 << 10) - 4];
    unpacked.extend_from_slice(&ikconfig(CONFIG));
    let kernel = open(&with_payload(&unpacked)).unwrap();
    assert!(kernel.config().unwrap().has("CONFIG_ACPI"));
}

#[test]
fn the_configuration_is_read_out_of_a_vmlinux() {
    let mut image = vmlinux();
    image.extend_from_slice(&ikconfig(CONFIG));
    let size = image.len() as u64 - 0x1000;
    let image = patched(image, 96, &size.to_le_bytes());
    assert!(open(&image).unwrap().config().unwrap().has("CONFIG_PCI"));
}

#[test]
fn a_kernel_that_carries_no_configuration_lacks_nothing_known() {
    let kernel = open(&bzimage()).unwrap();
    assert!(kernel.config().is_none());
    assert!(kernel.missing_for(&["CONFIG_VIRTIO_FS"]).is_empty());
    assert_eq!(kernel.discovery(), Discovery::Acpi);
    assert_eq!(kernel.cannot_find_devices(), None);
}

fn with_config(text: &str) -> Kernel {
    open(&with_payload(&ikconfig(text))).unwrap()
}

#[test]
fn acpi_is_used_where_it_works() {
    let kernel = with_config(CONFIG);
    assert_eq!(kernel.discovery(), Discovery::Acpi);
    assert_eq!(kernel.cannot_find_devices(), None);
}

#[test]
fn acpi_without_pci_gives_way_to_the_command_line() {
    let kernel = with_config("CONFIG_ACPI=y\nCONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y\n");
    assert_eq!(kernel.discovery(), Discovery::CommandLine);
    assert_eq!(kernel.cannot_find_devices(), None);
}

#[test]
fn a_kernel_that_finds_no_device_is_told_apart() {
    let kernel = with_config("CONFIG_ACPI=y\n");
    let reason = kernel.cannot_find_devices().unwrap();
    assert!(reason.contains("CONFIG_PCI=y"), "{reason}");
}

#[test]
fn damaged_configuration_data_is_no_configuration() {
    let mut packed = ikconfig(CONFIG);
    packed[20..40].fill(0xff);
    let kernel = open(&with_payload(&packed)).unwrap();
    assert!(kernel.config().is_none());
}
