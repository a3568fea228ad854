//! The `vmm` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    vmm::cli::main()
}
