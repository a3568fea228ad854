//! What the end-to-end tests need: `vmm`, kernels, modules. Made on the host,
//! used where the guests run, under the same paths.

mod tools;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::conformance::suite::SUITES;
use crate::debian_system;
use crate::kernels::{Kernel, Kernels, Variant};
pub use tools::PRELUDE;

/// How long modules of a kernel are kept after they were made. Another run may
/// want other kernels, so what this one does not want is no reason.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Everything the tests need, by path.
#[derive(Clone, Debug)]
pub struct Fixtures {
    /// The program under test.
    pub vmm: PathBuf,
    /// The guest kernels.
    pub kernels: Kernels,
    /// The scripts of the tests of the guest's driver.
    pub driver_tests: PathBuf,
    /// Modules of exact sizes; see [`Self::payload`].
    pub payloads: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
    /// The suites' scripts, and in `bin` the programs that are installed for them.
    pub suites: PathBuf,
    /// Programs of the host for guests; see [`PRELUDE`].
    pub tools: PathBuf,
    /// An empty directory, in the lab on an ext4 disk of its own where there are tools.
    pub disk: PathBuf,
    /// An archive of a system of Debian's.
    pub debian: PathBuf,
    /// A system of Debian's with the programs of the suites: a directory.
    pub suites_system: PathBuf,
}

/// What only some tests need.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// The suites of others, and a system with what they run.
    pub suites: bool,
    /// Programs of the host, and these of ours with them.
    pub tools: Option<Vec<PathBuf>>,
    /// A system of Debian's.
    pub debian: bool,
}

/// The variables that carry the paths to where the tests run.
const VARIABLES: [&str; 9] = [
    "E2E_VMM",
    "E2E_DRIVER_TESTS",
    "E2E_PAYLOADS",
    "E2E_BUSYBOX",
    "E2E_SUITES",
    "E2E_TOOLS",
    "E2E_DISK",
    "E2E_DEBIAN",
    "E2E_SUITES_SYSTEM",
];

impl Fixtures {
    /// Makes what is missing. `payload_sizes` are the modules' sizes in bytes;
    /// they are made for the kernels that are not for tests of the driver.
    /// The `extras` are made where they are asked for.
    ///
    /// # Errors
    ///
    /// When something cannot be made; the message says what.
    pub fn prepare(
        workspace: &Path,
        kernels: impl IntoIterator<Item = Kernel>,
        payload_sizes: &[u64],
        extras: &Extras,
    ) -> Result<Self> {
        let scratch = workspace.join("target/e2e");
        fs::create_dir_all(&scratch)
            .with_context(|| format!("cannot create {}", scratch.display()))?;
        let kernels = Kernels::make(workspace, kernels)?;
        let payloads = scratch.join("payloads");
        remove_old_payloads(&payloads)?;
        for (kernel, directory) in kernels.iter() {
            if matches!(kernel, Kernel::Built(_, Variant::Patched | Variant::Stock)) {
                make_payloads(workspace, directory, &payloads, payload_sizes)?;
            }
        }
        Ok(Self {
            vmm: vmm(workspace)?,
            kernels,
            driver_tests: workspace.join("guest-kernel/driver-tests"),
            payloads,
            busybox: crate::lab::static_busybox()?
                .context("no static busybox; try apt-get install busybox-static")?,
            suites: suites(workspace, &scratch, extras.suites)?,
            tools: match &extras.tools {
                Some(programs) => tools::make(workspace, &scratch, programs)?,
                None => empty(&scratch.join("no-tools"))?,
            },
            disk: empty(&scratch.join("disk"))?,
            debian: debian(&scratch, extras.debian)?,
            suites_system: match extras.suites {
                true => debian_system::for_suites()?,
                false => empty(&scratch.join("no-suites"))?,
            },
        })
    }

    /// The same with only those kernels that are `wanted`.
    #[must_use]
    pub fn with_kernels(&self, wanted: &BTreeSet<Kernel>) -> Self {
        Self {
            kernels: self.kernels.only(wanted),
            ..self.clone()
        }
    }

    /// The directory of `kernel`.
    ///
    /// # Errors
    ///
    /// When these fixtures were prepared without it.
    pub fn kernel(&self, kernel: Kernel) -> Result<&Path> {
        self.kernels.get(kernel)
    }

    /// The module of `size` bytes for `kernel`, one of this kit's; the
    /// checksum of its payload is in the file beside it, `.crc32` appended.
    #[must_use]
    pub fn payload(&self, kernel: &Path, size: u64) -> PathBuf {
        self.payloads_of(kernel).join(format!("payload-{size}.ko"))
    }

    fn payloads_of(&self, kernel: &Path) -> PathBuf {
        self.payloads.join(kernel.file_name().unwrap_or_default())
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
        let [
            vmm,
            driver_tests,
            payloads,
            busybox,
            suites,
            tools,
            disk,
            debian,
            suites_system,
        ] = VARIABLES;
        Ok(Self {
            vmm: get(vmm)?,
            kernels: Kernels::from_environment(),
            driver_tests: get(driver_tests)?,
            payloads: get(payloads)?,
            busybox: get(busybox)?,
            suites: get(suites)?,
            tools: get(tools)?,
            disk: get(disk)?,
            debian: get(debian)?,
            suites_system: get(suites_system)?,
        })
    }

    /// The paths as environment variables.
    #[must_use]
    pub fn to_environment(&self) -> Vec<(OsString, OsString)> {
        let paths = [
            &self.vmm,
            &self.driver_tests,
            &self.payloads,
            &self.busybox,
            &self.suites,
            &self.tools,
            &self.disk,
            &self.debian,
            &self.suites_system,
        ];
        let mut variables: Vec<(OsString, OsString)> = VARIABLES
            .into_iter()
            .zip(paths)
            .map(|(name, path)| (name.into(), path.into()))
            .chain(self.kernels.to_environment())
            .collect();
        variables.push(("VMM_BUSYBOX".into(), self.busybox.clone().into()));
        variables
    }

    /// Every path but that of `vmm`, which is a program with its libraries, and those of
    /// other extras than these.
    #[must_use]
    pub fn files(&self, extras: &Extras) -> Vec<PathBuf> {
        let mut files = vec![self.driver_tests.clone(), self.busybox.clone()];
        if extras.suites {
            files.extend([self.suites.clone(), self.suites_system.clone()]);
        }
        if extras.tools.is_some() {
            files.push(self.tools.clone());
        }
        if extras.debian {
            files.push(self.debian.clone());
        }
        files.extend(self.kernels.files());
        let payloads = (self.kernels.iter()).map(|(_, directory)| self.payloads_of(directory));
        files.extend(payloads.filter(|directory| directory.exists()));
        files
    }
}

/// The archive of a system of Debian's, or an empty one.
fn debian(scratch: &Path, wanted: bool) -> Result<PathBuf> {
    if wanted {
        return debian_system::archive();
    }
    let none = scratch.join("no-debian.tar");
    fs::write(&none, "").with_context(|| format!("cannot write {}", none.display()))?;
    Ok(none)
}

/// A directory that there is.
fn empty(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory.to_owned())
}

/// Puts into one directory what a guest needs to run the suites of others, or
/// makes an empty one.
fn suites(workspace: &Path, scratch: &Path, wanted: bool) -> Result<PathBuf> {
    if !wanted {
        return empty(&scratch.join("no-suites"));
    }
    let directory = scratch.join("suites");
    let mut programs = Vec::new();
    for suite in SUITES {
        if let Some(installed) = suite.install()? {
            programs.push(installed.join(suite.name));
        }
    }
    let scripts = workspace.join("tests/conformance");
    let copies = (SUITES.iter())
        .map(|suite| (suite.script(), directory.join("suites").join(suite.name)))
        .chain([(scripts.join("prelude"), directory.join("prelude"))])
        .chain(programs.into_iter().map(|program| {
            let name = program.file_name().unwrap_or_default().to_owned();
            (program, directory.join("bin").join(name))
        }));
    for (from, to) in copies {
        fs::create_dir_all(to.parent().unwrap_or(&directory))
            .with_context(|| format!("cannot make a directory for {}", to.display()))?;
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(directory)
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
        .args(["--package", "vmm", "--package", "tests"])
        .args(["--package", "perf"]);
    if !cargo.status().context("cannot run cargo")?.success() {
        bail!("cannot build vmm");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    Ok(workspace.join(target).join("release/vmm"))
}

/// Forgets modules that were made long ago; those still wanted are made anew.
fn remove_old_payloads(payloads: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(payloads) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        let age = fs::metadata(&path)
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) {
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
