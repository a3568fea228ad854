//! The guest kernels the tests boot, as `guest-kernel/build` makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

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

/// One kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel(pub Version, pub Variant);

impl Kernel {
    /// The one most tests boot.
    pub const PATCHED: Self = Self(Version::V6_1, Variant::Patched);
    /// The same without our series.
    pub const STOCK: Self = Self(Version::V6_1, Variant::Stock);

    /// Every kernel.
    pub fn all() -> impl Iterator<Item = Self> {
        let variants = [
            Variant::Patched,
            Variant::Stock,
            Variant::Test,
            Variant::Debug,
        ];
        Version::ALL
            .into_iter()
            .flat_map(move |version| variants.map(|variant| Self(version, variant)))
    }

    /// The variable that says where it is.
    fn variable(self) -> String {
        let Self(version, variant) = self;
        let name = format!("E2E_KERNEL_{version}_{variant}");
        name.replace('.', "_").to_uppercase()
    }

    /// Builds it, unless it is in the cache, and names its directory.
    fn build(self, workspace: &Path) -> Result<PathBuf> {
        let Self(version, variant) = self;
        let output = Command::new(workspace.join("guest-kernel/build"))
            .args(["--version", &version.to_string()])
            .args(["--variant", &variant.to_string(), "--print-dir"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run guest-kernel/build")?;
        if !output.status.success() {
            bail!("cannot build the guest kernel {self}");
        }
        Ok(PathBuf::from(
            String::from_utf8_lossy(&output.stdout).trim(),
        ))
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// Where kernels are.
#[derive(Clone, Debug, Default)]
pub struct Kernels(BTreeMap<Kernel, PathBuf>);

impl Kernels {
    /// Builds what is missing of `wanted`.
    ///
    /// # Errors
    ///
    /// When one cannot be built.
    pub fn build(workspace: &Path, wanted: impl IntoIterator<Item = Kernel>) -> Result<Self> {
        let build = |kernel: Kernel| Ok((kernel, kernel.build(workspace)?));
        Ok(Self(wanted.into_iter().map(build).collect::<Result<_>>()?))
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
            let names: &[&str] = match kernel.1 {
                Variant::Patched => &["bzImage", "vmlinux", "kernelrelease", "modules"],
                Variant::Stock | Variant::Test | Variant::Debug => &["bzImage", "driver-tests"],
            };
            let directory = directory.to_owned();
            names.iter().map(move |name| directory.join(name))
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
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
