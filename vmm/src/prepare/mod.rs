//! Everything that is known before the machine starts: the arguments, checked
//! and completed.

mod dry_run;
mod files;
mod gdb_line;
mod host_root;
mod initramfs;
pub(crate) mod input;
mod kernel_cache;
mod kernel_modules;
mod listing;
mod places;
mod plan;
mod preflight;
pub(crate) mod serving;
pub(crate) mod shares;
mod source;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guest_init::protocol::{Plan, Text};

use crate::console::marks;
use crate::machine::boot::command_line;
use crate::machine::debugger::{self, Listener};
use crate::machine::{host, limits};
use crate::options::RunArguments;
use crate::outcome::junit::Subject;
use crate::outcome::line;
use crate::outcome::notes::Notes;
use crate::outcome::output_file::{self, OutputFile};
use crate::splats::{FailOn, Policy};
use initramfs::{busybox, busybox::Busybox, foreign};
use kernel_modules::KernelModules;
use preflight::Needs;
use shares::Share;
use vmm_kernel::Kernel;
use vmm_options::size::Size;
use vmm_sandbox::Sandbox;

/// The time that COMMAND has after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// Who is in charge of the guest once its kernel is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boot {
    /// Our init, which runs one command and reports how it ended.
    Command,
    /// The init of the user's root file system, of which one command is a service that
    /// reports how it ended.
    Unit,
    /// The init of the user's root file system, on the serial console.
    System,
    /// The user's own initramfs, on the serial console.
    Initramfs,
}

impl Boot {
    /// Whether there is a command, whose end is the run's.
    pub(crate) fn has_command(self) -> bool {
        matches!(self, Self::Command | Self::Unit)
    }
}

/// A run, ready to start.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub kernel: Kernel,
    pub boot: Boot,
    /// What the guest's init has to do; `None` with a foreign initramfs.
    pub plan: Option<Plan>,
    pub initramfs: Vec<u8>,
    /// What the machine adds to its kernel's command line: the user's part, and what
    /// comes before it.
    pub cmdline: String,
    /// The root first, if there is one.
    pub shares: Vec<Share>,
    /// What their owners take.
    pub owners: vmm_owners::Plan,
    /// What was told already.
    pub notes: Notes,
    pub cpus: u8,
    pub memory: Size,
    /// The time that the run has.
    pub timeout: Option<Duration>,
    /// The time that the command has after a signal.
    pub grace: Duration,
    /// What the kernel may report.
    pub policy: Policy,
    pub console_log: Option<PathBuf>,
    pub metrics: Option<OutputFile>,
    pub report: Option<OutputFile>,
    pub junit: Option<OutputFile>,
    /// What the run is called there.
    pub subject: Subject,
    /// Where gdb is waited for.
    pub gdb: Option<Listener>,
    /// What confines the threads of the run.
    pub sandbox: Sandbox,
    /// Show the kernel's console.
    pub verbose: bool,
    kernel_path: PathBuf,
    /// The kernel's modules, if it has any.
    modules: Option<KernelModules>,
    packed_modules: Vec<String>,
}

/// Why a run cannot start. One line each, with how to mend it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Share(#[from] shares::Error),
    #[error(transparent)]
    Serving(#[from] serving::Error),
    #[error(transparent)]
    Owners(#[from] vmm_owners::Error),
    #[error(transparent)]
    Kernel(#[from] kernel_cache::Error),
    #[error(transparent)]
    Preflight(#[from] preflight::Error),
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error(transparent)]
    Modules(#[from] kernel_modules::Error),
    #[error(transparent)]
    Module(#[from] initramfs::modules::Error),
    #[error(transparent)]
    Busybox(#[from] busybox::Error),
    #[error(transparent)]
    Pack(#[from] initramfs::cpio::Error),
    #[error(transparent)]
    Initramfs(#[from] foreign::Error),
    #[error(transparent)]
    SameFile(#[from] files::Error),
    #[error(transparent)]
    Place(#[from] places::Error),
    #[error(transparent)]
    Output(#[from] output_file::Error),
    #[error("{0} is for COMMAND, and there is none: name one after --, or leave {0} out")]
    WithoutCommand(&'static str),
    #[error(
        "--allow-splat says which splats are no failures, and with --fail-on never none is: \
         leave one of them out"
    )]
    NothingToAllow,
    #[error(transparent)]
    HostRoot(#[from] host_root::Error),
    #[error(
        "init= on the kernel's command line is for a root file system: add --root (with --host, \
         --root / in its place), or leave it out"
    )]
    InitWithoutRoot,
    #[error(transparent)]
    Plan(#[from] plan::Error),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Machine(#[from] limits::Error),
    #[error(transparent)]
    Gdb(#[from] debugger::ListenerError),
    #[error(transparent)]
    Sandbox(#[from] vmm_sandbox::Error),
}

impl Configuration {
    /// Checks the arguments, and whether this host can run them, and packs
    /// the initramfs.
    pub(crate) fn prepare(mut arguments: RunArguments) -> Result<Self, Error> {
        let output = std::env::var_os("KBUILD_OUTPUT");
        let source = source::find(arguments.kernel.as_deref(), output.as_deref());
        let named = arguments.kernel.as_deref().unwrap_or(Path::new("."));
        // First: where this fails, no report may be written.
        let image = source.as_ref().map_or(named, |source| &source.image);
        files::check(&arguments, image)?;
        let source = source?;
        if arguments.fail_on == FailOn::Never && !arguments.allow_splat.is_empty() {
            return Err(Error::NothingToAllow);
        }
        let sandbox = Sandbox::plan(arguments.sandbox)?;
        let host = host_root::expand(&mut arguments)?;
        let init = init(&arguments)?;
        let mut shares = shares::resolve(arguments.root.as_ref(), &arguments.shares)?;
        let kernel = kernel_cache::open(&source.image, &arguments)?;
        let boot = match (&arguments.initramfs, &init) {
            (Some(_), _) => Boot::Initramfs,
            (None, Some(_)) if arguments.command.is_empty() => Boot::System,
            (None, Some(_)) => Boot::Unit,
            (None, None) => Boot::Command,
        };
        for (option, is_given) in [
            ("--grace", arguments.grace.is_some()),
            ("--user", arguments.user.is_some()),
            ("--cwd", arguments.cwd.is_some()),
        ] {
            if is_given && !boot.has_command() {
                return Err(Error::WithoutCommand(option));
            }
        }
        let mut notes = Notes::default();
        if let Some(lacks) = sandbox.lacks() {
            notes.tell(&format!(
                "this host has no {lacks}, a part of the sandbox, which --sandbox=on refuses"
            ));
        }
        let modules = match boot {
            Boot::Initramfs => None,
            _ => kernel_modules::find(
                arguments.modules.as_deref(),
                source.modules.as_ref(),
                kernel.release(),
                &mut notes,
            )?,
        };
        let known = modules.as_ref().map(KernelModules::modules);
        let needs = Needs {
            shares: boot != Boot::Initramfs || !shares.is_empty(),
            init_loads_modules: boot != Boot::Initramfs,
            overlay: arguments.root.is_some()
                && shares
                    .first()
                    .is_some_and(|root| root.service.server.read_only),
        };
        let names = preflight::check_kernel(&source.image, &kernel, known, needs)?;
        let packed = match known {
            Some(modules) => modules.load_order(&names)?,
            None => Vec::new(),
        };
        if arguments.initramfs.is_some() {
            shares::leave_unmounted(&mut shares, &arguments.shares)?;
        }
        let own = shares.len();
        let given = modules
            .as_ref()
            .map(|modules| modules.given(&shares, kernel.release()))
            .transpose()?
            .flatten();
        let (modules_share, modules_plan) = given.unzip();
        shares.extend(modules_share);
        let owners = shares::plan_owners(&mut shares)?;
        // Nobody is root where there is the modules' share only.
        if let Some(refused) = owners.refused.as_ref().filter(|_| own > 0) {
            notes.tell(&line::of_error(refused));
        }
        // The init knows where to put the modules.
        let users = shares.get(..own).unwrap_or_default();
        let initramfs = match &arguments.initramfs {
            Some(path) => foreign::read(path)?,
            None => {
                let tools = tools(&arguments, users)?;
                let files = match arguments.root {
                    Some(_) => Vec::new(),
                    None => initramfs::files(tools.as_ref()),
                };
                places::check(users, &files)?;
                let listing = modules.as_ref().and_then(KernelModules::listing);
                let listing = listing.zip(kernel.release());
                initramfs::build(tools.as_ref(), &packed, listing)?
            }
        };
        let mut plan = match boot {
            Boot::Initramfs => None,
            _ => Some(plan::plan(&arguments, boot, users, &kernel, host.as_ref())?),
        };
        if let Some(plan) = &mut plan {
            plan.init = init.map(Text::from);
            plan.modules = modules_plan;
        }
        let output = |option, path: &Option<PathBuf>| {
            path.as_deref()
                .map(|path| OutputFile::check(option, path))
                .transpose()
        };
        let metrics = output("--metrics", &arguments.metrics)?;
        let report = output("--report", &arguments.report)?;
        let junit = output("--junit", &arguments.junit)?;
        // The log is opened when the run starts: a dry run truncates nothing.
        if let Some(path) = &arguments.console_log {
            output_file::check_log("--console-log", path)?;
        }
        let subject = Subject::of(&arguments.command, kernel.release());
        let mut configuration = Self {
            kernel,
            boot,
            plan,
            initramfs,
            cmdline: command_line(boot, arguments.gdb.is_some(), &arguments.cmdline),
            shares,
            owners,
            notes,
            cpus: arguments.cpus,
            memory: arguments.memory,
            timeout: arguments.timeout,
            grace: arguments.grace.unwrap_or(GRACE),
            policy: Policy {
                fail_on: arguments.fail_on,
                allow: arguments.allow_splat,
            },
            console_log: arguments.console_log,
            metrics,
            report,
            junit,
            subject,
            gdb: None,
            sandbox,
            verbose: arguments.verbose,
            kernel_path: source.image,
            modules,
            packed_modules: packed.into_iter().map(|module| module.name).collect(),
        };
        // The machine says the rest when it is made.
        if arguments.dry_run {
            configuration.check_machine()?;
        } else {
            host::check()?;
        }
        // Last: the place is taken, which others see.
        configuration.gdb = arguments.gdb.as_ref().map(Listener::bind).transpose()?;
        Ok(configuration)
    }

    /// Number of virtio devices: the shares and the session.
    #[must_use]
    pub(crate) fn devices(&self) -> usize {
        self.shares.len() + usize::from(self.plan.is_some())
    }
}

/// The program of the root that is to have the machine, if one is.
fn init(arguments: &RunArguments) -> Result<Option<OsString>, Error> {
    const USUAL: &str = "/sbin/init";
    if arguments.initramfs.is_some() {
        // Knows itself what to do with it.
        return Ok(None);
    }
    match command_line::init(&arguments.cmdline.join(" ")) {
        Some(_) if arguments.root.is_none() || arguments.host => Err(Error::InitWithoutRoot),
        Some(program) => Ok(Some(program.into())),
        None => Ok(arguments.init.then(|| USUAL.into())),
    }
}

/// What the kernel is to hear. Where programs have no business on the console,
/// it marks what is its own. Under gdb it is to be where its symbols are. And nobody is
/// there to answer the questions that systemd has when a system starts for the first
/// time.
fn command_line(boot: Boot, gdb: bool, user: &[String]) -> String {
    let marks = boot.has_command().then_some(marks::PARAMETER);
    let no_questions = (boot == Boot::Unit).then_some("systemd.firstboot=off");
    let ours = marks.into_iter().chain(no_questions);
    let ours = ours.chain(gdb.then_some("nokaslr"));
    let words = ours.chain(user.iter().map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}

/// The host's busybox for the initramfs, where the guest needs one: not for a
/// root file system, which has its own tools, and not for a command that lies
/// on a share when there is no busybox to be had.
fn tools(arguments: &RunArguments, shares: &[Share]) -> Result<Option<Busybox>, Error> {
    if arguments.root.is_some() {
        return Ok(None);
    }
    match Busybox::load() {
        Ok(busybox) => Ok(Some(busybox)),
        Err(_) if is_on_a_share(arguments.command.first(), shares) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_on_a_share(command: Option<&OsString>, shares: &[Share]) -> bool {
    command.is_some_and(|command| {
        shares
            .iter()
            .filter_map(|share| share.at.as_ref())
            .any(|at| Path::new(command).starts_with(at))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_command_on_a_share_needs_no_busybox() {
        let top = tempfile::tempdir().unwrap();
        let argument = vmm_options::share::ShareArgument {
            directory: top.path().to_owned(),
            at: Some("/srv".into()),
            ..vmm_options::share::ShareArgument::default()
        };
        let shares = shares::resolve(None, &[argument]).unwrap();
        assert!(is_on_a_share(Some(&"/srv/bin/tool".into()), &shares));
        assert!(!is_on_a_share(Some(&"sh".into()), &shares));
        assert!(!is_on_a_share(None, &shares));
    }
}
