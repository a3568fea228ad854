//! Failures of the host, for the threads that serve a share.
//!
//! The server makes its system calls without the C library, so nothing that
//! is preloaded sees them. A seccomp filter on the serving threads hands the
//! chosen calls to a thread of this process instead, which lets them go on,
//! answers with an errno, or makes them itself with less to transfer.
//!
//! | module | what |
//! | --- | --- |
//! | [`rule`] | which calls, what happens to them, and when |
//! | [`calls`] | names of system calls and errors |
//! | `filter` | the filter that stops a call |
//! | `supervisor` | the thread that decides about it |
//!
//! The calls are made with the rights of the process, and not of the thread,
//! where they are cut short: such a write does not clear set-ID bits.

pub mod calls;
mod filter;
pub mod rule;
mod supervisor;

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::str::FromStr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};

use self::rule::Rule;
use self::supervisor::Held;

/// What is to fail, as `CALL:ACTION[@WHEN][,...][,seed=N]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    rules: Vec<Rule>,
}

impl FromStr for Injection {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut rules = Vec::new();
        let mut seed = 0;
        for part in text.split(',') {
            if let Some(number) = part.strip_prefix("seed=") {
                seed = number.parse().context("seed= is a number")?;
            } else {
                rules.push(part.parse::<Rule>()?);
            }
        }
        ensure!(!rules.is_empty(), "name a call that is to fail");
        for (index, rule) in (0_u64..).zip(&mut rules) {
            rule.seed(seed ^ index << 32);
        }
        Ok(Self { rules })
    }
}

/// Failures that are under way.
#[derive(Debug)]
pub struct Running {
    held: Arc<Held>,
    supervisor: JoinHandle<Result<Vec<Rule>>>,
}

impl Injection {
    /// No failure, but that calls of this name wait to be
    /// [released](Running::release).
    ///
    /// # Errors
    ///
    /// When there is no such call.
    pub fn holding(call: &str) -> Result<Self> {
        let rules = vec![Rule::holding(call)?];
        Ok(Self { rules })
    }

    /// Calls `start` on a thread whose calls, and those of the threads and processes
    /// it starts, fail as the rules say. Calls on `device` and on the standard
    /// streams never do.
    ///
    /// # Errors
    ///
    /// What `start` says, or that the host has no such filters.
    pub fn around<T: Send>(
        self,
        device: impl AsFd,
        start: impl FnOnce() -> Result<T> + Send,
    ) -> Result<(T, Running)> {
        let calls: Vec<u32> = self.rules.iter().flat_map(Rule::calls).collect();
        let device = device.as_fd().as_raw_fd();
        thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let starter = scope.spawn(move || {
                sender.send(filter::install(&calls, device))?;
                // Only once somebody listens.
                start()
            });
            let listener = receiver.recv()??;
            let held = Arc::new(Held::new(listener.try_clone()?));
            let holds = Arc::clone(&held);
            let supervisor = thread::Builder::new()
                .name("inject".to_owned())
                .spawn(move || supervisor::run(&listener, self.rules, &holds))?;
            let started = starter.join();
            let started = started.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((started?, Running { held, supervisor }))
        })
    }
}

impl Running {
    /// How many calls are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.count()
    }

    /// Lets those go on that are held, and all that come.
    ///
    /// # Errors
    ///
    /// When the host cannot be told.
    pub fn release(&self) -> Result<()> {
        self.held.release()
    }

    /// Waits for the last of the threads to end, and says what was done to
    /// them.
    ///
    /// # Errors
    ///
    /// When calls could not be watched.
    pub fn finish(self) -> Result<Report> {
        let rules = self.supervisor.join();
        let rules = rules.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(Report { rules: rules? })
    }
}

/// How often each rule applied.
#[derive(Debug)]
pub struct Report {
    rules: Vec<Rule>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.rules.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            let (injected, seen) = rule.counts();
            write!(f, "{separator}{rule}: {injected} of {seen} calls")?;
        }
        Ok(())
    }
}
