//! Whether threads can be confined here.

use anyhow::{Result, anyhow};
use vmm_sandbox::{Mode, Role, Sandbox};

/// Confines a thread as far as the host has it, and says so. A kernel that does not come to
/// an end with that does not let this program end either, not even by SIGKILL.
fn main() -> Result<()> {
    let sandbox = Sandbox::plan(Mode::Best)?;
    sandbox.begin()?;
    let entered = std::thread::spawn(move || sandbox.enter(Role::Vcpu)).join();
    entered.map_err(|_| anyhow!("the thread panicked"))??;
    println!("confined");
    Ok(())
}
