//! What was measured, as it is kept in `guest-kernel/comparison.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::plan::{Direction, Strategy};

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// One per kernel version, in the order of [`super::plan::Plan`].
    pub kernels: Vec<KernelResults>,
}

/// One kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelResults {
    /// `6.1`.
    pub version: String,
    /// `uname -r` in the guest.
    pub release: String,
    /// Calls with memory as it is after boot.
    pub calls: Vec<Call>,
    /// Calls with no two neighbouring pages free.
    pub fragmented: Vec<FragmentedCall>,
    /// Extended attributes.
    pub attributes: Vec<Attribute>,
    /// What positioning in the buffer costs.
    pub forms: Vec<Form>,
    /// Modules loaded by the kernel without the series.
    pub stock: Vec<StockLoad>,
}

/// One call of one strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Read or write.
    pub direction: Direction,
    /// How many bytes.
    pub bytes: u64,
    /// How the mount was made.
    pub strategy: Strategy,
    /// What became of it.
    pub outcome: Outcome,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All bytes arrived, and they were the right ones.
    Done(Cost),
    /// The call returned an error.
    Failed(Failure),
}

/// An error of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The positive errno.
    pub errno: i32,
    /// Whether the guest's kernel warned.
    pub warned: bool,
}

/// What a call cost, without the opening and the closing of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Largest order of an allocation made for a request.
    pub max_order: u64,
    /// Bytes allocated: buffers, scatterlists, descriptor tables.
    pub allocated: u64,
    /// Bytes copied to and from buffers.
    pub copied: u64,
    /// FUSE requests.
    pub requests: u64,
    /// Instructions of the guest.
    pub guest: Spread,
    /// Instructions of everything: guest, KVM, `vmm`, the host's kernel.
    pub machine: Spread,
    /// Exits from the guest, in the run that `guest.least` is of.
    pub exits: u64,
}

/// The least and the most of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// What is shown.
    pub least: u64,
    /// How far the others were off.
    pub most: u64,
}

impl Spread {
    /// Of `values`; none if there are none.
    #[must_use]
    pub fn of(values: &[u64]) -> Option<Self> {
        Some(Self {
            least: *values.iter().min()?,
            most: *values.iter().max()?,
        })
    }

    /// How much more the most is, in tenths of a per cent, rounded up.
    #[must_use]
    pub fn per_mille(self) -> u64 {
        ((self.most - self.least) * 1000).div_ceil(self.least.max(1))
    }
}

/// One call while memory is fragmented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FragmentedCall {
    /// Read or write.
    pub direction: Direction,
    /// How many bytes.
    pub bytes: u64,
    /// How the mount was made.
    pub strategy: Strategy,
    /// The errno, if it failed.
    pub errno: Option<i32>,
}

/// Getting an extended attribute of 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// How the mount was made.
    pub strategy: Strategy,
    /// Largest order of an allocation made for it.
    pub max_order: u64,
    /// The errno with fragmented memory, if it failed.
    pub fragmented: Option<i32>,
}

/// What one way of positioning costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// Read or write.
    pub direction: Direction,
    /// Its name in `argbuf_forms`.
    pub form: String,
    /// Instructions to fill and drain the buffer for one request.
    pub instructions: u64,
    /// Pages of data of that request.
    pub pages: u64,
}

impl Form {
    /// Instructions per MiB, rounded.
    #[must_use]
    pub fn per_mib(&self) -> u64 {
        (self.instructions * 256 + self.pages / 2) / self.pages.max(1)
    }
}

/// A module and the kernel without the series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLoad {
    /// Size of the module's file.
    pub bytes: u64,
    /// How long it was waited for, if it did not end.
    pub hung_after_seconds: Option<u64>,
    /// Whether the kernel warned.
    pub warned: bool,
}

impl Results {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it is not there or not of this form.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("cannot understand {}", path.display()))
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// What is known of a kernel version.
    #[must_use]
    pub fn kernel(&self, version: &str) -> Option<&KernelResults> {
        self.kernels.iter().find(|kernel| kernel.version == version)
    }

    /// Puts `newer` in the place of what is there of the same versions.
    pub fn update(&mut self, newer: Self) {
        for kernel in newer.kernels {
            match self
                .kernels
                .iter_mut()
                .find(|old| old.version == kernel.version)
            {
                Some(old) => *old = kernel,
                None => self.kernels.push(kernel),
            }
        }
    }
}

impl KernelResults {
    /// What became of a call.
    #[must_use]
    pub fn outcome(&self, direction: Direction, bytes: u64, strategy: Strategy) -> Option<Outcome> {
        self.calls
            .iter()
            .find(|call| {
                (call.direction, call.bytes, call.strategy) == (direction, bytes, strategy)
            })
            .map(|call| call.outcome)
    }

    /// What a call cost, if it succeeded.
    #[must_use]
    pub fn cost(&self, direction: Direction, bytes: u64, strategy: Strategy) -> Option<Cost> {
        match self.outcome(direction, bytes, strategy)? {
            Outcome::Done(cost) => Some(cost),
            Outcome::Failed(_) => None,
        }
    }

    /// The errno of a call with fragmented memory; `Some(None)` is success.
    #[must_use]
    pub fn fragmented(
        &self,
        direction: Direction,
        bytes: u64,
        strategy: Strategy,
    ) -> Option<Option<i32>> {
        self.fragmented
            .iter()
            .find(|call| {
                (call.direction, call.bytes, call.strategy) == (direction, bytes, strategy)
            })
            .map(|call| call.errno)
    }

    /// What was found of extended attributes.
    #[must_use]
    pub fn attribute(&self, strategy: Strategy) -> Option<&Attribute> {
        self.attributes
            .iter()
            .find(|found| found.strategy == strategy)
    }

    /// A form's result.
    #[must_use]
    pub fn form(&self, direction: Direction, form: &str) -> Option<&Form> {
        self.forms
            .iter()
            .find(|found| found.direction == direction && found.form == form)
    }

    /// The largest spread of all counts, in tenths of a per cent: of the guest
    /// and of the whole machine.
    #[must_use]
    pub fn spread_per_mille(&self) -> (u64, u64) {
        let costs = self.calls.iter().filter_map(|call| match call.outcome {
            Outcome::Done(cost) => Some(cost),
            Outcome::Failed(_) => None,
        });
        costs.fold((0, 0), |(guest, machine), cost| {
            (
                guest.max(cost.guest.per_mille()),
                machine.max(cost.machine.per_mille()),
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn kernel(version: &str, release: &str) -> KernelResults {
        KernelResults {
            version: version.to_owned(),
            release: release.to_owned(),
            calls: Vec::new(),
            fragmented: Vec::new(),
            attributes: Vec::new(),
            forms: Vec::new(),
            stock: Vec::new(),
        }
    }

    #[test]
    fn what_was_not_measured_again_stays() {
        let mut results = Results {
            kernels: vec![kernel("6.1", "old"), kernel("6.12", "old")],
        };
        results.update(Results {
            kernels: vec![kernel("6.12", "new"), kernel("6.18", "new")],
        });
        let releases: Vec<&str> = results
            .kernels
            .iter()
            .map(|kernel| kernel.release.as_str())
            .collect();
        assert_eq!(releases, ["old", "new", "new"]);
        assert_eq!(results.kernel("6.12").unwrap().release, "new");
    }

    #[test]
    fn a_spread_is_rounded_up() {
        let spread = Spread::of(&[1000, 1001, 1000]).unwrap();
        assert_eq!((spread.least, spread.per_mille()), (1000, 1));
        assert_eq!(Spread::of(&[2000, 2001]).unwrap().per_mille(), 1);
        assert_eq!(Spread::of(&[7]).unwrap().per_mille(), 0);
        assert_eq!(Spread::of(&[]), None);
    }
}
