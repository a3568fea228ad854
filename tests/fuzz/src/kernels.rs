//! The file of `--kernel`.

use std::hint::black_box;
use std::io::Write;

use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_kernel::{Cache, Kernel};

/// Enough for kernels that start at 16 MiB.
const MEMORY: usize = 32 << 20;
/// Where memory is that a kernel may be loaded into.
const HIGH_RAM: u64 = 1 << 20;

/// Recognizes `data`, reads all that can be known of it, and loads it into the memory
/// of a guest.
///
/// # Panics
///
/// When there is no room for a file or the memory, and when a kernel that was loaded
/// starts outside of it.
#[allow(clippy::unwrap_used)]
pub fn run(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(data).unwrap();
    match Kernel::open_known(file.path(), &Cache::none()) {
        Ok(kernel) => {
            black_box((kernel.release(), kernel.discovery()));
            black_box(kernel.missing_for(&["CONFIG_VIRTIO_FS"]));
            // What was unpacked of it, if that may be, and the file as it is.
            load(&kernel);
            load(&kernel.packed());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[allow(clippy::unwrap_used)]
fn load(kernel: &Kernel) {
    // A larger one is refused before.
    if kernel.footprint_end() > MEMORY as u64 {
        return;
    }
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    match kernel.load(&memory, HIGH_RAM, "", false) {
        Ok(loaded) => assert!(loaded.entry < kernel.footprint_end(), "{:#x}", loaded.entry),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
