//! The plan: what the guest's init has to do.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use guest_init::protocol::{HostUser, MAX_PLAN, Plan, RootPlan, SharePlan, Text};

use super::shares::{self, Share};
use super::{Boot, host_root};
use crate::console::terminal;
use crate::machine::boot::command_line;
use crate::options::RunArguments;
use vmm_kernel::Kernel;
use vmm_options::size::Size;

/// The search path for COMMAND.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What the guest calls itself.
const HOSTNAME: &str = "vmm";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("--env {}: there is no such variable to pass on; write NAME=VALUE", .0.display())]
    Environment(OsString),
    #[error("--cwd {} is not an absolute path in the guest, such as /mnt/dir", .0.display())]
    WorkingDirectory(PathBuf),
    #[error(
        "COMMAND and its environment take {size} bytes, and {MAX_PLAN} fit: put what is long \
         into a file on a share"
    )]
    TooLong { size: usize },
    #[error(transparent)]
    Overlay(#[from] shares::Error),
    #[error(transparent)]
    HostRoot(#[from] host_root::Error),
}

/// What the guest's init has to do.
pub(super) fn plan(
    arguments: &RunArguments,
    boot: Boot,
    shares: &[Share],
    kernel: &Kernel,
    host: Option<&HostUser>,
) -> Result<Plan, Error> {
    let interactive = boot == Boot::Command && arguments.command.is_empty();
    let on_terminal = boot.has_command() && terminal::is_interactive();
    if let Some(directory) = &arguments.cwd
        && !directory.is_absolute()
    {
        return Err(Error::WorkingDirectory(directory.clone()));
    }
    let rooted = usize::from(arguments.root.is_some());
    let overlay_size = shares::overlay_size(arguments.root.as_ref(), arguments.memory)?;
    let mut mounts: Vec<SharePlan> = shares
        .iter()
        .skip(rooted)
        .filter_map(|share| {
            Some(SharePlan {
                tag: share.tag.clone(),
                at: Text::from(share.at.as_ref()?),
                read_only: share.service.server.read_only,
            })
        })
        .collect();
    // A mount hides what was mounted below its place before.
    mounts.sort_by_key(|share| Path::new(share.at.as_os_str()).components().count());
    let path = match host {
        Some(_) => host_root::search_path(SEARCH_PATH),
        None => SEARCH_PATH.into(),
    };
    let user = arguments.user.as_ref().map(host_root::name).transpose()?;
    let plan = Plan {
        command: arguments.command.iter().map(Text::from).collect(),
        // Known by who decides on the boot.
        init: None,
        user: user.map(Text::from),
        environment: environment(path, &arguments.env, on_terminal)?,
        working_directory: arguments.cwd.as_ref().map(Text::from),
        hostname: HOSTNAME.to_owned(),
        root: shares.iter().take(rooted).next().map(|root| RootPlan {
            tag: root.tag.clone(),
            read_only: root.service.server.read_only,
            overlay_bytes: overlay_size.map(Size::bytes),
            host: host.cloned(),
        }),
        modules: None,
        shares: mounts,
        terminal: on_terminal
            .then(terminal::size)
            .flatten()
            .or_else(|| on_terminal.then(Default::default)),
        interactive,
        power_off: command_line::has_acpi(kernel.discovery(), &arguments.cmdline.join(" ")),
    };
    check_length(&plan)?;
    Ok(plan)
}

fn check_length(plan: &Plan) -> Result<(), Error> {
    // Strings, numbers and lists of them: nothing that can fail.
    match serde_json::to_vec(plan).unwrap_or_default().len() {
        0..=MAX_PLAN => Ok(()),
        size => Err(Error::TooLong { size }),
    }
}

/// COMMAND's environment: what every program expects and does not come of who runs it,
/// then what the user says.
fn environment(path: OsString, user: &[OsString], on_terminal: bool) -> Result<Vec<Text>, Error> {
    let mut search = OsString::from("PATH=");
    search.push(path);
    let mut variables: Vec<Text> = vec![search.into()];
    if on_terminal {
        let mut term = OsString::from("TERM=");
        term.push(std::env::var_os("TERM").unwrap_or_else(|| "linux".into()));
        variables.push(term.into());
    }
    for variable in user {
        let bytes = variable.as_bytes();
        match bytes.iter().position(|byte| *byte == b'=') {
            Some(0) => return Err(Error::Environment(variable.clone())),
            Some(_) => variables.push(variable.into()),
            None => {
                let value = std::env::var_os(variable)
                    .filter(|_| !bytes.is_empty())
                    .ok_or_else(|| Error::Environment(variable.clone()))?;
                let mut both = variable.clone();
                both.push("=");
                both.push(value);
                variables.push(both.into());
            }
        }
    }
    Ok(variables)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_users_variables_come_last_and_win() {
        let variables = environment(SEARCH_PATH.into(), &["HOME=/tmp".into()], false).unwrap();
        assert_eq!(variables.last(), Some(&"HOME=/tmp".into()));
    }

    #[test]
    fn a_name_alone_passes_the_hosts_variable_on() {
        let path = std::env::var("PATH").unwrap();
        let variables = environment(SEARCH_PATH.into(), &["PATH".into()], false).unwrap();
        assert_eq!(variables.last(), Some(&format!("PATH={path}").into()));
    }

    #[test]
    fn a_plan_that_is_too_long_is_refused() {
        let mut plan = Plan {
            command: vec!["true".into()],
            environment: Vec::new(),
            working_directory: None,
            hostname: HOSTNAME.into(),
            init: None,
            user: None,
            root: None,
            modules: None,
            shares: Vec::new(),
            terminal: None,
            interactive: false,
            power_off: true,
        };
        check_length(&plan).unwrap();
        plan.command.push("x".repeat(MAX_PLAN).into());
        let error = check_length(&plan).unwrap_err().to_string();
        assert!(error.contains(&format!("{MAX_PLAN} fit")), "{error}");
    }

    #[test]
    fn a_variable_without_a_name_or_a_value_is_refused() {
        for text in ["=x", "", "VMM_NO_SUCH_VARIABLE"] {
            assert!(
                environment(SEARCH_PATH.into(), &[text.into()], false).is_err(),
                "{text:?}"
            );
        }
    }
}
