//! The `vmm` command: a machine, and what a user needs to run one.
//!
//! `machine` knows KVM and nothing of the user; everything else is the
//! user's half: the command line, what is checked before anything starts, the
//! session through which a command in the guest has the user's streams, and
//! what is said about a run afterwards.
//!
//! | module | what it is |
//! | --- | --- |
//! | `options` | the command line |
//! | `prepare` | the arguments, checked and completed; the initramfs |
//! | `run` | a run from start to end |
//! | `console` | the user's terminal and keys, the guest's console |
//! | `session` | the command's streams and status, as a file system |
//! | `splats` | what a kernel reports of its own bugs |
//! | `kernel` | the kernel's file, recognized and read; what a guest needs of it |
//! | `kconfig` | the same for who builds kernels |
//! | `outcome` | how a run ended, the exit status, the report and the metrics |

mod console;
mod kconfig;
mod kernel;
mod machine;
mod options;
mod outcome;
mod prepare;
mod run;
mod session;
mod splats;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};

use options::{RunArguments, Task};
use outcome::output_file::OutputFile;
use outcome::report::{self, Report, Timings};
use outcome::{Outcome, line};
use prepare::Configuration;

fn main() -> ExitCode {
    let start = Instant::now();
    survive_the_file_size_limit();
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("VMM_LOG", "warn")).init();
    match options::parse() {
        Ok(Task::Run(arguments)) => run(*arguments, start),
        Ok(Task::Kconfig(arguments)) => kconfig(&arguments),
        Err(error) if error.use_stderr() => {
            // Not to be taken for a file that a mistake has made a report.
            let report = options::report_of(std::env::args_os().skip(1))
                .filter(|path| report::may_replace(path));
            refused(options::mistake(&error), report.as_deref(), start)
        }
        Err(help) => printed(help.print()),
    }
}

fn run(arguments: RunArguments, start: Instant) -> ExitCode {
    raise_descriptor_limit();
    let report = arguments.report.clone();
    let dry_run = arguments.dry_run;
    let configuration = match Configuration::prepare(arguments) {
        Ok(configuration) => configuration,
        Err(error) => {
            let report = report.filter(|_| !matches!(error, prepare::Error::SameFile(_)));
            return refused(line::of_error(&error), report.as_deref(), start);
        }
    };
    if dry_run {
        return printed(io::stdout().write_all(&configuration.json()));
    }
    ExitCode::from(run::run(configuration, start).code())
}

fn kconfig(arguments: &kconfig::Arguments) -> ExitCode {
    match kconfig::answer(arguments) {
        Ok(answer) => {
            let code = printed(io::stdout().write_all(answer.text.as_bytes()));
            if code == ExitCode::SUCCESS && !answer.complete {
                return ExitCode::FAILURE;
            }
            code
        }
        Err(error) => refused(line::of_error(&error), None, Instant::now()),
    }
}

/// Lets a write beyond `RLIMIT_FSIZE` fail with `EFBIG` instead of ending the
/// process with SIGXFSZ: it is to be told, to the guest where the guest
/// writes. Blocked, for this thread and those it starts.
fn survive_the_file_size_limit() {
    // Cannot fail: the signal exists and may be blocked.
    let _ = SigSet::from(Signal::SIGXFSZ).thread_block();
}

/// A share needs descriptors by the thousand; the soft limit is 1024 for the
/// sake of programs that use select(2).
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// The end of a process that starts nothing. Whoever reads the report should
/// find the reason in it, too.
fn refused(message: String, report: Option<&Path>, start: Instant) -> ExitCode {
    let outcome = Outcome::VmmError(message);
    outcome.tell();
    // Where it cannot be, that may be the message, and is the second mistake.
    if let Some(Ok(file)) = report.map(|path| OutputFile::check("--report", path)) {
        let timings = Timings::collect(start, None, None);
        if let Err(error) = file.write(&Report::new(&outcome, timings).json()) {
            Outcome::VmmError(line::of_error(&error)).tell();
        }
    }
    ExitCode::from(outcome.code())
}

/// The end of a process that had nothing but text to print.
fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let message = format!("cannot write to standard output: {error}");
            refused(message, None, Instant::now())
        }
    }
}
