//! What to type in gdb's terminal.

use std::path::{Path, PathBuf};

use vmm_kernel::Image;

use super::Configuration;

/// Where debug packages of distributions are installed.
const DEBUG: &str = "/usr/lib/debug";
/// Where a build tree has its bzImage, four levels below its vmlinux.
const BUILT: [&str; 2] = ["arch/x86/boot/bzImage", "arch/x86_64/boot/bzImage"];

impl Configuration {
    /// What to type to debug the guest, if that is to be.
    #[must_use]
    pub(crate) fn gdb_line(&self) -> Option<String> {
        let address = self.gdb.as_ref()?.address();
        let symbols = match self.kernel.image {
            Image::Elf(_) => Some(self.kernel_path.clone()),
            Image::BzImage(_) => {
                vmlinux(&self.kernel_path, self.kernel.release(), Path::new(DEBUG))
            }
        };
        Some(line(symbols.as_deref(), &address.to_string()))
    }
}

fn line(symbols: Option<&Path>, address: &str) -> String {
    let target = shell_word(&format!("target remote {address}"));
    match symbols {
        Some(path) => format!("gdb {} -ex {target}", shell_word(&path.to_string_lossy())),
        None => format!(
            "gdb -ex {target} (for symbols give it the vmlinux of the kernel's build or of its \
             debug package; there is none beside the kernel)"
        ),
    }
}

/// The kernel with its symbols: beside the image, in the tree that this was built in, or
/// of `release` where packages have it, unpacked with the image or below `debug`.
fn vmlinux(kernel: &Path, release: Option<&str>, debug: &Path) -> Option<PathBuf> {
    let above = |levels| kernel.ancestors().nth(levels).map(Path::to_owned);
    let is_built = BUILT.iter().any(|built| kernel.ends_with(built));
    let beside = above(1).into_iter();
    let tree = above(4).filter(|_| is_built);
    let places = beside.chain(tree).map(|place| place.join("vmlinux"));
    let packages = (2..=5).filter_map(above);
    let packages = packages.map(|package| package.join("usr/lib/debug"));
    let of_package = |package: PathBuf| {
        let release = release?;
        // Debian's, and Fedora's.
        let names = [
            format!("boot/vmlinux-{release}"),
            format!("lib/modules/{release}/vmlinux"),
        ];
        let mut files = names.into_iter().map(|name| package.join(name));
        files.find(|path| path.is_file())
    };
    (places.filter(|path| path.is_file()))
        .chain(packages.chain([debug.to_owned()]).filter_map(of_package))
        .next()
}

/// A word that a shell takes as it is.
fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:,=@%".contains(&byte);
    if text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    const RELEASE: &str = "6.1.0-9-amd64";

    /// Whether in a directory with these files `kernel` is found to have `symbols`.
    fn has(kernel: &str, symbols: &str) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in [kernel, symbols] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "").unwrap();
        }
        let found = vmlinux(&at(kernel), Some(RELEASE), &at("debug"));
        assert!(found.is_none() || found == Some(at(symbols)), "{found:?}");
        found.is_some()
    }

    #[test]
    fn symbols_are_where_builds_and_packages_have_them() {
        for (kernel, symbols) in [
            ("bzImage", "vmlinux"),
            ("tree/arch/x86/boot/bzImage", "tree/vmlinux"),
            ("tree/arch/x86_64/boot/bzImage", "tree/vmlinux"),
            (
                "p/boot/vmlinuz-6.1.0-9-amd64",
                "p/usr/lib/debug/boot/vmlinux-6.1.0-9-amd64",
            ),
            (
                "p/lib/modules/6.1.0-9-amd64/vmlinuz",
                "p/usr/lib/debug/lib/modules/6.1.0-9-amd64/vmlinux",
            ),
            (
                "p/usr/lib/modules/6.1.0-9-amd64/vmlinuz",
                "p/usr/lib/debug/lib/modules/6.1.0-9-amd64/vmlinux",
            ),
            ("k/vmlinuz", "debug/boot/vmlinux-6.1.0-9-amd64"),
        ] {
            assert!(has(kernel, symbols), "{kernel}: {symbols}");
        }
    }

    #[test]
    fn what_may_be_anothers_is_not_named() {
        for (kernel, symbols) in [
            ("home/kernels/new/bzImage", "home/vmlinux"),
            ("arch/bzImage", "vmlinux"),
            ("k/vmlinuz", "debug/boot/vmlinux-6.1.0-8-amd64"),
        ] {
            assert!(!has(kernel, symbols), "{kernel}: {symbols}");
        }
    }

    #[test]
    fn a_line_without_symbols_says_so() {
        let with = line(Some(Path::new("a b/vmlinux")), "127.0.0.1:1234");
        assert_eq!(with, "gdb 'a b/vmlinux' -ex 'target remote 127.0.0.1:1234'");
        let without = line(None, "./s");
        assert!(
            without.starts_with("gdb -ex 'target remote ./s' ("),
            "{without}"
        );
        assert!(without.contains("for symbols"), "{without}");
    }
}
