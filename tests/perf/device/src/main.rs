//! Sends requests to the virtio-fs device over registers, guest memory and
//! virtqueues, as Linux's driver does, without a machine around it.
//!
//! It measures nothing: `perf` has it run under valgrind's callgrind, which counts
//! what the threads of the device do. What those counted themselves, it prints.

mod driver;
mod message;
mod operations;
mod registers;
mod ring;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;

use self::driver::Driver;
use self::operations::OPERATIONS;

/// Sends requests to the virtio-fs device without a machine around it
#[derive(Debug, Parser)]
#[command(name = "device-bench", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the operations: a name, a tab, what it is
    List,
    /// Do an operation, and print what the device counted, as JSON
    Run {
        /// One of the list
        operation: String,
        /// How often
        rounds: u64,
        /// An empty directory to share
        share: PathBuf,
    },
}

/// What the device counted in all.
#[derive(Debug, Serialize)]
struct Counted {
    requests: u64,
    kicks: u64,
    wakeups: u64,
    interrupts: u64,
    detached: u64,
}

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device-bench: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn run(self) -> Result<()> {
        let (name, rounds, share) = match self.what {
            What::List => {
                for operation in &OPERATIONS {
                    println!("{}\t{}", operation.name, operation.about);
                }
                return Ok(());
            }
            What::Run {
                operation,
                rounds,
                share,
            } => (operation, rounds, share),
        };
        let operation = OPERATIONS.iter().find(|known| known.name == name);
        let operation = operation.with_context(|| format!("no operation {name}: see list"))?;
        operations::prepare(&share).with_context(|| format!("cannot fill {}", share.display()))?;
        let mut driver = Driver::new(&share)?;
        operation.run(&mut driver, rounds)?;
        let counts = driver.counts();
        anyhow::ensure!(counts.malformed == 0, "the device refused requests");
        let counted = Counted {
            requests: counts.requests,
            kicks: counts.kicks,
            wakeups: counts.wakeups,
            interrupts: counts.interrupts,
            detached: counts.detached,
        };
        println!("{}", serde_json::to_string(&counted)?);
        // While the device's threads wait: what they do to end is no part of a round.
        std::process::exit(0);
    }
}
