//! One suite in one guest: on a share for each mode.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::conformance::known;
use tests::conformance::mode::{Mode, Owners, User};
use tests::conformance::results::{SuiteResult, sentence};
use tests::conformance::run::{Outcome, Outcomes, outcomes};
use tests::fixtures::Fixtures;
use tests::kernels::Kernel;

use super::linux_of;
use crate::vm::{ORDINARY, Vm};

/// How much of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// As little as shows that it works.
    Tiny,
    /// What `make test` runs on native mounts.
    Short,
    /// Everything.
    Full,
}

impl Size {
    /// That of `suite` where time does not count.
    pub(super) fn of_all(suite: &str) -> Self {
        match suite {
            // Its short part is one case.
            "stress-ng" => Self::Full,
            _ => Self::Short,
        }
    }
}

/// What runs where.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) kernel: Kernel,
    pub(super) suite: &'static str,
    pub(super) modes: Vec<Mode>,
    /// Others than the host's are an ordinary user's, who runs `vmm` then.
    pub(super) owners: Owners,
    /// More of each share.
    pub(super) options: &'static str,
    pub(super) size: Size,
    /// Whether it runs on the guest's tmpfs as well.
    pub(super) with_control: bool,
}

/// Where each run's output ends, and the next one's begins; its status follows.
const END: &str = "=== end of a run: ";

const SCRIPT: &str = "
    set -eu
    export PATH=/mnt/suites/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    chmod 755 /tmp
    run() { # CACHE DIRECTORY
        mkdir /tmp/scratch
        # pjdfstest 0.2.2 cannot make a longest path below one of 31 bytes, which
        # its own directory in /mnt/t0 would have.
        mkdir -p $2/below && cd $2/below
        status=0
        CACHE=$1 SCRATCH=/tmp/scratch TMPDIR=/tmp/scratch sh /mnt/suites/suites/$SUITE 2>&1 ||
            status=$?
        cd /
        rm -rf /tmp/scratch $2/below
        echo; echo \"END$status\"
    }
";

impl Setting {
    /// The same with more options of each share.
    pub(super) fn with(self, options: &'static str) -> Self {
        Self { options, ..self }
    }

    /// Runs the suite, and says what is wrong.
    pub(super) fn run(&self, fixtures: &Fixtures) -> Result<Vec<String>> {
        ensure!(!self.modes.is_empty(), "no mode to run it in");
        let yes = |is: bool| if is { "yes" } else { "no" };
        let mut script = SCRIPT.replace("END", END);
        script += &format!(
            "export SUITE={} TINY={} SHORT={}\n",
            self.suite,
            yes(self.size == Size::Tiny),
            yes(self.size != Size::Full)
        );
        if self.with_control {
            script += "run '' /tmp/control\n";
        }
        let shares: Vec<TempDir> = (self.modes.iter())
            .map(|_| self.directory(fixtures))
            .collect::<Result<_>>()?;
        let mut root = fixtures.suites_system.clone().into_os_string();
        if self.by_user() {
            root.push(",owners=user");
        }
        let mut vm = Vm::booting(fixtures, self.kernel)?
            .option("--root", root)
            .option("--memory", "1G")
            .share(&fixtures.suites, "tag=suites,ro,cache=always")
            .patience(match self.size {
                Size::Tiny => Duration::from_secs(30),
                Size::Short | Size::Full => Duration::from_secs(120),
            });
        for (number, (mode, share)) in self.modes.iter().zip(&shares).enumerate() {
            let (owners, more) = (self.owners, self.options);
            let options = format!("tag=t{number},xattr,owners={owners},cache={mode}{more}");
            vm = vm.share(share.path(), &options);
            script += &format!("run {} /mnt/t{number}\n", mode.cache);
        }
        vm = vm.script(&script);
        if self.by_user() {
            vm = vm.by_ordinary_user()?;
        }
        let run = vm.run()?.expect_success()?;
        let text = run.text()?;
        let result = self.result(text).with_context(|| run.account())?;
        let mut wrong = wrong(&result);
        if !wrong.is_empty() {
            wrong.push(text.to_owned());
        }
        Ok(wrong)
    }

    fn by_user(&self) -> bool {
        self.owners != Owners::Host
    }

    /// One to share, on a disk where owners are kept in attributes.
    fn directory(&self, fixtures: &Fixtures) -> Result<TempDir> {
        let directory = match self.by_user() {
            true => tempfile::tempdir_in(&fixtures.disk)?,
            false => tempfile::tempdir()?,
        };
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755))?;
        if self.by_user() && rustix::process::geteuid().is_root() {
            chown(directory.path(), Some(ORDINARY.0), Some(ORDINARY.1))?;
        }
        Ok(directory)
    }

    /// What the guest's output says. Without a control every case that any share has is
    /// to pass.
    fn result(&self, text: &str) -> Result<SuiteResult> {
        let mut parts: Vec<Outcomes> = Vec::new();
        let mut rest = text;
        while let Some((part, after)) = rest.split_once(END) {
            let (status, next) = after.split_once('\n').unwrap_or((after, ""));
            ensure!(status == "0", "the suite ended with {status}: {part}");
            let outcomes = outcomes(part)?;
            ensure!(!outcomes.is_empty(), "the suite has no cases: {part}");
            parts.push(outcomes);
            rest = next;
        }
        let count = self.modes.len() + usize::from(self.with_control);
        ensure!(parts.len() == count, "{} of {count} runs", parts.len());
        let control = match self.with_control {
            true => parts.remove(0),
            false => (parts.iter().flat_map(Outcomes::keys))
                .map(|case| (case.clone(), Outcome::Pass))
                .collect(),
        };
        Ok(SuiteResult {
            suite: self.suite,
            backend: "a guest",
            user: User::Root,
            owners: self.owners,
            linux: linux_of(self.kernel),
            control,
            shares: self.modes.iter().copied().zip(parts).collect(),
        })
    }
}

/// The cases that differ from the control, and those that fail on both, as far as
/// nothing says why.
fn wrong(result: &SuiteResult) -> Vec<String> {
    let differ = result.unknown().into_iter();
    let differ = differ.map(|(mode, difference)| sentence(result, mode, &difference));
    let fail = result.shares.iter().flat_map(|(mode, share)| {
        let fail = |case: &String| {
            let outcomes = (result.control.get(case), share.get(case));
            outcomes == (Some(&Outcome::Fail), Some(&Outcome::Fail))
                && known::reason(result.linux, result.suite, case, *mode, Outcome::Fail).is_none()
        };
        let failed = share.keys().filter(move |case| fail(case));
        failed.map(move |case| format!("{case} fails with cache={mode}, and in memory"))
    });
    differ.chain(fail).collect()
}
