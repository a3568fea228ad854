//! Locks that the host sees, with the programs that take them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::fcntl::{OWN_READ, OWN_UNLOCK, OWN_WAIT, OWN_WRITE, READ, WRITE, find, lock};
use crate::fixture::{Place, on_share, text};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const EXCLUSIVE: FlockOperation = FlockOperation::NonBlockingLockExclusive;

fn open(path: &Path) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    file.unwrap()
}

/// The file as a process of the host has it, while the test is on the mount.
fn on_host(mount: &Path) -> File {
    open(&mount.with_file_name("shared").join("file"))
}

/// A shell on a share that says a line when it is ready, and goes on when it is
/// told a line.
struct Shell(Child);

impl Shell {
    fn start(place: &Place, script: &str) -> Self {
        let script = format!("cd \"$MOUNTPOINT\"\n{script}");
        let mut child = (place.serve("locks"))
            .args(["sh", "-euc", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn go_on(mut self) {
        writeln!(self.0.stdin.take().unwrap()).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ask() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn ranges_are_locked_on_the_host() {
    on_share(
        "locks",
        |mount| {
            let guest = open(&mount.join("file"));
            let host = on_host(mount);
            lock(&guest, WRITE, 10, 10).unwrap();
            assert_eq!(lock(&host, OWN_READ, 19, 1), Err(Errno::AGAIN));
            lock(&host, OWN_WRITE, 20, 0).unwrap();
            assert_eq!(lock(&guest, READ, 0, 0), Err(Errno::AGAIN));
            // Nobody knows the process of the host.
            assert_eq!(find(&guest, 0, 0), Some((20, 0, 0)));
            lock(&guest, READ, 10, 5).unwrap();
            lock(&host, OWN_READ, 10, 5).unwrap();
            assert_eq!(lock(&host, OWN_READ, 15, 1), Err(Errno::AGAIN));
            // A close of any descriptor ends what the process has.
            drop(File::open(mount.join("file")).unwrap());
            lock(&host, OWN_WRITE, 0, 0).unwrap();
        },
        |_| {},
    );
}

#[test]
fn locks_of_an_open_file_go_with_it() {
    on_share(
        "locks",
        |mount| {
            let path = mount.join("file");
            let (one, two) = (open(&path), open(&path));
            let host = on_host(mount);
            lock(&one, OWN_WRITE, 0, 10).unwrap();
            assert_eq!(lock(&two, OWN_READ, 5, 1), Err(Errno::AGAIN));
            lock(&one, OWN_READ, 0, 5).unwrap();
            lock(&two, OWN_READ, 0, 5).unwrap();
            drop(File::open(&path).unwrap());
            assert_eq!(lock(&host, OWN_WRITE, 0, 5), Err(Errno::AGAIN));
            assert_eq!(lock(&host, OWN_READ, 9, 1), Err(Errno::AGAIN));
            drop(one);
            // Its RELEASE is waited for by nobody.
            until("the release", || lock(&host, OWN_READ, 9, 1).is_ok());
            assert_eq!(lock(&host, OWN_WRITE, 0, 5), Err(Errno::AGAIN));
            lock(&two, OWN_UNLOCK, 0, 0).unwrap();
            lock(&host, OWN_WRITE, 0, 5).unwrap();
        },
        |_| {},
    );
}

#[test]
fn who_waits_gets_it_from_the_guest_and_from_the_host() {
    on_share(
        "locks",
        |mount| {
            let path = mount.join("file");
            let (one, two) = (open(&path), open(&path));
            let host = on_host(mount);
            lock(&one, OWN_WRITE, 0, 1).unwrap();
            lock(&host, OWN_WRITE, 1, 1).unwrap();
            thread::scope(|scope| {
                let waits = scope.spawn(|| lock(&two, OWN_WAIT, 0, 2));
                // The share goes on meanwhile.
                for number in 0..100 {
                    fs::write(mount.join("other"), number.to_string()).unwrap();
                }
                assert!(!waits.is_finished());
                lock(&one, OWN_UNLOCK, 0, 1).unwrap();
                assert_eq!(lock(&one, OWN_READ, 1, 1), Err(Errno::AGAIN));
                lock(&host, OWN_UNLOCK, 1, 1).unwrap();
                assert_eq!(waits.join().unwrap(), Ok(()));
            });
            assert_eq!(lock(&host, OWN_READ, 0, 1), Err(Errno::AGAIN));
        },
        |_| {},
    );
}

#[test]
fn a_deadlock_is_told() {
    on_share(
        "locks",
        |mount| {
            let path = mount.join("file");
            let (one, two) = (open(&path), open(&path));
            lock(&one, OWN_WRITE, 0, 1).unwrap();
            lock(&two, OWN_WRITE, 1, 1).unwrap();
            thread::scope(|scope| {
                let first = scope.spawn(|| {
                    let outcome = lock(&one, OWN_WAIT, 1, 1);
                    lock(&one, OWN_UNLOCK, 0, 0).unwrap();
                    outcome
                });
                let second = lock(&two, OWN_WAIT, 0, 1);
                lock(&two, OWN_UNLOCK, 0, 0).unwrap();
                let both = [first.join().unwrap(), second];
                assert!(both.contains(&Err(Errno::DEADLK)), "{both:?}");
                assert!(both.contains(&Ok(())), "{both:?}");
            });
        },
        |_| {},
    );
}

#[test]
fn flock_is_seen_on_both_sides_and_in_other_guests() {
    let (one, two) = (Place::new(), Place::new());
    let two = two.of(&one);
    let path = one.directory().join("file");
    let host = open(&path);
    let holds = Shell::start(&one, "exec 9>file; flock 9; echo ready; read line");
    assert_eq!(flock(&host, EXCLUSIVE), Err(Errno::AGAIN));
    let refused = two.shell("locks", "flock -n -E 77 file true");
    assert_eq!(refused.status.code(), Some(77), "{}", text(&refused));
    // Without the option it is the guest's own.
    let alone = two.shell("", "flock -n file true");
    assert!(alone.status.success(), "{}", text(&alone));
    holds.go_on();
    flock(&host, EXCLUSIVE).unwrap();
    let refused = two.shell("locks", "flock -n -E 77 file true");
    assert_eq!(refused.status.code(), Some(77), "{}", text(&refused));
    flock(&host, FlockOperation::Unlock).unwrap();
    let script = "flock -n file true; flock -ns file flock -ns file true; \
                  if flock -ns file flock -n file true; then exit 9; fi";
    let conversions = two.shell("locks", script);
    assert!(conversions.status.success(), "{}", text(&conversions));
}

#[test]
fn a_hundred_wait_and_the_unlock_comes_through() {
    let place = Place::new();
    let script = "exec 9>file; flock 9
        for number in $(seq 100); do flock file sh -c 'echo x >>log' & done
        sleep 1; test ! -e log; echo y >other; cat other
        flock -u 9; exec 9>&-; wait; wc -l <log";
    let output = place.shell("locks,queues=1", script);
    assert_eq!(output.stdout, b"y\n100\n", "{}", text(&output));
}

#[test]
fn a_server_that_is_killed_leaves_no_lock() {
    let place = Place::new();
    let host = open(&place.directory().join("file"));
    let script = "exec 9<>file; flock 9; echo ready; read line";
    let mut holds = Shell::start(&place, script);
    assert_eq!(flock(&host, EXCLUSIVE), Err(Errno::AGAIN));
    holds.0.kill().unwrap();
    holds.0.wait().unwrap();
    until("the end of the lock", || flock(&host, EXCLUSIVE).is_ok());
    drop(holds.0.stdin.take());
}

/// Databases that three write to at the same time. What one of them has in its
/// page cache the others cannot take from it, so there is to be none.
#[test]
fn three_write_to_one_database() {
    let (one, two) = (Place::new(), Place::new());
    let two = two.of(&one);
    let directory = one.directory();
    let sqlite = |sql: &str| {
        let mut run = Command::new("sqlite3");
        let run = run.args(["database", sql]).current_dir(&directory).output();
        let run = run.expect("sqlite3 is not installed");
        assert!(run.status.success(), "{}", text(&run));
        run.stdout
    };
    sqlite("create table numbers (who text, number integer);");
    let script = |who: &str| {
        format!(
            "for number in $(seq 20); do sqlite3 -cmd '.timeout 60000' database \
             \"insert into numbers values ('{who}', $number)\"; done"
        )
    };
    thread::scope(|scope| {
        let write = |place, who| {
            let script = script(who);
            move || {
                let run = Place::shell(place, "locks,cache=never", &script);
                assert!(run.status.success(), "{}", text(&run));
            }
        };
        scope.spawn(write(&one, "one"));
        scope.spawn(write(&two, "two"));
        let own = Command::new("sh")
            .args(["-euc", &script("host")])
            .current_dir(&directory)
            .output();
        let own = own.unwrap();
        assert!(own.status.success(), "{}", text(&own));
    });
    assert_eq!(
        sqlite("pragma integrity_check; select count(*) from numbers;"),
        b"ok\n60\n"
    );
}
