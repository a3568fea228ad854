//! GNU tar, which keeps everything that makes up a tree: nanoseconds, owners,
//! extended attributes and ACLs, hard links, holes, device nodes.

use std::process::Command;

use lab_init::TOOLS_PATH;

/// The host's tar with the libraries it came with.
pub(crate) fn command() -> Command {
    let mut command = Command::new(format!("{TOOLS_PATH}/loader"));
    command.args([
        "--library-path",
        &format!("{TOOLS_PATH}/lib"),
        &format!("{TOOLS_PATH}/tar"),
    ]);
    command.args([
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
    ]);
    command
}
