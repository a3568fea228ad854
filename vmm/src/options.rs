//! The command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use regex::Regex;
use vmm_options::share::{self, ShareArgument};
use vmm_options::size::Size;

use crate::kconfig;
use crate::machine::debugger;
use crate::manual;
use crate::splats::FailOn;

const EXIT_STATUS: &str = "\
Exit status:
  COMMAND's own, or 128 + n when signal n ended it, or vmm
  0    without COMMAND: the guest powered off, restarted or halted
  124  the time was up (--timeout)
  125  vmm could not set up or run the machine, or write all output
  126  COMMAND cannot be executed
  127  COMMAND was not found
  130  ended by Ctrl-A x, by gdb's kill, or by SIGINT to vmm; 143 by SIGTERM
  254  COMMAND ended with 0, but the guest's kernel had a splat (--fail-on)
  255  the guest's kernel panicked or crashed, or the guest ended before COMMAND
  The outcome by name is in the JSON of --report.

Keys, when standard input and output are a terminal:
  Ctrl-A x       end the machine
  Ctrl-A Ctrl-A  type Ctrl-A";

/// A microVM for people who work on Linux kernels.
#[derive(Debug, Parser)]
#[command(
    name = "vmm",
    bin_name = "vmm",
    version,
    propagate_version = true,
    arg_required_else_help = false
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Task,
}

/// What `vmm` is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Boot a kernel with host directories shared, and run a command in it
    Run(Box<RunArguments>),
    /// Print the configuration that a guest's kernel needs
    Kconfig(kconfig::Arguments),
    /// Print a manual page
    Man(manual::PageArguments),
    /// Print completions for a shell
    Completions(manual::ShellArguments),
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct RunArguments {
    /// Kernel to boot: a bzImage or an ELF vmlinux, or a directory that has one: a
    /// build tree, an unpacked package, or what make kernel made (default: the
    /// current directory)
    #[arg(short = 'k', long, value_name = "PATH")]
    pub kernel: Option<PathBuf>,

    /// Share a host directory with the guest: DIR[,OPTION[=VALUE]]...
    #[arg(long = "share", value_name = "DIR[,OPTION]...", long_help = share::help(),
          value_parser = OsStringValueParser::new().try_map(|text| share::share(&text)))]
    pub shares: Vec<ShareArgument>,

    /// Boot the tree in DIR as the guest's root file system; options as for
    /// --share. Unless rw is given, the guest's changes go to an overlay in its
    /// memory, of at most half of it or overlay-size=, and the tree's own /tmp
    /// and /run are hidden below empty ones
    #[arg(long, value_name = "DIR[,OPTION]...", conflicts_with = "initramfs",
          value_parser = OsStringValueParser::new().try_map(|text| share::root(&text)))]
    pub root: Option<ShareArgument>,

    /// Boot with the host's own root, read-only below an overlay, and with the current
    /// directory, to be written to at its own path, which COMMAND runs in
    #[arg(long, conflicts_with_all = ["root", "initramfs", "init"])]
    pub host: bool,

    /// Let the /sbin/init of --root have the machine, or what init= of --cmdline
    /// names. COMMAND is one of its services then; without COMMAND the init is on
    /// the serial console
    #[arg(long, requires = "root")]
    pub init: bool,

    /// Run COMMAND as this user of the guest, in whose name the shell is, too
    /// (default: root; without NAME who runs vmm)
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub user: Option<OsString>,

    /// Boot this initramfs instead of the built-in one; its serial console is
    /// standard input and output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["command", "env", "cwd", "modules", "user"])]
    pub initramfs: Option<PathBuf>,

    /// Append to the kernel's command line (repeatable)
    #[arg(
        short = 'a',
        long,
        visible_alias = "append",
        value_name = "STRING",
        allow_hyphen_values = true
    )]
    pub cmdline: Vec<String>,

    /// Number of processors, 1 to 255
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1, allow_negative_numbers = true,
          value_parser = parse_cpus)]
    pub cpus: u8,

    /// Memory: a number of MiB, or one with K, M, G or T
    #[arg(short = 'm', long, value_name = "SIZE", default_value_t = Size::from_mebibytes(512),
          allow_negative_numbers = true)]
    pub memory: Size,

    /// End the machine after this time, with status 124: 500ms, 5m, 1h, or a
    /// number of seconds
    #[arg(long, value_name = "DURATION", value_parser = parse_limit,
          allow_negative_numbers = true)]
    pub timeout: Option<Duration>,

    /// How long COMMAND has to end by itself after a SIGHUP, SIGINT, SIGQUIT or
    /// SIGTERM to vmm, which is passed on to it and its children; a second
    /// signal ends the machine at once, and with 0 the first does (default:
    /// 10s)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub grace: Option<Duration>,

    /// Splats of the kernel that make a success a failure, with status 254
    #[arg(long, value_name = "WHICH", value_enum, default_value_t)]
    pub fail_on: FailOn,

    /// Expect splats with a match of this regular expression in their first
    /// line, the message of a WARN, or the function where it happened
    /// (repeatable)
    #[arg(long, value_name = "PATTERN", value_parser = parse_pattern)]
    pub allow_splat: Vec<Regex>,

    /// Write the kernel's console to FILE
    #[arg(long, value_name = "FILE")]
    pub console_log: Option<PathBuf>,

    /// Write counts and times of the run to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,

    /// Write how the run ended to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Write the run to FILE as a test suite, in JUnit's XML: COMMAND is a case, and
    /// each splat
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Let the guest wait for gdb before its first instruction: at a PORT of this
    /// host, at HOST:PORT, or at a socket's path with a /. The time that it stands
    /// still is none of --timeout's
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    pub gdb: Option<debugger::Address>,

    /// Kernel modules: /lib/modules/RELEASE, the directory it is in, or a build tree
    /// (default: those in the directory of --kernel, or else the host's for its
    /// release). But for the host's, they are in the guest's /lib/modules too
    #[arg(long, value_name = "DIR")]
    pub modules: Option<PathBuf>,

    /// Set a variable in COMMAND's environment, or pass the host's on
    /// (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,

    /// Run COMMAND in this directory of the guest
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,

    /// Confine the threads that serve the guest: system calls, files, capabilities
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub sandbox: vmm_sandbox::Mode,

    /// Show the kernel's console on standard error
    #[arg(short, long)]
    pub verbose: bool,

    /// Check everything but whether this host has KVM, print the configuration as JSON
    /// and start nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Command to run in the guest, with its arguments (default: the user's shell)
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Parses the command line of this process. Help and version are errors, too,
/// as clap has it.
pub(crate) fn parse() -> Result<Task, clap::Error> {
    Ok(Cli::try_parse()?.command)
}

/// The command line as clap has it, for what describes it.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

/// What is wrong with the command line, whose `first` argument is this, hints included,
/// on one line.
pub(crate) fn mistake(error: &clap::Error, first: Option<&OsStr>) -> String {
    let definition = definition();
    let task = (first.and_then(OsStr::to_str)).filter(|first| {
        let mut tasks = definition.get_subcommands();
        tasks.any(|task| task.get_name() == *first)
    });
    let message = on_one_line(&error.render().to_string());
    let message = match task {
        Some(task) => format!("{message} (vmm {task} --help has the options)"),
        None => format!("{message} (vmm --help has the commands)"),
    };
    let is_positional = task == Some(RUN)
        && error.kind() == ErrorKind::UnknownArgument
        && matches!(error.get(ContextKind::InvalidArg),
            Some(ContextValue::String(argument)) if !argument.starts_with('-'));
    if is_positional {
        format!("{message}: {POSITIONAL}")
    } else {
        message
    }
}

/// The task that most people want.
const RUN: &str = "run";

/// What a positional argument may have been meant for.
const POSITIONAL: &str = "the kernel goes after --kernel, COMMAND and its arguments after --";

/// clap's message, hints included, without the usage that follows.
fn on_one_line(message: &str) -> String {
    // After the dashes it would be COMMAND.
    let is_wrong = |line: &str| line.trim_start().starts_with("tip: to pass ");
    let one_line = |text: &str| {
        let lines = text.lines().filter(|line| !is_wrong(line));
        let words = lines.flat_map(str::split_whitespace);
        words.collect::<Vec<_>>().join(" ")
    };
    let sentences: Vec<String> = message
        .split("\n\n")
        .map(one_line)
        .take_while(|text| !text.starts_with("Usage:") && !text.starts_with("For more information"))
        .filter(|text| !text.is_empty())
        .collect();
    let message = sentences.join("; ");
    message
        .strip_prefix("error: ")
        .unwrap_or(&message)
        .to_owned()
}

/// The file that `option` names in a command line that may be wrong elsewhere.
pub(crate) fn value_of(
    option: &str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Option<PathBuf> {
    let mut arguments = arguments
        .into_iter()
        .take_while(|argument| argument != "--");
    let mut named = None;
    while let Some(argument) = arguments.next() {
        let rest = argument.as_bytes().strip_prefix(option.as_bytes());
        let attached = rest.and_then(|rest| rest.strip_prefix(b"="));
        let value = match attached {
            Some(value) => Some(OsStr::from_bytes(value).to_owned()),
            None if argument == option => arguments.next(),
            None => continue,
        };
        named = value.filter(|value| !value.as_bytes().starts_with(b"-"));
    }
    named.map(PathBuf::from)
}

fn parse_cpus(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a whole number from 1 to 255".to_owned()),
        Ok(cpus) => Ok(cpus),
    }
}

fn parse_pattern(text: &str) -> Result<Regex, String> {
    let pattern = Regex::new(text).map_err(|error| {
        // The pattern itself, and where in it the mistake is, take lines.
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason);
        format!("it is no regular expression: {reason}")
    })?;
    // What is found in nothing is found everywhere.
    if pattern.is_match("") {
        return Err(
            "every splat has a match of it: write what is expected, or use --fail-on never"
                .to_owned(),
        );
    }
    Ok(pattern)
}

/// A duration with its unit, or a number of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "write a number with its unit: 500ms, 30s, 5m or 1h".to_owned())?,
    };
    // Of the clock, and of the milliseconds that `--dry-run` shows.
    let counts = u64::try_from(duration.as_millis()).is_ok()
        && Instant::now().checked_add(duration).is_some();
    if !counts {
        return Err("that is longer than the clock can count".to_owned());
    }
    Ok(duration)
}

/// A duration in which a guest may do something.
fn parse_limit(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("a time limit of zero leaves no time to boot".to_owned()),
        limit => Ok(limit),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
