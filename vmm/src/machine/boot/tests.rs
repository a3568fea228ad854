//! Whole boots of kernels of a few instructions: what the boot protocol
//! promises is where the kernel looks for it.

use super::*;
use crate::machine::tests::{SerialOutput, kvm, parts};
use crate::machine::{Ending, Machine, MachineCounters, limits};
use std::io::Write;
use vmm_kernel::Cache;
use vmm_kernel::samples::{bzimage, packed, vmlinux};

fn open(image: &[u8]) -> Kernel {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(image).unwrap();
    Kernel::open(file.path()).unwrap()
}

fn boot(
    kernel: &Kernel,
    initramfs: Option<&[u8]>,
    user: &str,
) -> Result<String, crate::machine::Error> {
    let output = SerialOutput::default();
    let machine = Machine::assemble(
        &kvm(),
        MachineCounters::new(),
        parts(&output),
        |memory, hardware| load(memory, kernel, initramfs, user, hardware).map(|(start, _)| start),
    )?;
    assert_eq!(machine.run().unwrap(), Ending::PowerOff);
    Ok(output.text())
}

fn expected(user: &str, initramfs: &str) -> String {
    let line = command_line::compose(Discovery::Acpi, 0, user);
    format!("{line}\n{initramfs}")
}

#[test]
fn a_bzimage_finds_its_command_line_and_initramfs() {
    let text = boot(&open(&bzimage()), Some(b"initramfs!"), "quiet").unwrap();
    assert_eq!(text, expected("quiet", "initramfs!"));
}

#[test]
fn a_kernel_that_was_unpacked_finds_the_same() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&packed("CONFIG_ACPI=y\nCONFIG_PCI=y\n"))
        .unwrap();
    let kernel = Kernel::open_known(file.path(), &Cache::none()).unwrap();
    let output = SerialOutput::default();
    let mut loaded_from = None;
    let machine = Machine::assemble(
        &kvm(),
        MachineCounters::new(),
        parts(&output),
        |memory, hardware| {
            let initramfs = Some(&b"initramfs!"[..]);
            let (start, origin) = load(memory, &kernel, initramfs, "quiet", hardware)?;
            loaded_from = Some(origin);
            Ok(start)
        },
    );
    assert_eq!(machine.unwrap().run().unwrap(), Ending::PowerOff);
    assert_eq!(output.text(), expected("quiet", "initramfs!"));
    assert_eq!(loaded_from, Some(Origin::Unpacked));
}

#[test]
fn a_vmlinux_finds_its_command_line_and_initramfs() {
    let text = boot(&open(&vmlinux()), Some(b"initramfs!"), "quiet").unwrap();
    assert_eq!(text, expected("quiet", "initramfs!"));
}

#[test]
fn a_kernel_without_an_initramfs_is_given_none() {
    let text = boot(&open(&bzimage()), None, "").unwrap();
    assert_eq!(text, expected("", ""));
}

#[test]
fn a_command_line_longer_than_the_kernel_takes_is_refused() {
    let error = boot(&open(&bzimage()), None, &"x".repeat(2000)).unwrap_err();
    assert!(
        error.to_string().ends_with("and this kernel takes 2047"),
        "{error}"
    );
}

#[test]
fn a_command_line_of_two_lines_is_refused() {
    let error = boot(&open(&vmlinux()), None, "one\ntwo").unwrap_err();
    assert!(matches!(
        error,
        crate::machine::Error::Limits(limits::Error::Boot(Error::CommandLineText))
    ));
}

#[test]
fn an_initramfs_that_does_not_fit_is_refused_with_what_would() {
    let error = boot(&open(&bzimage()), Some(&vec![0; 20 << 20]), "").unwrap_err();
    assert!(error.to_string().contains("use --memory 37M"), "{error}");
}
