//! Which calls, what happens to them, and when.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;

use super::calls;

/// `CALL[+CALL]...:ACTION[@WHEN]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    text: String,
    calls: Vec<u32>,
    action: Action,
    when: When,
    /// The state of the generator for [`When::Random`].
    random: u64,
    seen: u64,
    injected: u64,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It fails, and nothing is done.
    Fail(Errno),
    /// It transfers at most so many bytes, at least one and not all; `None` is
    /// the half.
    Short(Option<u64>),
    /// It is made after this time.
    Delay(Duration),
    /// It is made once it is [released](super::Running::release).
    Hold,
}

/// Which of the calls, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Between(u64, u64),
    /// One in so many, by chance.
    Random(u64),
}

impl FromStr for Rule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (names, rest) = text
            .split_once(':')
            .with_context(|| format!("'{text}' is not CALL:ACTION[@WHEN]"))?;
        let (action, when) = rest.split_once('@').unwrap_or((rest, "1+"));
        let action = parse_action(action)?;
        let mut numbers = Vec::new();
        for name in names.split('+') {
            let calls = calls::named(name);
            ensure!(
                !calls.is_empty(),
                "'{name}' is none of the calls that can fail, and no class of them"
            );
            for call in calls {
                let transfers = matches!(call.class, "read" | "write");
                ensure!(
                    transfers || !matches!(action, Action::Short(_)),
                    "{} transfers no data and cannot be short",
                    call.name
                );
                numbers.push(call.number);
            }
        }
        Ok(Self {
            text: text.to_owned(),
            calls: numbers,
            action,
            when: parse_when(when)?,
            random: 0,
            seen: 0,
            injected: 0,
        })
    }
}

fn parse_action(text: &str) -> Result<Action> {
    if let Some(errno) = calls::error(text) {
        return Ok(Action::Fail(errno));
    }
    Ok(match text.split_once('=').unwrap_or((text, "")) {
        ("short", "") => Action::Short(None),
        ("short", bytes) => {
            let bytes = bytes.parse().ok().filter(|bytes| *bytes > 0);
            Action::Short(Some(bytes.context("short= is a number of bytes")?))
        }
        ("delay", time) => {
            let time = humantime::parse_duration(time);
            Action::Delay(time.context("delay= is a time, such as 20ms")?)
        }
        _ => bail!("'{text}' is no error that is known here, and none of short, short=N, delay=T"),
    })
}

fn parse_when(text: &str) -> Result<When> {
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.with_context(|| format!("'@{text}' is none of @N, @N+, @N..M and @1/N"))
    };
    if let Some(chance) = text.strip_prefix("1/") {
        return Ok(When::Random(number(chance)?));
    }
    if let Some(first) = text.strip_suffix('+') {
        return Ok(When::Between(number(first)?, u64::MAX));
    }
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    Ok(When::Between(number(first)?, number(last)?))
}

impl Rule {
    /// Holds each call of this name, which only who calls this can release.
    pub(super) fn holding(name: &str) -> Result<Self> {
        let rule: Self = format!("{name}:delay=0s").parse()?;
        Ok(Self {
            text: format!("{name}:hold"),
            action: Action::Hold,
            ..rule
        })
    }

    /// The numbers of the calls it is about.
    pub fn calls(&self) -> impl Iterator<Item = u32> + '_ {
        self.calls.iter().copied()
    }

    /// Sets what chance is made of.
    pub(super) fn seed(&mut self, seed: u64) {
        self.random = seed;
    }

    /// Whether the rule applies to a call of `number` now; counts it.
    pub fn apply(&mut self, number: u32) -> Option<Action> {
        if !self.calls.contains(&number) {
            return None;
        }
        self.seen += 1;
        let applies = match self.when {
            When::Between(first, last) => (first..=last).contains(&self.seen),
            When::Random(chance) => self.draw().is_multiple_of(chance),
        };
        applies.then_some(self.action)
    }

    /// Counts that what was said was done.
    pub(super) fn done(&mut self) {
        self.injected += 1;
    }

    /// How many calls it applied to, and how many it saw.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.injected, self.seen)
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn applied(text: &str, seed: u64) -> Vec<u64> {
        let mut rule: Rule = text.parse().unwrap();
        rule.seed(seed);
        let number = rule.calls().next().unwrap();
        assert_eq!(rule.apply(u32::MAX), None);
        (1..=100).filter(|_| rule.apply(number).is_some()).collect()
    }

    #[test]
    fn a_rule_says_when() {
        assert_eq!(applied("fsync:EIO@3", 0), [3]);
        assert_eq!(applied("fsync:EIO@98+", 0), [98, 99, 100]);
        assert_eq!(applied("fsync:EIO@2..3", 0), [2, 3]);
        assert_eq!(applied("fsync:EIO", 0).len(), 100);
        let one = applied("fsync:EIO@1/10", 1);
        assert!((2..30).contains(&one.len()), "{one:?}");
        assert_eq!(one, applied("fsync:EIO@1/10", 1));
        assert_ne!(one, applied("fsync:EIO@1/10", 2));
    }

    #[test]
    fn a_rule_says_what() {
        let rule: Rule = "pwritev+%sync:ENOSPC".parse().unwrap();
        assert_eq!(rule.calls().count(), 5);
        assert_eq!(rule.action, Action::Fail(Errno::NOSPC));
        let short: Rule = "%write:short=10@1/2".parse().unwrap();
        assert_eq!(short.action, Action::Short(Some(10)));
        for wrong in [
            "fsync",
            "fsync:EWHAT",
            "nocall:EIO",
            "fsync:short",
            "write:short=0",
            "fsync:EIO@0",
            "fsync:EIO@x",
            "fsync:delay=soon",
        ] {
            assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
        }
    }
}
