//! Which kernels start without their decompressor.

use vm_memory::ByteValued;

use super::*;
use crate::samples::{ikconfig, packed, vmlinux, with_payload};
use crate::{Cache, Kernel, Origin};

const CONFIG: &str = "CONFIG_ACPI=y\nCONFIG_PCI=y\n";

fn open(image: &[u8]) -> Kernel {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), image).unwrap();
    Kernel::open_known(file.path(), &Cache::none()).unwrap()
}

/// A bzImage that has `vmlinux` packed.
fn packing(mut vmlinux: Vec<u8>, config: &str) -> Kernel {
    vmlinux.extend_from_slice(&ikconfig(config));
    open(&with_payload(&vmlinux))
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 32 << 20)]).unwrap()
}

fn origin(kernel: &Kernel, line: &str) -> Origin {
    let loaded = kernel.load(&memory(), 1 << 20, line, false);
    loaded.unwrap().origin
}

fn patched(mut bytes: Vec<u8>, at: usize, with: &[u8]) -> Vec<u8> {
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn it_lies_and_starts_where_the_decompressor_would_have_it() {
    let (image, memory) = (packed(CONFIG), memory());
    let loaded = open(&image).load(&memory, 1 << 20, "quiet", true).unwrap();
    assert_eq!(loaded.origin, Origin::Unpacked);
    assert_eq!(loaded.entry, 0x100_0000);
    let mut bytes = vec![0; 0x201];
    memory
        .read_slice(&mut bytes, GuestAddress(0x100_0000))
        .unwrap();
    assert_eq!(bytes[..0x200], vmlinux()[0x1000..0x1200]);
    assert_eq!(bytes[0x200], 0);
    // What the bzImage says of itself is what the kernel hears.
    let header = loaded.setup_header.unwrap();
    let packed = open(&image)
        .packed()
        .load(&memory, 1 << 20, "", false)
        .unwrap();
    assert_eq!(packed.origin, Origin::File);
    let expected = packed.setup_header.unwrap();
    assert_eq!(header.as_slice(), expected.as_slice());
}

#[test]
fn what_is_for_the_decompressor_is_left_to_it() {
    let kernel = open(&packed(CONFIG));
    for line in ["", "quiet nokaslr", "console=ttyS0 -- x", "mem=64M"] {
        assert_eq!(origin(&kernel, line), Origin::Unpacked, "{line}");
    }
    for line in [
        "earlyprintk=ttyS0",
        "quiet earlyprintk",
        "console=ttyS0 console=uart8250,io,0x3f8",
        "x -- mem_encrypt=on",
    ] {
        assert_eq!(origin(&kernel, line), Origin::File, "{line}");
    }
}

#[test]
fn a_kernel_that_is_to_be_at_a_random_place_is_put_there_by_the_decompressor() {
    let kernel = open(&packed("CONFIG_RANDOMIZE_BASE=y\n"));
    for line in ["", "kaslr", "nokaslr=1", "no.nokaslr"] {
        assert_eq!(origin(&kernel, line), Origin::File, "{line}");
    }
    for line in ["nokaslr", "quiet -- nokaslr"] {
        assert_eq!(origin(&kernel, line), Origin::Unpacked, "{line}");
    }
}

#[test]
fn it_has_five_levels_where_the_decompressor_would_turn_them_on() {
    let five_levels = |kernel: &Kernel, line: &str, possible: bool| {
        let loaded = kernel.load(&memory(), 1 << 20, line, possible).unwrap();
        assert_eq!(loaded.origin, Origin::Unpacked);
        loaded.five_levels
    };
    let able = open(&patched(packed(CONFIG), 0x236, &[0x61]));
    assert!(five_levels(&able, "", true));
    assert!(!five_levels(&able, "", false));
    assert!(!five_levels(&able, "quiet -- no5lvl", true));
    assert!(five_levels(&able, "no5lvl=x", true));
    let unable = open(&patched(packed(CONFIG), 0x236, &[0x21]));
    assert!(!five_levels(&unable, "", true));
    // As a file it does that itself.
    let packed = able.packed().load(&memory(), 1 << 20, "", true).unwrap();
    assert!(!packed.five_levels);
}

#[test]
fn a_kernel_of_which_not_all_is_known_unpacks_itself() {
    let good = || patched(vmlinux(), 0, b"\x7f");
    assert_eq!(origin(&packing(good(), CONFIG), ""), Origin::Unpacked);
    let without_config = open(&with_payload(&good()));
    assert_eq!(origin(&without_config, ""), Origin::File);
    let number = u64::to_le_bytes;
    for (at, value, why) in [
        (112, number(0x1000), "alignment"),
        (88, number(0xff_f000), "below the place"),
        (88, number(0x110_0000), "above the place"),
        (104, number(u64::MAX), "larger than the place"),
        (104, number(0x100), "smaller than in the file"),
        (24, number(0x100_1000), "starts where nothing is"),
        (96, number(1 << 40), "beyond the file"),
    ] {
        let kernel = packing(patched(good(), at, &value), CONFIG);
        assert_eq!(origin(&kernel, ""), Origin::File, "{why}");
    }
    let elsewhere = patched(packed(CONFIG), 0x258, &number(0x110_0000));
    assert_eq!(origin(&open(&elsewhere), ""), Origin::File);
    let moved = patched(packed(CONFIG), 0x230, &0x200_0000_u32.to_le_bytes());
    assert_eq!(origin(&open(&moved), ""), Origin::File);
    // The end of the payload is missing, not the configuration.
    let mut unpacked = good();
    unpacked.extend_from_slice(&ikconfig(CONFIG));
    unpacked.resize(3 << 20, 0);
    let image = with_payload(&unpacked);
    let length = u32::from_le_bytes(image[0x24c..0x250].try_into().unwrap());
    let cut = open(&patched(image, 0x24c, &(length - 100).to_le_bytes()));
    assert_eq!(origin(&cut, ""), Origin::File);
}
