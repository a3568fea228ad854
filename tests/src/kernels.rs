//! The guest kernels the tests boot: those that `guest-kernel/build` makes, and
//! Debian's own.

mod guest;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::lab::debian::KernelPackage;
pub use guest::LARGE_MODULE;

/// A version the series exists for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Linux 6.1.
    V6_1,
    /// Linux 6.12.
    V6_12,
}

impl Version {
    /// Every version.
    pub const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        })
    }
}

/// What is built of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// With our series.
    Patched,
    /// Without it.
    Stock,
    /// With our series and what the tests of the driver need.
    Test,
    /// The same, watching itself.
    Debug,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Patched => "patched",
            Self::Stock => "stock",
            Self::Test => "test",
            Self::Debug => "debug",
        })
    }
}

/// A cloud kernel of Debian, as Debian ships it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stock {
    /// The one of the host's own release.
    Host,
    /// The newest 6.12 of Debian 13.
    V6_12,
    /// The newest 6.18 of Debian 13's backports.
    V6_18,
    /// The newest of Debian 13's backports.
    Newest,
}

impl Stock {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Host, Self::V6_12, Self::V6_18, Self::Newest];

    fn package(self) -> Result<KernelPackage> {
        match self {
            Self::Host => KernelPackage::from_package("linux-image-cloud-amd64"),
            Self::V6_12 => KernelPackage::newest(Some("6.12")),
            Self::V6_18 => KernelPackage::newest(Some("6.18")),
            Self::Newest => KernelPackage::newest(None),
        }
    }
}

impl fmt::Display for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::V6_12 => "6.12",
            Self::V6_18 => "6.18",
            Self::Newest => "newest",
        })
    }
}

/// One kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kernel {
    /// One that is built here.
    Built(Version, Variant),
    /// One of Debian's.
    Debian(Stock),
}

impl Kernel {
    /// The one most tests boot.
    pub const PATCHED: Self = Self::Built(Version::V6_1, Variant::Patched);
    /// The same without our series.
    pub const STOCK: Self = Self::Built(Version::V6_1, Variant::Stock);

    /// Every kernel.
    pub fn all() -> impl Iterator<Item = Self> {
        let variants = [
            Variant::Patched,
            Variant::Stock,
            Variant::Test,
            Variant::Debug,
        ];
        let built = Version::ALL
            .into_iter()
            .flat_map(move |version| variants.map(|variant| Self::Built(version, variant)));
        built.chain(Stock::ALL.map(Self::Debian))
    }

    /// Whether it watches itself, and is slow.
    #[must_use]
    pub fn is_debug(self) -> bool {
        matches!(self, Self::Built(_, Variant::Debug))
    }

    /// The variable that says where it is.
    fn variable(self) -> String {
        let name = format!("E2E_KERNEL_{self}");
        name.replace(['.', '-'], "_").to_uppercase()
    }

    /// Makes it, unless it is in the cache, and names its directory.
    fn make(self, workspace: &Path) -> Result<PathBuf> {
        match self {
            Self::Built(version, variant) => build(workspace, version, variant),
            Self::Debian(stock) => {
                let package = stock.package()?;
                let to = workspace.join("target/e2e/debian").join(package.release());
                guest::assemble(&package, &to)?;
                Ok(to)
            }
        }
    }

    /// The files in its directory that tests use.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Built(_, Variant::Patched) => &["bzImage", "vmlinux", "kernelrelease", "modules"],
            Self::Built(..) => &["bzImage", "driver-tests"],
            Self::Debian(_) => &["bzImage", "kernelrelease", "modules", guest::LARGE_MODULE],
        }
    }
}

fn build(workspace: &Path, version: Version, variant: Variant) -> Result<PathBuf> {
    let output = Command::new(workspace.join("guest-kernel/build"))
        .args(["--version", &version.to_string()])
        .args(["--variant", &variant.to_string(), "--print-dir"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run guest-kernel/build")?;
    if !output.status.success() {
        bail!("cannot build the guest kernel {version} {variant}");
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Built(version, variant) => write!(f, "{version}-{variant}"),
            Self::Debian(stock) => write!(f, "debian-{stock}"),
        }
    }
}

/// Where kernels are.
#[derive(Clone, Debug, Default)]
pub struct Kernels(BTreeMap<Kernel, PathBuf>);

impl Kernels {
    /// Makes what is missing of `wanted`.
    ///
    /// # Errors
    ///
    /// When one cannot be built or fetched.
    pub fn make(workspace: &Path, wanted: impl IntoIterator<Item = Kernel>) -> Result<Self> {
        let make = |kernel: Kernel| Ok((kernel, kernel.make(workspace)?));
        Ok(Self(wanted.into_iter().map(make).collect::<Result<_>>()?))
    }

    /// What [`Self::to_environment`] described.
    #[must_use]
    pub fn from_environment() -> Self {
        let find = |kernel: Kernel| Some((kernel, std::env::var_os(kernel.variable())?.into()));
        Self(Kernel::all().filter_map(find).collect())
    }

    /// The paths as environment variables.
    pub fn to_environment(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.iter()
            .map(|(kernel, path)| (kernel.variable().into(), path.into()))
    }

    /// The directory of `kernel`.
    ///
    /// # Errors
    ///
    /// When it was not asked for.
    pub fn get(&self, kernel: Kernel) -> Result<&Path> {
        let path = self.0.get(&kernel).map(PathBuf::as_path);
        path.with_context(|| format!("the kernel {kernel} was not prepared"))
    }

    /// Every kernel and its directory.
    pub fn iter(&self) -> impl Iterator<Item = (Kernel, &Path)> {
        self.0
            .iter()
            .map(|(kernel, path)| (*kernel, path.as_path()))
    }

    /// Those of these that are `wanted`.
    #[must_use]
    pub fn only(&self, wanted: &BTreeSet<Kernel>) -> Self {
        let mut kernels = self.clone();
        kernels.0.retain(|kernel, _| wanted.contains(kernel));
        kernels
    }

    /// The files of the kernels that tests use.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let of = |(kernel, directory): (Kernel, &Path)| {
            let directory = directory.to_owned();
            let names = kernel.files().iter();
            names.map(move |name| directory.join(name))
        };
        self.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Kernel;

    #[test]
    fn every_kernel_has_a_variable_of_its_own() {
        let mut names: Vec<_> = Kernel::all().map(Kernel::variable).collect();
        assert!(names.contains(&"E2E_KERNEL_6_12_TEST".to_owned()));
        assert!(names.contains(&"E2E_KERNEL_DEBIAN_6_18".to_owned()));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
