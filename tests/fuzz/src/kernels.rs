//! The file of `--kernel`.

use std::hint::black_box;
use std::io::Write;

use vmm_kernel::Kernel;

/// Recognizes `data`, and reads all that can be known of it.
///
/// # Panics
///
/// When there is no room for a file.
#[allow(clippy::unwrap_used)]
pub fn run(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(data).unwrap();
    match Kernel::open(file.path()) {
        Ok(kernel) => {
            black_box((kernel.release(), kernel.discovery(), kernel.footprint_end()));
            black_box(kernel.missing_for(&["CONFIG_VIRTIO_FS"]));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
