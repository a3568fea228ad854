//! PID 1 of the guest: set up, run the command, report, power off.
//!
//! Whatever goes wrong is reported through the session, or on the console
//! where there is no session yet, and the machine ends: it never hangs.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use guest_init::account::Account;
use guest_init::command;
use guest_init::module_tree::ModuleTree;
use guest_init::protocol::{MODULES, Mark, Plan, Status, Text};
use guest_init::session::Session;
use guest_init::{clock, environment, host, loopback, modules, mounts, power, root, unit};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// Flags of what the kernel has been through.
const TAINTED: &str = "/proc/sys/kernel/tainted";

/// Where the session is mounted for a moment.
const SESSION: &str = "/session";

fn main() -> ExitCode {
    if !rustix::process::getpid().is_init() {
        if std::env::current_exe().is_ok_and(|path| path == Path::new(unit::PROGRAM)) {
            return run_as_unit();
        }
        eprintln!("guest-init: this is the first process of a guest of vmm, not a command");
        return ExitCode::from(125);
    }
    mounts::mount_basics();
    match prepare() {
        Ok(session) => run(&Arc::new(session)),
        Err(error) => {
            eprintln!("guest-init: {}", chain(&*error));
            power::off(false)
        }
    }
}

/// Everything before the session can carry a message.
fn prepare() -> Result<Session, Box<dyn Error>> {
    modules::load(&Path::new("/").join(MODULES))?;
    let session = Session::attach(Path::new(SESSION))?;
    clock::follow(&session);
    session.mark(Mark::InitStarted);
    Ok(session)
}

/// Runs what the plan asks for, reports how it ended and ends the machine.
fn run(session: &Arc<Session>) -> ! {
    let status = match set_up(&session.plan) {
        Err(error) => Status::SetupFailed {
            message: chain(&*error),
        },
        Ok(()) => match &session.plan.init {
            Some(init) => hand_over(init.as_os_str(), &session.plan),
            None => run_command(session),
        },
    };
    leave_shares();
    session.pass_on_taint(Path::new(TAINTED));
    if let Err(error) = session.report(&status) {
        eprintln!("guest-init: cannot report {status:?}: {error}");
    }
    power::off(session.plan.power_off)
}

/// Brings everything that was written to the host. Done before the report: who
/// reads of a success finds the files complete.
fn leave_shares() {
    // A share that is somebody's working directory cannot be unmounted.
    let _ = std::env::set_current_dir("/");
    rustix::fs::sync();
    mounts::unmount_shares();
}

/// Prepares the guest for its command.
fn set_up(plan: &Plan) -> Result<(), Box<dyn Error>> {
    let _ = rustix::system::sethostname(plan.hostname.as_bytes());
    let _ = loopback::switch_on();
    let modules = plan.modules.as_ref().map(ModuleTree::prepare);
    if let Some(plan) = &plan.root {
        root::change(plan)?;
    }
    if let Some(user) = plan.root.as_ref().and_then(|root| root.host.as_ref())
        && let Err(error) = host::make_up(
            user,
            plan.user.as_ref().map(Text::as_os_str),
            &plan.hostname,
        )
    {
        eprintln!("guest-init: {}", chain(&error));
    }
    let asked = plan.modules.as_ref().is_some_and(|modules| modules.asked);
    let root = plan.root.as_ref();
    match modules.map(|modules| modules?.attach(root)) {
        Some(Err(error)) if asked => return Err(error.into()),
        Some(Err(error)) => eprintln!("guest-init: {}: the guest has no modules", chain(&error)),
        Some(Ok(())) | None => {}
    }
    if let Some(init) = &plan.init {
        if !plan.command.is_empty() {
            unit::install(Path::new(init.as_os_str()), plan.power_off)?;
        }
        mounts::leave_cgroups();
    }
    for share in &plan.shares {
        mounts::mount_share(share)?;
    }
    if plan.init.is_none() {
        enter_working_directory(plan)?;
    }
    Ok(())
}

fn enter_working_directory(plan: &Plan) -> Result<(), Box<dyn Error>> {
    if let Some(directory) = &plan.working_directory {
        let directory = Path::new(directory.as_os_str());
        std::env::set_current_dir(directory).map_err(|error| {
            format!(
                "cannot enter the working directory {}: {error}",
                directory.display()
            )
        })?;
    }
    Ok(())
}

/// Runs the command to its end.
fn run_command(session: &Arc<Session>) -> Status {
    let shutting_down = watch_for_shutdown(session);
    session.mark(Mark::CommandStarted);
    let running = match command::start(session) {
        Ok(running) => running,
        Err(status) => return status,
    };
    running.pass_signals(session);
    let status = running.wait();
    while shutting_down.load(Ordering::Acquire) {
        // The shutdown killed the command; that is not how it ended.
        std::thread::park();
    }
    // What the command left in the background ends with it, as it would not
    // survive the machine anyhow. Then nobody can write any more, and the
    // output is complete.
    if power::kill_everything() {
        running.deliver_output();
    }
    session.mark(Mark::CommandEnded);
    status
}

/// Ends the machine when a process asks PID 1 for it, as `poweroff` and
/// `reboot` of busybox do. The flag returned says that this is under way.
fn watch_for_shutdown(session: &Arc<Session>) -> Arc<AtomicBool> {
    let shutting_down = Arc::new(AtomicBool::new(false));
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGUSR2]) else {
        return shutting_down;
    };
    let session = Arc::clone(session);
    let flag = Arc::clone(&shutting_down);
    std::thread::spawn(move || {
        if signals.forever().next().is_none() {
            return;
        }
        flag.store(true, Ordering::Release);
        power::kill_everything();
        leave_shares();
        session.pass_on_taint(Path::new(TAINTED));
        if session.plan.interactive {
            let _ = session.report(&Status::Exited { code: 0 });
        }
        power::off(session.plan.power_off)
    });
    shutting_down
}

/// Makes this process the init of the root file system. Returns when that
/// fails.
fn hand_over(init: &OsStr, plan: &Plan) -> Status {
    let mut command = Command::new(init);
    command.env_clear();
    if let Ok(root) = Account::find(Path::new("/etc"), None) {
        command.envs(root.environment());
    }
    let error = command
        .envs(environment::variables(&plan.environment))
        .exec();
    Status::SetupFailed {
        message: format!(
            "cannot execute {} of the root file system: {error}",
            init.display()
        ),
    }
}

/// The command as a service of the root's init, which has started this program for it.
fn run_as_unit() -> ExitCode {
    let session = match Session::attach(Path::new(unit::SESSION)) {
        Ok(session) => Arc::new(session),
        Err(error) => {
            eprintln!("vmm: {}", chain(&error));
            return ExitCode::from(125);
        }
    };
    let plan = &session.plan;
    // What the command leaves in the background comes to this process.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let status = match enter_working_directory(plan) {
        Ok(()) => run_unit_command(&session),
        Err(error) => Status::SetupFailed {
            message: chain(&*error),
        },
    };
    let _ = std::env::set_current_dir("/");
    rustix::fs::sync();
    session.pass_on_taint(Path::new(TAINTED));
    if let Err(error) = session.report(&status) {
        eprintln!("vmm: cannot report {status:?}: {error}");
    }
    unit::end(plan.power_off)
}

fn run_unit_command(session: &Arc<Session>) -> Status {
    session.mark(Mark::CommandStarted);
    let running = match command::start(session) {
        Ok(running) => running,
        Err(status) => return status,
    };
    running.pass_signals(session);
    let status = running.wait();
    if power::kill_descendants() {
        running.deliver_output();
    }
    session.mark(Mark::CommandEnded);
    status
}

/// An error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
