//! The same random sequence of operations through our server, by system calls on a
//! directory of the host's, and through `virtiofsd`, must come to the same.
//!
//! Wants root, for several users.
#![allow(clippy::unwrap_used)]

mod actor;
mod callers;
mod client;
#[path = "../native/fcntl.rs"]
#[allow(dead_code)]
mod fcntl;
mod host;
mod known;
mod message;
mod operation;
mod ours;
mod outcome;
mod random;
mod run;
mod virtiofsd;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use devices::passthrough::{CachePolicy, Config};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use actor::Actor;
use client::Client;
use host::Host;
use operation::Step;
use ours::Ours;
use random::steps;
use run::{Run, picture};
use virtiofsd::Virtiofsd;

/// Of a share in a random form.
fn config() -> impl Strategy<Value = Config> {
    let cache = prop::sample::select(vec![
        CachePolicy::Auto,
        CachePolicy::Never,
        CachePolicy::Metadata,
        CachePolicy::Always,
    ]);
    let budget = prop::sample::select(vec![None, Some(32)]);
    (
        cache,
        budget,
        any::<bool>(),
        prop::sample::select(vec![0, 64]),
    )
        .prop_map(|(cache, fd_budget, file_handles, remembered)| Config {
            cache,
            fd_budget,
            file_handles,
            remembered,
            locks: true,
            ..Config::default()
        })
}

/// A directory like the others, for one of those who take part.
fn directory(top: &Path, name: &str) -> std::path::PathBuf {
    let path = top.join(name);
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// Against whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peers {
    Host,
    HostAndVirtiofsd,
}

/// Does `steps` below `base`.
fn compare(base: &Path, peers: Peers, config: Config, steps: &[Step]) -> Result<(), TestCaseError> {
    let top = tempfile::tempdir_in(base).unwrap();
    let in_memory = base == Path::new(IN_MEMORY);
    let plain = directory(top.path(), "plain");
    let mut shared = vec![directory(top.path(), "ours")];
    let server = Client::new(Ours::new(&shared[0], config), in_memory);
    let mut servers: Vec<Box<dyn Actor>> = vec![Box::new(server)];
    if peers == Peers::HostAndVirtiofsd {
        shared.push(directory(top.path(), "theirs"));
        let program = tests::conformance::suite::virtiofsd().unwrap();
        assert!(
            program.exists(),
            "no {}: conformance --install",
            program.display()
        );
        let server = Virtiofsd::new(&program, &shared[1], &top.path().join("socket"));
        servers.push(Box::new(Client::new(server, in_memory)));
    }
    let mut run = Run::new(Host::new(&plain, in_memory), servers);
    for step in steps {
        match peers {
            Peers::Host => run.step(step),
            Peers::HostAndVirtiofsd if virtiofsd::is_asked(step) => run.step(step),
            Peers::HostAndVirtiofsd => Ok(()),
        }
        .map_err(TestCaseError::fail)?;
    }
    let expected = picture(&plain);
    for directory in shared {
        let found = picture(&directory);
        prop_assert_eq!(&expected, &found, "{} is another tree", directory.display());
    }
    Ok(())
}

/// A file system in memory, where blocks are counted at once.
const IN_MEMORY: &str = "/dev/shm";

fn runner(cases: u32, seed: u64) -> TestRunner {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..ProptestConfig::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Held by the test that runs. A process that another one starts has for a moment
/// what is open here, and locks of what is closed meanwhile stay.
static TURN: Mutex<()> = Mutex::new(());

/// So many sequences from `seed` on. What fails is made as short as can be.
fn run(base: &Path, peers: Peers, cases: u32, seed: u64) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Modes are as they were asked for.
    rustix::process::umask(rustix::fs::Mode::empty());
    let strategy = (config(), steps(80));
    let outcome = runner(cases, seed).run(&strategy, |(config, steps)| {
        compare(base, peers, config, &steps)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, (config, steps))) => {
            let mut all = String::new();
            for Step { caller, op } in steps {
                all += &format!("    {caller:?} {op:?}\n");
            }
            panic!("seed {seed}: {reason}\n  after\n{all}  with {config:?}");
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_share_does_what_the_host_does() {
    run(Path::new(IN_MEMORY), Peers::Host, 300, 1);
}

#[test]
fn a_share_on_a_disk_does_what_the_host_does() {
    run(Path::new("/var/tmp"), Peers::Host, 60, 2);
}

#[test]
fn virtiofsd_does_it_too() {
    run(Path::new(IN_MEMORY), Peers::HostAndVirtiofsd, 150, 3);
}

/// With a new seed each time, for as many minutes as `MINUTES` says: an hour, if
/// nothing.
#[test]
#[ignore = "an hour: make conformance"]
fn for_an_hour() {
    let minutes = std::env::var("MINUTES").map_or(60, |minutes| minutes.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let begin = std::env::var("SEED").map_or_else(
        |_| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs()
        },
        |seed| seed.parse().unwrap(),
    );
    println!("from seed {begin} on");
    let mut seed = begin;
    while Instant::now() < end {
        run(Path::new(IN_MEMORY), Peers::Host, 200, seed);
        run(Path::new("/var/tmp"), Peers::Host, 100, seed);
        run(Path::new(IN_MEMORY), Peers::HostAndVirtiofsd, 50, seed);
        seed += 1;
    }
    println!("{} sequences", (seed - begin) * 350);
}
