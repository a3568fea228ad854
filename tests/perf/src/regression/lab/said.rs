//! What a lab says of the guests that it had.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::super::metric::Metric;
use super::super::record::{Latencies, Numbers};
use super::workload::{ALL, Kind, Workload};

/// What was said of one guest.
#[derive(Clone, Debug, Default)]
pub(super) struct Guest {
    /// Instructions of all rounds.
    took: Option<u64>,
    /// Instructions up to the guest's init.
    init: Option<u64>,
    /// Memory in KiB.
    resident: Option<u64>,
    /// What `vmm` counted. Nothing of another VMM.
    counts: Option<BTreeMap<Metric, u64>>,
    latencies: Latencies,
}

/// The guests, by the name of what they did.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    guests: BTreeMap<String, Guest>,
    last: Option<String>,
}

/// What of `--metrics` is counted.
#[derive(Debug, Deserialize)]
struct Metrics {
    timings_ms: BTreeMap<String, f64>,
    exits: BTreeMap<String, u64>,
    shares: BTreeMap<String, Share>,
}

#[derive(Debug, Deserialize)]
struct Share {
    operations: BTreeMap<String, Operation>,
    queues: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Debug, Deserialize)]
struct Operation {
    latency_us_log2: Vec<u64>,
}

impl Said {
    /// Takes in one line; the name of the guest that begins, if one does. Lines that a
    /// kernel wrote are left out.
    pub(super) fn hear(&mut self, line: &str) -> Result<Option<String>> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "begin" {
            self.last = Some(rest.to_owned());
            self.guests.insert(rest.to_owned(), Guest::default());
            return Ok(self.last.clone());
        }
        let last = self.last.as_ref();
        let Some(guest) = last.and_then(|name| self.guests.get_mut(name)) else {
            return Ok(None);
        };
        let number = || rest.parse().with_context(|| format!("no number: {line}"));
        match word {
            "took" => guest.took = Some(number()?),
            "init" => guest.init = Some(number()?),
            "resident" => guest.resident = Some(number()?),
            "metrics" => guest.count(rest)?,
            _ => {}
        }
        Ok(None)
    }

    /// The numbers of `works`, each for a round.
    pub(super) fn numbers(&self, works: &[Workload]) -> Result<BTreeMap<String, Numbers>> {
        let first = ALL.first().context("no workloads")?;
        let idle = self.guests.get(first.name);
        let mut numbers = BTreeMap::new();
        for work in works {
            let guest = self.guests.get(work.name);
            let guest = guest.with_context(|| format!("nothing was said of {}", work.name))?;
            let found = guest.numbers(work, idle);
            numbers.insert(
                work.name.to_owned(),
                found.with_context(|| work.name.to_owned())?,
            );
        }
        Ok(numbers)
    }

    /// How long requests took, by workload and operation.
    pub(super) fn latencies(&self) -> BTreeMap<String, Latencies> {
        let of = |(name, guest): (&String, &Guest)| (name.clone(), guest.latencies.clone());
        let all = self.guests.iter().map(of);
        all.filter(|(_, latencies)| !latencies.is_empty()).collect()
    }
}

impl Guest {
    fn count(&mut self, json: &str) -> Result<()> {
        let metrics: Metrics = serde_json::from_str(json).context("no metrics of vmm")?;
        let init = metrics.timings_ms.get("init_started");
        let init = init.context("its init did not start")?;
        // A millisecond is a million instructions, and it has three digits more.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let instructions = (init * 1e6).round() as u64;
        self.init = Some(instructions);
        let share = metrics.shares.get("share").context("no share")?;
        let all = |name: &str| {
            let queues = share.queues.values();
            queues.filter_map(|queue| queue.get(name)).sum::<u64>()
        };
        let latency =
            |(name, one): (&String, &Operation)| (name.clone(), one.latency_us_log2.clone());
        self.latencies = share.operations.iter().map(latency).collect();
        let exits = |name: &str| metrics.exits.get(name).copied().unwrap_or(0);
        self.counts = Some(BTreeMap::from([
            (Metric::Requests, all("requests")),
            (Metric::Kicks, all("kicks")),
            (Metric::Wakeups, all("wakeups")),
            (Metric::Interrupts, all("interrupts")),
            (Metric::Detached, all("detached")),
            // Not those of ports: they are the console's.
            (Metric::Exits, exits("mmio_read") + exits("mmio_write")),
        ]));
        Ok(())
    }

    /// What it says of `work`: the counts are those above an idle guest's.
    fn numbers(&self, work: &Workload, idle: Option<&Self>) -> Result<Numbers> {
        let total = match work.kind {
            Kind::Work => self.took.context("it did not come to its end")?,
            Kind::Boot => self.init.context("its init did not start")?,
            Kind::Memory => {
                let resident = self.resident.context("its memory was not seen")?;
                return Ok(Numbers::from([(Metric::Resident, float(resident))]));
            }
        };
        let mut numbers =
            Numbers::from([(Metric::Instructions, float(total) / float(work.rounds))]);
        let Some(counts) = &self.counts else {
            return Ok(numbers);
        };
        ensure!(work.rounds > 0, "no rounds");
        let idle = match (work.kind, idle.and_then(|idle| idle.counts.as_ref())) {
            (Kind::Work, Some(idle)) => idle,
            (Kind::Work, None) => bail!("there is no idle guest to compare to"),
            _ => &BTreeMap::new(),
        };
        // As many rounds came before those that were measured.
        let rounds = match work.kind {
            Kind::Work => 2 * work.rounds,
            _ => 1,
        };
        for (metric, count) in counts {
            if !work.one_by_one && matches!(metric, Metric::Kicks | Metric::Wakeups) {
                continue;
            }
            let less = idle.get(metric).copied().unwrap_or(0);
            let more = float(*count) - float(less);
            numbers.insert(*metric, more / float(rounds));
        }
        Ok(numbers)
    }
}

#[allow(clippy::cast_precision_loss)] // below 2^53
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const METRICS: &str = r#"{"timings_ms":{"init_started":151.604},"exits":{"mmio_read":REST,"port_read":50},
        "shares":{"share":{"operations":{"READ":{"count":4,"latency_us_log2":[0,3,1]}},"queues":{"hiprio":{"kicks":0,"wakeups":1},
        "request-0":{"kicks":KICKS,"wakeups":3,"requests":4,"interrupts":5,"detached":1}}},
        "vmm.session":{"operations":{},"queues":{"request-0":{"kicks":99}}}}}"#;

    fn heard(lines: &[&str]) -> Said {
        let mut said = Said::default();
        for line in lines {
            said.hear(line).unwrap();
        }
        said
    }

    fn metrics(kicks: u64, exits: u64) -> String {
        let text = METRICS.replace("KICKS", &kicks.to_string());
        let text = text.replace("REST", &exits.to_string());
        format!("metrics {}", text.replace([' ', '\n'], ""))
    }

    fn of(name: &str) -> Workload {
        *ALL.iter().find(|work| work.name == name).unwrap()
    }

    #[test]
    fn a_workloads_counts_are_above_those_of_an_idle_guest() {
        let (idle, busy) = (metrics(10, 7), metrics(4010, 7));
        let lines = ["begin boot", &idle, "begin read-4k", "took 74000000", &busy];
        let works = [of("boot"), of("read-4k")];
        let numbers = heard(&lines).numbers(&works).unwrap();
        let is = |name: &str, metric, meant: f64| {
            let found = numbers[name][&metric];
            assert!((found - meant).abs() < 1e-9, "{name} {metric:?}: {found}");
        };
        is("boot", Metric::Instructions, 151_604_000.0);
        is("boot", Metric::Requests, 4.0);
        assert!(!numbers["boot"].contains_key(&Metric::Kicks));
        is("read-4k", Metric::Instructions, 37_000.0);
        is("read-4k", Metric::Kicks, 1.0);
        is("read-4k", Metric::Exits, 0.0);
        let latencies = heard(&lines).latencies();
        assert_eq!(latencies["read-4k"]["READ"], [0, 3, 1]);
    }

    #[test]
    fn a_guest_of_another_vmm_has_no_counts() {
        let said = heard(&["begin read-4k", "init 9", "[ 0.1] a kernel", "took 2000"]);
        let numbers = said.numbers(&[of("read-4k")]).unwrap();
        assert_eq!(
            numbers["read-4k"],
            Numbers::from([(Metric::Instructions, 1.0)])
        );
        let said = heard(&["begin memory", "resident 4800"]);
        let numbers = said.numbers(&[of("memory")]).unwrap();
        assert_eq!(
            numbers["memory"],
            Numbers::from([(Metric::Resident, 4800.0)])
        );
    }

    #[test]
    fn what_is_missing_is_no_result() {
        for lines in [&[][..], &["begin read-4k"], &["took 5", "begin read-4k"]] {
            assert!(heard(lines).numbers(&[of("read-4k")]).is_err(), "{lines:?}");
        }
        let alone = ["begin read-4k", "took 5", &metrics(1, 1)];
        assert!(heard(&alone).numbers(&[of("read-4k")]).is_err());
        assert!(heard(&["begin boot"]).numbers(&[of("boot")]).is_err());
        assert!(Said::default().hear("begin x").unwrap().is_some());
        let mut said = heard(&["begin x"]);
        assert!(said.hear("took many").is_err());
        assert!(said.hear("metrics {}").is_err());
    }
}
