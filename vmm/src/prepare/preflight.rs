//! Whether a kernel can do what a run needs of it, as far as that can be read
//! from the kernel and its modules.

use std::path::{Path, PathBuf};

use super::initramfs::modules::{Modules, Presence};
use vmm_kernel::requirements::{self, OVERLAY, Purpose};
use vmm_kernel::{Kernel, OptionState};

/// What a run needs of its kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// virtio-fs devices.
    pub shares: bool,
    /// Our init runs, so drivers may be modules.
    pub init_loads_modules: bool,
    /// An overlay over the root; nice to have.
    pub overlay: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the kernel {} is built without {options}: switch it on and build it again (vmm kconfig \
         has all that is needed)", path.display())]
    Missing { path: PathBuf, options: String },
    #[error("the kernel {} cannot reach its devices: {reason}", path.display())]
    NoDevices { path: PathBuf, reason: String },
    /// A driver is a module, and nobody said where the modules are.
    #[error(
        "the kernel {} has {option} as a module: name the directory of its modules with --modules, \
         or the tree or package that it is in with --kernel", path.display()
    )]
    ModulesUnknown { path: PathBuf, option: &'static str },
    #[error(
        "the kernel {} has no {module}: it is neither built in nor among the modules in {}",
        path.display(), modules.display()
    )]
    ModuleMissing {
        path: PathBuf,
        module: &'static str,
        modules: PathBuf,
    },
}

/// Checks `kernel`, and says which modules the initramfs has to carry.
pub(crate) fn check_kernel(
    path: &Path,
    kernel: &Kernel,
    modules: Option<&Modules>,
    needs: Needs,
) -> Result<Vec<&'static str>, Error> {
    let needed = |purpose| requirements::of(purpose).map(|needed| needed.option);
    let mut options: Vec<&str> = needed(Purpose::Boot).collect();
    if needs.shares {
        options.extend(needed(Purpose::Shares));
    }
    let missing = kernel.missing_for(&options);
    if !missing.is_empty() {
        return Err(Error::Missing {
            path: path.to_owned(),
            options: missing.join(" and "),
        });
    }
    if !needs.shares {
        return Ok(Vec::new());
    }
    if let Some(reason) = kernel.cannot_find_devices() {
        return Err(Error::NoDevices {
            path: path.to_owned(),
            reason,
        });
    }
    if !needs.init_loads_modules {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for (option, module) in
        requirements::of(Purpose::Shares).filter_map(|driver| Some((driver.option, driver.module?)))
    {
        let state = kernel.config().map(|config| config.state(option));
        match (state, modules) {
            (Some(OptionState::BuiltIn), _) | (None, None) => {}
            (Some(_), None) => {
                return Err(Error::ModulesUnknown {
                    path: path.to_owned(),
                    option,
                });
            }
            (state, Some(modules))
                if match modules.presence(module) {
                    Presence::Absent => true,
                    // It may be built in, unless the kernel says otherwise.
                    Presence::Unknown => state.is_some(),
                    Presence::BuiltIn | Presence::File => false,
                } =>
            {
                return Err(Error::ModuleMissing {
                    path: path.to_owned(),
                    module,
                    modules: modules.directory().to_owned(),
                });
            }
            (_, Some(_)) => names.push(module),
        }
    }
    if needs.overlay {
        names.push(OVERLAY);
    }
    Ok(names)
}
