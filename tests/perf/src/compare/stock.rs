//! The kernel without the series, for what it cannot do.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::plan::Stock;
use super::results::StockLoad;

/// How long a module is waited for, in the lab's time. Loading 4 MiB takes less
/// than one second of it.
const PATIENCE_SECONDS: u64 = 60;
/// The status of `vmm run` when that time is up.
const TIMED_OUT: i32 = 124;

/// Loads each module in a guest of its own, over direct I/O.
///
/// # Errors
///
/// When a guest ends in another way than with a loaded module or not at all.
pub fn loads(vmm: &Path, stock: &Stock) -> Result<Vec<StockLoad>> {
    stock
        .modules
        .iter()
        .map(|module| load(vmm, &stock.kernel, module))
        .collect()
}

fn load(vmm: &Path, kernel: &Path, module: &Path) -> Result<StockLoad> {
    let bytes = fs::metadata(module)
        .with_context(|| module.display().to_string())?
        .len();
    let share = tempfile::tempdir()?;
    fs::copy(module, share.path().join("module.ko"))?;
    let log = share.path().join("console");
    let mut value = std::ffi::OsString::from("tag=stock,cache=never,ro,path=");
    value.push(share.path());
    let output = Command::new(vmm)
        .args(["run", "--timeout", &format!("{PATIENCE_SECONDS}s")])
        .arg("--kernel")
        .arg(kernel)
        .arg("--console-log")
        .arg(&log)
        .arg("--share")
        .arg(value)
        .args(["--", "sh", "-c"])
        .arg("echo before; insmod /mnt/stock/module.ko && echo loaded")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", vmm.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let hung = match (output.status.code(), text.as_ref()) {
        (Some(0), "before\nloaded\n") => false,
        (Some(TIMED_OUT), "before\n") => true,
        _ => bail!(
            "a module of {bytes} bytes: {} and {text:?}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    };
    let console = fs::read(&log).with_context(|| log.display().to_string())?;
    let load = StockLoad {
        bytes,
        hung_after_seconds: hung.then_some(PATIENCE_SECONDS),
        warned: String::from_utf8_lossy(&console).contains("WARNING: CPU:"),
    };
    eprintln!("compare: without the series: {load:?}");
    Ok(load)
}
