//! The shared libraries a program needs, so that the host's own programs run
//! in the lab.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Every library `program` needs, its loader included; none for a static
/// program.
///
/// # Errors
///
/// When `ldd` cannot be run.
pub(crate) fn of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot run ldd")?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// A line is `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the loader. The
/// vDSO has no path.
fn parse(listing: &str) -> Vec<PathBuf> {
    listing
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

/// Whether this is the loader that the others are loaded by.
pub(super) fn is_loader(library: &Path) -> bool {
    library
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_found_and_the_vdso_is_not() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibacl.so.1 => /lib/x86_64-linux-gnu/libacl.so.1 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = parse(listing);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Path::new("/lib/x86_64-linux-gnu/libacl.so.1"));
        assert!(is_loader(&found[1]) && !is_loader(&found[0]));
        assert!(parse("\tstatically linked\n").is_empty());
    }
}
