//! Runs commands on the host with a session made of plain files.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::protocol::{self, Plan, WindowSize};

struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new(command: &[&str], input: &str, terminal: Option<WindowSize>) -> Self {
        let host = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let plan = Plan {
            command: command.iter().map(Text::from).collect(),
            environment: vec![
                format!("PATH={}", std::env::var("PATH").unwrap()).into(),
                "GREETING=hello world".into(),
            ],
            working_directory: None,
            hostname: "vm".into(),
            init: None,
            user: None,
            root: None,
            modules: None,
            shares: Vec::new(),
            terminal,
            interactive: false,
            power_off: true,
        };
        host.write(protocol::PLAN, &serde_json::to_vec(&plan).unwrap());
        host.write(protocol::STDIN, input.as_bytes());
        for name in [
            protocol::STDOUT,
            protocol::STDERR,
            protocol::WINDOW_SIZE,
            protocol::SIGNAL,
            protocol::CLOCK,
            protocol::STATUS,
            protocol::MARK,
            protocol::TAINTED,
        ] {
            host.write(name, b"");
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8(fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Runs the command as the init does, except that it waits for the one
    /// process only: other tests have children too.
    fn run(&self) -> Result<Status, Status> {
        let session = Arc::new(Session::open(self.directory.path()).unwrap());
        let running = start(&session)?;
        let waited = rustix::process::waitpid(Some(running.pid()), WaitOptions::empty());
        running.deliver_output();
        Ok(ended(waited.unwrap().unwrap().1))
    }
}

#[test]
fn the_streams_of_a_command_stay_apart() {
    let host = Host::new(&["sh", "-c", "cat; echo oops >&2; exit 3"], "input\n", None);
    assert_eq!(host.run(), Ok(Status::Exited { code: 3 }));
    assert_eq!(host.read(protocol::STDOUT), "input\n");
    assert_eq!(host.read(protocol::STDERR), "oops\n");
}

#[test]
fn arguments_and_environment_arrive_exactly() {
    let command = [
        "sh",
        "-c",
        r#"printf '%s|' "$@" "$GREETING""#,
        "sh",
        "a b",
        "",
        "*",
        "\"'",
    ];
    let host = Host::new(&command, "", None);
    assert_eq!(host.run(), Ok(Status::Exited { code: 0 }));
    assert_eq!(host.read(protocol::STDOUT), "a b||*|\"'|hello world|");
}

#[test]
fn a_signal_is_reported_with_its_number() {
    let host = Host::new(&["sh", "-c", "kill -9 $$"], "", None);
    assert_eq!(host.run(), Ok(Status::Signaled { signal: 9 }));
}

#[test]
fn a_signal_of_the_host_reaches_the_command_and_its_children() {
    let script = "trap 'echo trapped; exit 3' TERM; echo ready; sleep 1000";
    let host = Host::new(&["sh", "-c", script], "", None);
    host.write(protocol::SIGNAL, b"15");
    let session = Arc::new(Session::open(host.directory.path()).unwrap());
    let running = start(&session).unwrap();
    while host.read(protocol::STDOUT) != "ready\n" {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    running.pass_signals(&session);
    let waited = rustix::process::waitpid(Some(running.pid()), WaitOptions::empty());
    running.deliver_output();
    let status = ended(waited.unwrap().unwrap().1);
    assert_eq!(status, Status::Exited { code: 3 });
    assert_eq!(host.read(protocol::STDOUT), "ready\ntrapped\n");
}

#[test]
fn a_command_that_is_not_there_is_not_found() {
    let host = Host::new(&["no-such-command-here"], "", None);
    let message = "command not found: no-such-command-here".into();
    assert_eq!(host.run(), Err(Status::NotFound { message }));
}

#[test]
fn a_line_for_a_shell_is_no_command() {
    let host = Host::new(&["uname -r | cat"], "", None);
    let Err(Status::NotFound { message }) = host.run() else {
        panic!("it was found");
    };
    assert!(
        message.ends_with("is written sh -c 'uname -r | cat'"),
        "{message}"
    );
    let host = Host::new(&["no such", "command"], "", None);
    let message = "command not found: no such".into();
    assert_eq!(host.run(), Err(Status::NotFound { message }));
}

#[test]
fn a_file_without_execute_permission_cannot_be_executed() {
    let host = Host::new(&["/etc/passwd"], "", None);
    assert!(matches!(host.run(), Err(Status::CannotExecute { .. })));
}

#[test]
fn a_script_whose_interpreter_is_missing_cannot_be_executed() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();

    let host = Host::new(&[script.to_str().unwrap()], "", None);
    let Err(Status::CannotExecute { message }) = host.run() else {
        panic!("the script cannot have run");
    };
    assert!(message.contains("interpreter"), "{message}");
}

#[test]
fn a_command_on_a_terminal_sees_a_terminal_of_the_right_size() {
    let size = WindowSize {
        rows: 7,
        columns: 70,
    };
    let host = Host::new(
        &["sh", "-c", "stty size; test -t 0 -a -t 1 -a -t 2"],
        "",
        Some(size),
    );
    assert_eq!(host.run(), Ok(Status::Exited { code: 0 }));
    assert_eq!(host.read(protocol::STDOUT), "7 70\r\n");
}

#[test]
fn output_to_a_host_that_is_gone_ends_the_command_by_sigpipe() {
    let host = Host::new(&["yes"], "", None);
    // Writing to it fails with ENOSPC, as writing to a closed pipe does with
    // EPIPE.
    fs::remove_file(host.path(protocol::STDOUT)).unwrap();
    std::os::unix::fs::symlink(Path::new("/dev/full"), host.path(protocol::STDOUT)).unwrap();
    assert_eq!(host.run(), Ok(Status::Signaled { signal: 13 }));
}

#[test]
fn a_kernel_that_lacks_what_starting_takes_is_named() {
    let error = io::Error::from_raw_os_error(Errno::NOSYS.raw_os_error());
    let Status::CannotExecute { message } = not_started(OsStr::new("sh"), false, &error) else {
        panic!("another status");
    };
    assert!(message.contains("CONFIG_UNIX"), "{message}");
}
