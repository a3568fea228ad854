//! What the end-to-end tests need: `vmm`, kernels, modules. Made on the host,
//! used where the guests run, under the same paths.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::lab::debian;

/// The modules a distribution's kernel needs to see a share.
const STOCK_MODULES: [&str; 4] = ["virtio_mmio", "fuse", "virtiofs", "overlay"];
/// Meta package of Debian's stock kernel under test.
const STOCK_PACKAGE: &str = "linux-image-cloud-amd64";

/// Everything the tests need, by path.
#[derive(Clone, Debug)]
pub struct Fixtures {
    /// The program under test.
    pub vmm: PathBuf,
    /// Products of `guest-kernel/build`, with our series.
    pub patched: PathBuf,
    /// The same without our series.
    pub unpatched: PathBuf,
    /// Debian's cloud kernel, untouched: the bzImage.
    pub debian_kernel: PathBuf,
    /// Its modules, as `--modules` takes them.
    pub debian_modules: PathBuf,
    /// Modules of exact sizes; see [`Self::payload`].
    pub payloads: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
}

/// The variables that carry the paths to where the tests run.
const VARIABLES: [&str; 7] = [
    "E2E_VMM",
    "E2E_PATCHED",
    "E2E_UNPATCHED",
    "E2E_DEBIAN_KERNEL",
    "E2E_DEBIAN_MODULES",
    "E2E_PAYLOADS",
    "E2E_BUSYBOX",
];

impl Fixtures {
    /// Makes what is missing. `payload_sizes` are the modules' sizes in bytes.
    ///
    /// # Errors
    ///
    /// When something cannot be made; the message says what.
    pub fn prepare(workspace: &Path, payload_sizes: &[u64]) -> Result<Self> {
        let scratch = workspace.join("target/e2e");
        fs::create_dir_all(&scratch)
            .with_context(|| format!("cannot create {}", scratch.display()))?;
        let patched = kernel(workspace, "patched")?;
        let unpatched = kernel(workspace, "stock")?;
        let payloads = scratch.join("payloads");
        remove_other_payloads(&payloads, &[&patched, &unpatched])?;
        for kernel in [&patched, &unpatched] {
            make_payloads(workspace, kernel, &payloads, payload_sizes)?;
        }
        let debian = debian::Kernel::from_package(STOCK_PACKAGE)?;
        let debian_modules = scratch.join("debian-modules");
        copy_modules(&debian, &debian_modules)?;
        Ok(Self {
            vmm: vmm(workspace)?,
            patched,
            unpatched,
            debian_kernel: debian.image(),
            debian_modules,
            payloads,
            busybox: crate::lab::static_busybox()?
                .context("no static busybox; try apt-get install busybox-static")?,
        })
    }

    /// The module of `size` bytes for `kernel`, one of this kit's; the
    /// checksum of its payload is in the file beside it, `.crc32` appended.
    #[must_use]
    pub fn payload(&self, kernel: &Path, size: u64) -> PathBuf {
        let directory = self.payloads.join(kernel.file_name().unwrap_or_default());
        directory.join(format!("payload-{size}.ko"))
    }

    /// What [`Self::to_environment`] described.
    ///
    /// # Errors
    ///
    /// When a variable is missing.
    pub fn from_environment() -> Result<Self> {
        let get = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("{name} is not set"))
        };
        let [vmm, patched, unpatched, kernel, modules, payloads, busybox] = VARIABLES;
        Ok(Self {
            vmm: get(vmm)?,
            patched: get(patched)?,
            unpatched: get(unpatched)?,
            debian_kernel: get(kernel)?,
            debian_modules: get(modules)?,
            payloads: get(payloads)?,
            busybox: get(busybox)?,
        })
    }

    /// The paths as environment variables.
    #[must_use]
    pub fn to_environment(&self) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = VARIABLES
            .into_iter()
            .map(OsString::from)
            .zip(self.paths())
            .collect();
        variables.push(("VMM_BUSYBOX".into(), self.busybox.clone().into()));
        variables
    }

    /// Every path but that of `vmm`, which is a program with its libraries.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.paths()
            .into_iter()
            .skip(1)
            .map(PathBuf::from)
            .collect()
    }

    fn paths(&self) -> [OsString; 7] {
        [
            &self.vmm,
            &self.patched,
            &self.unpatched,
            &self.debian_kernel,
            &self.debian_modules,
            &self.payloads,
            &self.busybox,
        ]
        .map(|path| path.clone().into())
    }
}

/// Builds `vmm` as it is shipped, unless `VMM` names one.
fn vmm(workspace: &Path) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("VMM") {
        return std::path::absolute(path).context("VMM names no file");
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // With the same packages as the Makefile builds: cargo would choose other
    // features of the dependencies for `vmm` alone, and build it all again.
    cargo
        .current_dir(workspace)
        .args(["build", "--quiet", "--release", "--locked"])
        .args(["--package", "vmm", "--package", "tests"]);
    if !cargo.status().context("cannot run cargo")?.success() {
        bail!("cannot build vmm");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    Ok(workspace.join(target).join("release/vmm"))
}

fn kernel(workspace: &Path, variant: &str) -> Result<PathBuf> {
    let output = Command::new(workspace.join("guest-kernel/build"))
        .args(["--version", "6.1", "--variant", variant, "--print-dir"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run guest-kernel/build")?;
    if !output.status.success() {
        bail!("cannot build the {variant} guest kernel");
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// Forgets the modules of kernels that are no longer built.
fn remove_other_payloads(payloads: &Path, kernels: &[&Path]) -> Result<()> {
    let Ok(entries) = fs::read_dir(payloads) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if !kernels
            .iter()
            .any(|kernel| kernel.file_name() == Some(&entry.file_name()))
        {
            let path = entry.path();
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Makes the modules that are not there yet, in a directory named as the
/// kernel's, which is another one whenever anything about the kernel is.
fn make_payloads(workspace: &Path, kernel: &Path, to: &Path, sizes: &[u64]) -> Result<()> {
    let to = to.join(kernel.file_name().unwrap_or_default());
    fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
    for &size in sizes {
        let module = to.join(format!("payload-{size}.ko"));
        if is_complete(&module, size) {
            continue;
        }
        let status = Command::new(workspace.join("guest-kernel/payload/make-module"))
            .arg("--template")
            .arg(kernel.join("payload.ko.template"))
            .arg(size.to_string())
            .arg(&module)
            .status()
            .context("cannot run guest-kernel/payload/make-module")?;
        if !status.success() {
            bail!("cannot make a module of {size} bytes");
        }
    }
    Ok(())
}

/// Whether the module was written to its end; its checksum is written last.
fn is_complete(module: &Path, size: u64) -> bool {
    let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let checksum = module.with_extension("ko.crc32");
    length(module) == size && length(&checksum) > 0
}

/// Copies the few modules the tests need out of a hundred megabytes.
fn copy_modules(kernel: &debian::Kernel, to: &Path) -> Result<()> {
    let from = kernel.modules();
    let to = to.join(kernel.release());
    let mut files = kernel.resolve(&STOCK_MODULES)?;
    for list in [
        "modules.dep",
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
    ] {
        files.push(from.join(list));
    }
    for file in files {
        let target = to.join(file.strip_prefix(&from).unwrap_or(&file));
        let copied = target
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::copy(&file, &target));
        copied.with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}
