//! The `lab` command: runs things on a host that cannot boot Linux guests as
//! if it could.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ::tests::lab::{FAILED, Order, Timing, vmm_run};
use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use lab_init::TOOLS_PATH;

/// Runs a command in an emulated machine with working KVM
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy files in, run a command with this process's streams, bring changes back
    ///
    /// Exits with the command's status, 128+n for a signal, 126 and 127 when it cannot be
    /// executed or found, and 125 with a message when the lab itself failed.
    Exec(Box<Exec>),
    /// Run `vmm run` with these arguments in the lab: same output, same status
    ///
    /// The `vmm` beside this program, or the one VMM names, is used.
    #[command(disable_help_flag = true)]
    Run {
        /// The arguments of `vmm run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct Exec {
    /// Copy a file or directory in, to the same absolute path or another one
    #[arg(long = "in", value_name = "HOSTPATH[:LABPATH]")]
    inputs: Vec<OsString>,
    /// Put a directory in on an ext4 disk of its own, as --in does from 256 MiB on
    #[arg(long = "drive", value_name = "HOSTDIR[:LABDIR]")]
    drives: Vec<OsString>,
    /// Copy a program of the host in, with the libraries it needs
    #[arg(long = "program", value_name = "PATH")]
    programs: Vec<PathBuf>,
    /// Bring changes below a path back to the host; it goes in, too, if it exists
    #[arg(long = "out", value_name = "PATH")]
    outputs: Vec<PathBuf>,
    /// Set a variable of the command's environment
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Working directory in the lab
    #[arg(long, value_name = "DIR", default_value = "/")]
    cwd: PathBuf,
    #[command(flatten)]
    machine: MachineOptions,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    argv: Vec<OsString>,
}

#[derive(Debug, Args)]
struct MachineOptions {
    /// Memory of the lab in MiB, by default what the files and a small guest need
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Processors of the lab
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u8,
    /// One processor whose clock jumps ahead when it has nothing to do: the same in every run
    #[arg(long)]
    deterministic: bool,
    /// Give up after this time, with status 125; "none" waits for ever
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = timeout)]
    timeout: std::option::Option<Duration>,
    /// Print the lab's console at the end
    #[arg(long)]
    verbose: bool,
    /// Debian package of the lab's kernel
    #[arg(
        long,
        value_name = "PACKAGE",
        default_value = "linux-image-6.12-cloud-amd64"
    )]
    kernel_package: String,
    /// Append to the command line of the lab's kernel
    #[arg(long, value_name = "STRING", default_value = "")]
    append: String,
    /// Append an argument to QEMU's command line
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    qemu_arg: Vec<OsString>,
}

fn main() -> ExitCode {
    match Cli::parse_from(whole(std::env::args_os())).command.run() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("lab: error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// The arguments with one `--` more where they are those of `vmm run`: clap takes the
/// first for itself, also where it comes before COMMAND.
fn whole(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    if arguments.get(1).is_some_and(|command| command == "run") {
        arguments.insert(2, "--".into());
    }
    arguments
}

impl Command {
    fn run(self) -> Result<u8> {
        match self {
            Self::Exec(exec) => exec.order()?.run(),
            Self::Run { arguments } => vmm_run::order(vmm()?, &arguments)?.run(),
        }
    }
}

/// The `vmm` to run.
fn vmm() -> Result<PathBuf> {
    let path = match std::env::var_os("VMM") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name("vmm"),
    };
    let path = std::path::absolute(path)?;
    if !path.is_file() {
        bail!(
            "{} is not there; build it with cargo build, or name one in VMM",
            path.display()
        );
    }
    Ok(path)
}

impl Exec {
    fn order(self) -> Result<Order> {
        let mut order = self.machine.order(self.argv);
        for (name, value) in [("PATH", "/sbin:/bin:/usr/sbin:/usr/bin"), ("HOME", "/root")] {
            order.env.push((name.into(), value.into()));
        }
        if let Some(terminal) = std::env::var_os("TERM") {
            order.env.push(("TERM".into(), terminal));
        }
        for variable in &self.env {
            let (name, value) = variable
                .split_once('=')
                .with_context(|| format!("--env {variable}: no ="))?;
            order.env.push((name.into(), value.into()));
        }
        order.cwd = self.cwd;
        for input in &self.inputs {
            order.inputs.push(input_paths(input)?);
        }
        for drive in &self.drives {
            let (host, lab) = input_paths(drive)?;
            if !host.is_dir() {
                bail!("--drive {}: not a directory", drive.display());
            }
            if Path::new(TOOLS_PATH).starts_with(&lab) {
                bail!(
                    "--drive {}: a mount at {} would hide the lab's own tools; \
                     add :LABDIR with another directory",
                    drive.display(),
                    lab.display()
                );
            }
            order.disks.push((host, lab));
        }
        for output in &self.outputs {
            let path = std::path::absolute(output)?;
            if path.exists() {
                order.inputs.push((path.clone(), path.clone()));
            }
            order.outputs.push((path.clone(), path));
        }
        order.programs = self.programs;
        Ok(order)
    }
}

impl MachineOptions {
    fn order(self, argv: Vec<OsString>) -> Order {
        let mut order = Order::new(argv);
        order.memory_mib = self.memory;
        order.cpus = self.cpus;
        order.timing = if self.deterministic {
            Timing::Deterministic
        } else {
            Timing::Live
        };
        order.timeout = self.timeout;
        order.verbose = self.verbose;
        order.package = self.kernel_package;
        order.cmdline = self.append;
        order.qemu_arguments = self.qemu_arg;
        order
    }
}

/// A path of the host that exists is taken as it is, even with a colon in it.
fn input_paths(argument: &OsString) -> Result<(PathBuf, PathBuf)> {
    let whole = Path::new(argument);
    if !whole.exists()
        && let Some((host, lab)) = argument.to_str().and_then(|text| text.rsplit_once(':'))
    {
        return Ok((std::path::absolute(host)?, PathBuf::from(lab)));
    }
    let path = std::path::absolute(whole).context("--in needs a path")?;
    Ok((path.clone(), path))
}

fn timeout(text: &str) -> Result<Option<Duration>, humantime::DurationError> {
    if text == "none" {
        Ok(None)
    } else {
        humantime::parse_duration(text).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_vmm_run_are_passed_on_as_they_are() {
        for line in [
            &["--", "uname", "-r"][..],
            &["-k", "x", "--", "sh", "--", "-c"],
            &["--help"],
            &[],
        ] {
            let all = ["lab", "run"].iter().chain(line).map(OsString::from);
            let parsed = Cli::try_parse_from(whole(all)).map(|cli| cli.command);
            assert!(
                matches!(&parsed, Ok(Command::Run { arguments }) if arguments == line),
                "{line:?}: {parsed:?}"
            );
        }
        let exec = ["lab", "exec", "--", "true"].iter().map(OsString::from);
        let parsed = Cli::try_parse_from(whole(exec)).map(|cli| cli.command);
        assert!(matches!(parsed, Ok(Command::Exec(_))), "{parsed:?}");
    }
}
