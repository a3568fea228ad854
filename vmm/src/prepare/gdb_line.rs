//! What to type in gdb's terminal.

use std::path::{Path, PathBuf};

use super::Configuration;

impl Configuration {
    /// What to type to debug the guest, if that is to be.
    #[must_use]
    pub(crate) fn gdb_line(&self) -> Option<String> {
        let address = self.gdb.as_ref()?.address();
        let symbols = vmlinux(&self.kernel_path).unwrap_or_else(|| "vmlinux".into());
        Some(format!(
            "gdb {} -ex {}",
            shell_word(&symbols.to_string_lossy()),
            shell_word(&format!("target remote {address}"))
        ))
    }
}

/// The kernel with its symbols: beside the image, above the image in the tree that
/// it was built in, or the image itself.
fn vmlinux(kernel: &Path) -> Option<PathBuf> {
    let places = kernel.ancestors().skip(1).take(5);
    let itself = std::iter::once(kernel.to_owned()).filter(|path| path.ends_with("vmlinux"));
    itself
        .chain(places.map(|place| place.join("vmlinux")))
        .find(|path| path.is_file())
}

/// A word that a shell takes as it is.
fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:,=@%".contains(&byte);
    if text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
