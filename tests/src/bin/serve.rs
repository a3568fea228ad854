//! The `serve` command: a share of `vmm run` on this host's own kernel.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use tests::native::apart::{self, Apart, ServerUser};
use tests::native::connection::Connection;
use tests::native::inject::Injection;
use tests::native::mount;
use tests::native::share::NativeShare;
use vmm_sandbox::{Mode, Sandbox};

/// The status when it is not COMMAND's.
const FAILED: u8 = 125;

/// Mounts DIR at MOUNTPOINT through the FUSE server of vmm, and runs COMMAND
///
/// The mount is seen by COMMAND alone, whose MOUNTPOINT variable names it, and
/// is gone when COMMAND is. Needs root, or `unshare --map-root-user` and a
/// /dev/fuse that the user may open.
///
/// Exits with COMMAND's status, 128+n for a signal, 126 and 127 when it cannot
/// be executed or found, and 125 with a message when something else failed.
/// VMM_LOG=debug tells more.
#[derive(Debug, Parser)]
#[command(name = "serve", version)]
struct Cli {
    /// The directory to share
    directory: PathBuf,

    /// Where to mount it, and the options of `vmm run --share`, but tag=, at= and queue-size=;
    /// queues= is a number of threads
    #[arg(value_name = "MOUNTPOINT[,OPTION[=VALUE]]...")]
    place: OsString,

    /// Let system calls of the server fail: CALL[+CALL]...:ACTION[@WHEN][,...][,seed=N]
    ///
    /// CALL is a system call or a class of them: %read, %write, %open, %sync, %size, %stat, %attr,
    /// %xattr, %name, %descriptor, %user, %all. ACTION is an error (ENOSPC), short or short=BYTES
    /// (the call transfers the half, or at most so many) or delay=20ms. WHEN is @3 (the third such
    /// call), @3+, @3..5 or @1/20 (one in twenty, by chance); all of them without it. The first
    /// rule that applies counts. How often each did is told on standard error.
    #[arg(long, value_name = "RULES")]
    inject: Option<Injection>,

    /// Confine what serves, as vmm run does. Without --inject: calls that are made to fail are
    /// those of threads like the first
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Mode::Off)]
    sandbox: Mode,

    /// Serve in another process that is this user's, with these groups beside their own;
    /// COMMAND stays root's
    #[arg(long, value_name = "UID:GID[:GROUP]...", conflicts_with = "inject")]
    server_user: Option<ServerUser>,

    /// Be that process: standard input is the device
    #[arg(long, hide = true, requires = "server_user")]
    serve_standard_input: bool,

    /// What to run
    #[arg(last = true, required_unless_present = "serve_standard_input")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("VMM_LOG", "warn")).init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { FAILED } else { 0 });
        }
    };
    match run(&cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("serve: error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(cli: &Cli) -> Result<u8> {
    // As `vmm run` does: EFBIG for who writes too much.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    raise_descriptor_limit();
    let share = NativeShare::parse(&cli.directory, &cli.place)?;
    match &cli.server_user {
        Some(user) if cli.serve_standard_input => {
            apart::serve(user, &share, cli.sandbox)?;
            return Ok(0);
        }
        Some(user) => return run_apart(cli, user, &share),
        None => {}
    }
    let device = Arc::new(mount::open_device()?);
    mount::go_private()?;
    // Before the mount, which may cover the directory.
    if cli.inject.is_some() && cli.sandbox != Mode::Off {
        bail!("--inject is for threads without a sandbox: leave --sandbox out");
    }
    let sandbox = Sandbox::plan(cli.sandbox)?;
    let mut open = share.open(&sandbox)?;
    let mounted = mount::mount(&device, &share.at)?;
    let server = Arc::clone(&open.server);
    let threads = open.threads()?;
    let serve = || Connection::serve(Arc::clone(&device), server, share.queues, threads);
    let (connection, failures) = match cli.inject.clone() {
        None => (serve()?, None),
        Some(injection) => {
            let (connection, failures) = injection.around(&device, serve)?;
            (connection, Some(failures))
        }
    };
    let status = run_command(cli, &share)?;
    mounted.unmount()?;
    connection.finish()?;
    if let Some(failures) = failures {
        eprintln!("serve: {}", failures.finish()?);
    }
    open.ensure_nothing_refused()?;
    Ok(status)
}

/// The same with a server that is another process.
fn run_apart(cli: &Cli, user: &ServerUser, share: &NativeShare) -> Result<u8> {
    let device = mount::open_device()?;
    mount::go_private()?;
    let mounted = mount::mount(&device, &share.at)?;
    // Nobody but the server has the device any more, so nobody waits for one that ended.
    let server = Apart::start(user, (&cli.directory, &cli.place), cli.sandbox, device)?;
    let status = run_command(cli, share)?;
    mounted.unmount()?;
    server.finish()?;
    Ok(status)
}

/// Runs COMMAND to its end, and says its status.
fn run_command(cli: &Cli, share: &NativeShare) -> Result<u8> {
    let mut command = Command::new(&cli.command[0]);
    command.args(&cli.command[1..]).env("MOUNTPOINT", &share.at);
    Ok(match command.spawn() {
        Ok(child) => code(wait(child)?),
        Err(error) => {
            eprintln!("serve: error: {}: {error}", cli.command[0].display());
            match error.kind() {
                std::io::ErrorKind::NotFound => 127,
                _ => 126,
            }
        }
    })
}

/// As `vmm run` does, for the descriptors that a share keeps.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Waits for `child`, and hands on to it the signals that would end us.
fn wait(mut child: Child) -> Result<ExitStatus> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    let handle = signals.handle();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let relay = thread::spawn(move || {
        for signal in &mut signals {
            if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
                let _ = kill_process(pid, signal);
            }
        }
    });
    let status = child.wait().context("cannot wait for COMMAND");
    handle.close();
    let _ = relay.join();
    status
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 255, 1 to 64
fn code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, signal) => 128 + signal.unwrap_or_default() as u8,
    }
}
