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
//! | `kernel` | the kernel's file, recognized and read |
//! | `outcome` | how a run ended, the exit status, the report and the metrics |

mod console;
mod kernel;
mod machine;
mod options;
mod outcome;
mod prepare;
mod run;
mod session;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use console::terminal;
use outcome::output_file::OutputFile;
use outcome::report::{Report, Timings};
use outcome::{Outcome, line};
use prepare::Configuration;

fn main() -> ExitCode {
    let start = Instant::now();
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("VMM_LOG", "warn")).init();
    let arguments = match options::parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            return finish(&Outcome::VmmError(options::mistake(&error)));
        }
        Err(help) => {
            return printed(help.print());
        }
    };
    let report = arguments.report.clone();
    let dry_run = arguments.dry_run;
    let configuration = match Configuration::prepare(arguments) {
        Ok(configuration) => configuration,
        Err(error) => {
            let outcome = Outcome::VmmError(line::of_error(&error));
            // Whoever reads the report should find this failure in it, too.
            if let Some(file) = report.and_then(|path| OutputFile::check("--report", &path).ok()) {
                let timings = Timings::collect(start, None, None);
                let _ = file.write(&Report::new(&outcome, timings).json());
            }
            return finish(&outcome);
        }
    };
    if dry_run {
        return printed(io::stdout().write_all(&configuration.json()));
    }
    finish(&run::run(configuration, start))
}

/// Says what has to be said, and ends with the outcome's status.
fn finish(outcome: &Outcome) -> ExitCode {
    terminal::restore();
    if let Some(message) = outcome.message() {
        line::tell(&format!("vmm: error: {message}"));
    }
    ExitCode::from(outcome.code())
}

/// The end of a process that had nothing but text to print.
fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => finish(&Outcome::VmmError(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}
