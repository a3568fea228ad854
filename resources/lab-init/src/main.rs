//! The first process of the lab.
//!
//! The lab is the emulated machine that the host's `lab` command starts where
//! `/dev/kvm` cannot run Linux guests. This program is its whole userland: it
//! reads the plan from the initramfs, loads the modules that make `/dev/kvm`
//! and the drives appear, mounts and unpacks what the host sent, runs one command with
//! its streams connected to the host's, hands back what changed, and stops.

mod collection;
mod command;
mod delivery;
mod disk;
mod drive;
mod mounts;
mod ports;
mod relay;
mod tar;

use std::fs::File;
use std::process::ExitCode;
use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};
use lab_init::{FromLab, HEARTBEAT_SECONDS, Module, PLAN_PATH, Plan};
use rustix::system::{RebootCommand, finit_module, reboot};

use crate::collection::Collector;
use crate::ports::Ports;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == command::ON_TERMINAL)
    {
        return command::execute_on_terminal(arguments);
    }
    if let Err(error) = serve() {
        // On the console; the host prints its tail when nothing else came.
        eprintln!("lab: {error:#}");
    }
    stop()
}

/// Ends the lab. QEMU ends with it.
fn stop() -> ! {
    rustix::fs::sync();
    // Only returns when it failed, and then there is no better way to go than
    // the panic that follows the end of the first process.
    let _ = reboot(RebootCommand::PowerOff);
    std::process::exit(1)
}

fn serve() -> Result<()> {
    mounts::mount_kernel_file_systems("")?;
    let plan = fs::read(PLAN_PATH).context("cannot read the plan")?;
    let plan: Plan = serde_json::from_slice(&plan).context("cannot understand the plan")?;
    // A guest's memory is taken when it is used; the lab promises it all, as a
    // host with more memory would.
    fs::write("/proc/sys/vm/overcommit_memory", "1").context("cannot set overcommit_memory")?;
    for module in &plan.modules {
        load(module)?;
    }
    let ports = Ports::open()?;
    ports.say(&FromLab::Ready)?;
    ports.listen();
    let control = ports.control();
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(HEARTBEAT_SECONDS));
            if control.say(&FromLab::Alive).is_err() {
                break;
            }
        }
    });
    let outcome = follow(&plan, &ports);
    if let Err(error) = &outcome {
        ports.say(&FromLab::Failed(format!("{error:#}")))?;
        // The host stops the machine once it has read this.
        thread::sleep(Duration::from_secs(5));
    }
    outcome
}

fn follow(plan: &Plan, ports: &Ports) -> Result<()> {
    mounts::enter_new_root(plan.root_percent)?;
    disk::mount_all(&plan.disks)?;
    delivery::unpack_all(&plan.deliveries)?;
    for directory in plan.directories.iter().chain([&plan.cwd]) {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let collectors = plan
        .collections
        .iter()
        .map(Collector::new)
        .collect::<Result<Vec<_>>>()?;
    ports.say(&FromLab::Started)?;
    let ending = command::run(plan, ports)?;
    ports.say(&FromLab::Ended(ending))?;
    if !collectors.is_empty() {
        let mut drive = drive::open_for_writing(lab_init::DRIVE_OUT)?;
        for (index, collector) in collectors.iter().enumerate() {
            let collected = collector.collect(&mut drive)?;
            ports.say(&FromLab::Collected(index, collected))?;
        }
        drive
            .sync_all()
            .context("cannot write to the drive that takes files out")?;
    }
    ports.say(&FromLab::Finished)?;
    // The host stops the machine once it has read this.
    thread::sleep(Duration::from_secs(5));
    Ok(())
}

fn load(module: &Module) -> Result<()> {
    let file = File::open(&module.path).with_context(|| format!("cannot open {}", module.path))?;
    let parameters = std::ffi::CString::new(module.parameters.as_str())?;
    match finit_module(file, &parameters, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot load {}", module.path)),
    }
}
