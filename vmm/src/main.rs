//! The `vmm` command: a machine, and what a user needs to run one.
//!
//! `machine` knows KVM and nothing of the user; everything else is the
//! user's half: the command line, what is checked before anything starts, and what
//! is said about a run afterwards. Crates of their own have the session, through which a
//! command in the guest has the user's streams, and what is read out of the kernel's file.
//!
//! | module | what it is |
//! | --- | --- |
//! | `options` | the command line |
//! | `prepare` | the arguments, checked and completed; the initramfs |
//! | `run` | a run from start to end |
//! | `console` | the user's terminal and keys, the guest's console |
//! | `splats` | what a kernel reports of its own bugs |
//! | `kconfig` | what a guest needs of its kernel, for who builds kernels |
//! | `manual` | the command line for `man` and for shells |
//! | `outcome` | how a run ended, the exit status, the report and the metrics |

mod console;
mod kconfig;
mod machine;
mod manual;
mod options;
mod outcome;
mod prepare;
mod run;
mod splats;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};

use options::{RunArguments, Task};
use outcome::junit::{self, Subject};
use outcome::refusal::{Documents, refused};
use outcome::{line, report};
use prepare::Configuration;

fn main() -> ExitCode {
    let start = Instant::now();
    survive_the_file_size_limit();
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("VMM_LOG", "warn")).init();
    match options::parse() {
        Ok(Task::Run(arguments)) => run(*arguments, start),
        Ok(Task::Kconfig(arguments)) => kconfig(&arguments),
        Ok(Task::Man(arguments)) => printed(
            manual::page(&arguments, options::definition())
                .and_then(|page| io::stdout().write_all(&page)),
        ),
        Ok(Task::Completions(arguments)) => {
            let text = manual::completions(&arguments, options::definition());
            printed(io::stdout().write_all(&text))
        }
        Err(error) if error.use_stderr() => {
            // Not to be taken for a file that a mistake has made a report.
            let named = |option| options::value_of(option, std::env::args_os().skip(1));
            let documents = Documents {
                report: named("--report").filter(|path| report::may_replace(path)),
                junit: named("--junit").filter(|path| junit::may_replace(path)),
                subject: Subject::default(),
            };
            let first = std::env::args_os().nth(1);
            let message = options::mistake(&error, first.as_deref());
            refused(message, &documents, start)
        }
        Err(help) => printed(help.print()),
    }
}

fn run(arguments: RunArguments, start: Instant) -> ExitCode {
    raise_descriptor_limit();
    make_room_for_descriptors();
    let documents = Documents {
        report: arguments.report.clone(),
        junit: arguments.junit.clone(),
        subject: Subject::of(&arguments.command, None),
    };
    let dry_run = arguments.dry_run;
    let configuration = match Configuration::prepare(arguments) {
        Ok(configuration) => configuration,
        Err(error) => {
            let is_unsafe = matches!(error, prepare::Error::SameFile(_));
            let documents = if is_unsafe {
                Documents::default()
            } else {
                documents
            };
            return refused(line::of_error(&error), &documents, start);
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
        Err(error) => refused_without_documents(line::of_error(&error)),
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

/// How many descriptors there is room for from the start: 128 KiB of the host's kernel.
const DESCRIPTORS: u64 = 16 * 1024;

/// Has the table of descriptors as large as it is going to be, for most runs. Where a
/// process has threads, each of the times that it doubles is a wait for all processors
/// to have come by (RCU), of some ten milliseconds, for the request that needs the
/// descriptor.
fn make_room_for_descriptors() {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS);
    let last = i32::try_from(DESCRIPTORS.min(limit).saturating_sub(1)).unwrap_or_default();
    // A host that gives no descriptor says so where one is needed.
    if let Ok(fd) = eventfd(0, EventfdFlags::CLOEXEC) {
        let _ = rustix::io::fcntl_dupfd_cloexec(&fd, last);
    }
}

fn refused_without_documents(message: String) -> ExitCode {
    refused(message, &Documents::default(), Instant::now())
}

/// The end of a process that had nothing but text to print.
fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let message = format!("cannot write to standard output: {error}");
            refused_without_documents(message)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_descriptors_need_not_grow() {
        raise_descriptor_limit();
        make_room_for_descriptors();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let expected = DESCRIPTORS.min(limit.current.unwrap_or(DESCRIPTORS));
        assert!(size.unwrap().trim().parse::<u64>().unwrap() >= expected);
    }
}
