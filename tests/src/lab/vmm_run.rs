//! `vmm run` in the lab: the same command line, the same result.
//!
//! The arguments go to `vmm` untouched; they are only searched for paths,
//! which are the same in the lab as on the host. A path that does not exist
//! does not go in, and `vmm` says so itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use vmm_options::share;
use vmm_options::size::Size;

use super::Order;

/// What has to happen with the path an option names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    /// It goes in.
    In,
    /// It goes in and comes back unless its options make it read-only.
    Share,
    /// It goes in, and comes back if its options make it writable.
    Root,
    /// It is written by `vmm`.
    Out,
}

/// Every option of `vmm run` that names a path of the host.
const PATH_OPTIONS: [(&str, Traffic); 9] = [
    ("--kernel", Traffic::In),
    ("--initramfs", Traffic::In),
    ("--modules", Traffic::In),
    ("--share", Traffic::Share),
    ("--root", Traffic::Root),
    ("--console-log", Traffic::Out),
    ("--metrics", Traffic::Out),
    ("--report", Traffic::Out),
    ("--junit", Traffic::Out),
];

/// A lab that runs `vmm run` with `arguments`.
///
/// # Errors
///
/// When the working directory is gone, and with `--host`.
pub fn order(vmm: PathBuf, arguments: &[OsString]) -> Result<Order> {
    let mut argv: Vec<OsString> = vec![vmm.clone().into(), "run".into()];
    argv.extend_from_slice(arguments);
    let mut order = Order::new(argv);
    order.cwd = std::env::current_dir().context("there is no working directory")?;
    order.programs.push(vmm);
    order.env = environment();
    let depmod = Path::new("/usr/sbin/depmod");
    if depmod.is_file() {
        order.programs.push(depmod.to_owned());
    }
    let mut own = arguments.iter().take_while(|argument| *argument != "--");
    if own.any(|argument| argument == "--host") {
        bail!("the lab has a root of its own: name a tree with --root");
    }
    let names_kernel = |(option, _): &(String, _)| option == "--kernel";
    if !options(arguments).iter().any(names_kernel) && has_kernel(&order.cwd) {
        add_path(&mut order, Traffic::In, OsStr::new("."))?;
    }
    for (option, value) in options(arguments) {
        if let Some((_, traffic)) = PATH_OPTIONS.iter().find(|(name, _)| option == *name) {
            add_path(&mut order, *traffic, &value)?;
        }
        if option == "--gdb" {
            bail!("gdb cannot reach a guest in the lab; --gdb is for a host with KVM");
        }
        if option == "--kernel" {
            add_modules(&mut order, Path::new(&value));
        }
        if option == "--env"
            && let Some(variable) = std::env::var_os(&value)
        {
            // Without a value it is the host's that goes on to the guest.
            order.env.push((value.clone(), variable));
        }
        if option == "--memory" {
            order.guest_mib = order.guest_mib.max(mebibytes(&value));
        }
    }
    if let Some(busybox) = std::env::var_os("VMM_BUSYBOX").filter(|path| Path::new(path).is_file())
    {
        let path = std::path::absolute(busybox)?;
        order.inputs.push((path.clone(), path));
    }
    Ok(order)
}

/// Whether `vmm` would find a kernel in `directory`.
fn has_kernel(directory: &Path) -> bool {
    [
        "arch/x86/boot/bzImage",
        "bzImage",
        "vmlinux",
        "vmlinuz",
        "boot",
    ]
    .iter()
    .any(|name| directory.join(name).exists())
}

/// What `vmm` may look at. The guest's environment comes from its options.
fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            ["HOME", "PATH", "TERM"].contains(&name.as_ref())
                || name.starts_with("VMM_")
                || name.starts_with("RUST_")
        })
        .collect()
}

/// The options before `--` with their values, however they are joined.
fn options(arguments: &[OsString]) -> Vec<(String, OsString)> {
    let mut found = Vec::new();
    let mut rest = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = rest.next() {
        let bytes = argument.as_bytes();
        if let Some((name, value)) = short(bytes) {
            let value = match value {
                [] => rest.next().cloned(),
                value => Some(OsString::from_vec(value.to_vec())),
            };
            found.extend(value.map(|value| (name.to_owned(), value)));
            continue;
        }
        if !bytes.starts_with(b"--") {
            continue;
        }
        if let Some(equals) = bytes.iter().position(|byte| *byte == b'=') {
            let name = String::from_utf8_lossy(&bytes[..equals]).into_owned();
            found.push((name, OsString::from_vec(bytes[equals + 1..].to_vec())));
        } else {
            let name = String::from_utf8_lossy(bytes).into_owned();
            let takes_value = ["--memory", "--env", "--gdb"].contains(&name.as_str())
                || PATH_OPTIONS.iter().any(|(n, _)| *n == name);
            if takes_value && let Some(value) = rest.next() {
                found.push((name, value.clone()));
            }
        }
    }
    found
}

/// The long name of a short option, and a value that is joined to it.
fn short(argument: &[u8]) -> Option<(&'static str, &[u8])> {
    let names = [("-k", "--kernel"), ("-m", "--memory")];
    names.into_iter().find_map(|(short, long)| {
        let value = argument.strip_prefix(short.as_bytes())?;
        Some((long, value.strip_prefix(b"=").unwrap_or(value)))
    })
}

fn add_path(order: &mut Order, traffic: Traffic, value: &OsStr) -> Result<()> {
    let (path, comes_back) = match traffic {
        Traffic::In => (PathBuf::from(value), false),
        Traffic::Out => (PathBuf::from(value), true),
        Traffic::Share | Traffic::Root => {
            let parsed = match traffic {
                Traffic::Root => share::root(value),
                _ => share::share(value),
            };
            // What `vmm` refuses, it refuses in the lab.
            let Ok(share) = parsed else { return Ok(()) };
            (share.directory, !share.service.server.read_only)
        }
    };
    let path = std::path::absolute(&path).context("an empty path")?;
    let usable = path.is_file() || path.is_dir();
    if usable {
        order.inputs.push((path.clone(), path.clone()));
    } else if traffic == Traffic::Out {
        // Where the host has a directory the lab has one, and nowhere else.
        order.directories.extend(
            path.parent()
                .filter(|parent| parent.is_dir())
                .map(Path::to_owned),
        );
    }
    if comes_back && (usable || traffic == Traffic::Out) {
        order.outputs.push((path.clone(), path));
    }
    Ok(())
}

/// The modules `vmm` takes when it is told of none: those installed for the
/// kernel's release.
fn add_modules(order: &mut Order, kernel: &Path) {
    if let Some(release) = release(kernel) {
        let modules = Path::new("/lib/modules").join(release);
        if modules.is_dir() {
            order.inputs.push((modules.clone(), modules));
        }
    }
}

/// The release a bzImage says it is, at the place its header points to (Linux
/// x86 boot protocol, `kernel_version`).
fn release(kernel: &Path) -> Option<String> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(kernel).ok()?;
    let mut pointer = [0; 2];
    file.read_exact_at(&mut pointer, 0x20e).ok()?;
    let mut text = [0; 256];
    let count = file
        .read_at(&mut text, u64::from(u16::from_le_bytes(pointer)) + 0x200)
        .ok()?;
    let text = String::from_utf8_lossy(&text[..count]).into_owned();
    let release = text.split([' ', '\0']).next()?;
    (!release.is_empty() && !release.contains('/')).then(|| release.to_owned())
}

/// What `vmm run --memory` takes, in MiB; 0 for what it refuses.
fn mebibytes(value: &OsStr) -> u64 {
    let size = value.to_str().and_then(|text| text.parse::<Size>().ok());
    size.map_or(0, |size| size.bytes() >> 20)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ordered(arguments: &[&str]) -> Order {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        order("/bin/true".into(), &arguments).unwrap()
    }

    #[test]
    fn a_share_comes_back_unless_it_is_read_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let pair = (PathBuf::from(path), PathBuf::from(path));
        assert_eq!(
            ordered(&["--share", path]).outputs,
            std::slice::from_ref(&pair)
        );
        assert_eq!(
            ordered(&[&format!("--share={path},cache=auto")]).outputs,
            std::slice::from_ref(&pair)
        );
        let read_only = ordered(&["--share", &format!("tag=x,ro,path={path}")]);
        assert_eq!((read_only.inputs.len(), read_only.outputs.len()), (1, 0));
        assert_eq!(ordered(&["--root", path]).outputs, []);
        assert_eq!(ordered(&["--root", &format!("{path},rw")]).outputs, [pair]);
    }

    #[test]
    fn what_follows_the_double_dash_is_the_commands() {
        let order = ordered(&["--", "tool", "--share", "/tmp", "--memory", "64G"]);
        assert!(order.inputs.is_empty());
        assert_eq!(order.guest_mib, 0);
        assert_eq!(order.argv[2..].len(), 6);
    }

    #[test]
    fn a_report_comes_back_from_a_directory_that_exists() {
        let directory = tempfile::tempdir().unwrap();
        let report = directory.path().join("report.json");
        let order = ordered(&["--report", report.to_str().unwrap()]);
        assert_eq!(order.outputs.len(), 1);
        assert_eq!(order.directories, [directory.path().to_owned()]);
        assert!(
            ordered(&["--report", "/nowhere/at/all"])
                .directories
                .is_empty()
        );
    }

    #[test]
    fn gdb_is_told_that_it_has_no_way_in() {
        for line in [&["--gdb", "1234"][..], &["--gdb=./socket"]] {
            let arguments: Vec<OsString> = line.iter().map(OsString::from).collect();
            let error = super::order("/bin/true".into(), &arguments).unwrap_err();
            assert!(error.to_string().contains("a host with KVM"), "{error}");
        }
    }

    #[test]
    fn short_options_are_what_the_long_ones_are() {
        let kernel = tempfile::NamedTempFile::new().unwrap();
        let path = kernel.path().to_str().unwrap();
        let long = ordered(&["--kernel", path, "--memory", "1G"]);
        assert_eq!((long.inputs.len(), long.guest_mib), (1, 1024));
        for line in [
            &["-k", path, "-m", "1G"][..],
            &[&format!("-k{path}"), "-m1G"],
            &[&format!("-k={path}"), "-m=1G"],
        ] {
            let short = ordered(line);
            assert_eq!(short.inputs, long.inputs, "{line:?}");
            assert_eq!(short.guest_mib, 1024, "{line:?}");
        }
        assert!(ordered(&["--", "-k", path]).inputs.is_empty());
    }

    #[test]
    fn memory_is_read_as_vmm_reads_it() {
        for (text, size) in [("256", 256), ("512M", 512), ("2G", 2048), ("4GiB", 4096)] {
            assert_eq!(ordered(&["--memory", text]).guest_mib, size, "{text}");
        }
        for refused in ["much", "2Gx", "1.5G"] {
            assert_eq!(ordered(&["--memory", refused]).guest_mib, 0, "{refused}");
        }
    }
}
