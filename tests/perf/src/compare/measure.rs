//! The measurement. Runs where the guests run, in the lab.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::exits::{self, Tracer};
use super::guest::{Counters, Guest, Transfer};
use super::plan::{Direction, Kernel, Plan, SIZES, Strategy, repeats};
use super::results::{
    Attribute, Call, Cost, Failure, FragmentedCall, KernelResults, Outcome, Results, Spread,
};
use super::{stock, verify};

/// Where the shared files are.
const DATA: &str = "/tmp/comparison-data";
/// The file that is read.
const SOURCE: &str = "source";

/// Measures all of `plan`.
///
/// # Errors
///
/// When anything but a call of the guest's kernel fails.
pub fn all(plan: &Plan) -> Result<Results> {
    let data = Path::new(DATA);
    fs::create_dir_all(data)?;
    verify::make(&data.join(SOURCE), SIZES[SIZES.len() - 1])?;
    let mut results = Results::default();
    for kernel in &plan.kernels {
        let measured = one(plan, kernel, data);
        results
            .kernels
            .push(measured.with_context(|| format!("Linux {}", kernel.version))?);
    }
    Ok(results)
}

fn one(plan: &Plan, kernel: &Kernel, data: &Path) -> Result<KernelResults> {
    let tracer = Tracer::new()?;
    let guest = Guest::start(&plan.vmm, &kernel.test, &plan.script, data)?;
    let mut bench = Bench {
        guest,
        tracer,
        data,
    };
    let release = bench.guest.release().to_owned();
    eprintln!("compare: {release}: the forms of positioning");
    let forms = bench.guest.forms()?;
    let calls = bench.calls()?;
    let attributes = bench.attributes()?;
    let (fragmented, attributes) = bench.fragmented(attributes)?;
    bench.guest.end()?;
    let stock = match &kernel.stock {
        Some(stock) => stock::loads(&plan.vmm, stock)?,
        None => Vec::new(),
    };
    Ok(KernelResults {
        version: kernel.version.clone(),
        release,
        calls,
        fragmented,
        attributes,
        forms,
        stock,
    })
}

struct Bench<'a> {
    guest: Guest,
    tracer: Tracer,
    data: &'a Path,
}

impl Bench<'_> {
    fn calls(&mut self) -> Result<Vec<Call>> {
        let mut calls = Vec::new();
        for strategy in Strategy::ALL {
            self.guest.bounce(strategy)?;
            for direction in Direction::ALL {
                for bytes in SIZES {
                    let what = format!("{} {} {bytes}", strategy.name(), direction.name());
                    let outcome = self.call(direction, bytes).context(what.clone())?;
                    eprintln!("compare: {what}: {outcome:?}");
                    calls.push(Call {
                        direction,
                        bytes,
                        strategy,
                        outcome,
                    });
                }
            }
        }
        Ok(calls)
    }

    /// One call, over and over.
    fn call(&mut self, direction: Direction, bytes: u64) -> Result<Outcome> {
        // What opening and closing the file count; no request is made for no
        // bytes. Also the first touch of what the host has to make.
        let file = file(direction, bytes);
        if direction == Direction::Write {
            verify::wipe(&self.data.join(&file), bytes)?;
        }
        let empty = self.guest.transfer(direction, &file, 0)?;
        ensure!(empty.result == Ok(0), "a call of no bytes: {empty:?}");
        let first = self.verified(direction, bytes)?;
        if let Err(errno) = first.result {
            return Ok(Outcome::Failed(Failure {
                errno,
                warned: first.warnings > 0,
            }));
        }
        let counters = difference(first.counters, empty.counters)?;
        let (mut machine, mut guest, mut exits) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..repeats(bytes) {
            let transfer = self.again(direction, bytes, counters, empty.counters)?;
            let (start, end) = transfer.cycles;
            machine.push(end.checked_sub(start).context("the counter went back")?);
        }
        for _ in 0..repeats(bytes) {
            self.tracer.start()?;
            let transfer = self.again(direction, bytes, counters, empty.counters)?;
            let events = self.tracer.stop()?;
            let offset = self.tracer.offset()?;
            let distance = exits::shortest(&events).context("the trace is empty")?;
            let (start, end) = transfer.cycles;
            let share = exits::share(
                &events,
                start.wrapping_sub(offset),
                end.wrapping_sub(offset),
                distance,
            )?;
            guest.push(share.instructions);
            exits.push((share.instructions, share.exits));
        }
        Ok(Outcome::Done(Cost {
            max_order: counters.max_order,
            allocated: counters.allocated,
            copied: counters.copied,
            requests: counters.requests,
            guest: Spread::of(&guest).context("never measured")?,
            machine: Spread::of(&machine).context("never measured")?,
            exits: exits.iter().min().context("never measured")?.1,
        }))
    }

    /// A call that was made before costs the same again.
    fn again(
        &mut self,
        direction: Direction,
        bytes: u64,
        expected: Counters,
        empty: Counters,
    ) -> Result<Transfer> {
        let file = file(direction, bytes);
        let transfer = self.guest.repeat(direction, &file, bytes)?;
        let counters = difference(transfer.counters, empty)?;
        ensure!(
            transfer.result == Ok(bytes) && counters == expected,
            "the second time {transfer:?}, the first {expected:?}"
        );
        Ok(transfer)
    }

    /// One call, with its data checked on this side of the share.
    fn verified(&mut self, direction: Direction, bytes: u64) -> Result<Transfer> {
        let file = file(direction, bytes);
        let path = self.data.join(&file);
        if direction == Direction::Write {
            verify::wipe(&path, bytes)?;
        }
        let transfer = self.guest.transfer(direction, &file, bytes)?;
        if let Ok(count) = transfer.result {
            ensure!(count == bytes, "{count} bytes of {bytes}");
            let found = verify::crc32(&path, bytes)?;
            ensure!(
                found == transfer.crc32,
                "wrong data: {found:08x} on the host, {transfer:?}"
            );
            let length = fs::metadata(&path)?.len();
            ensure!(
                direction == Direction::Read || length == bytes,
                "the file has {length} bytes now"
            );
        }
        Ok(transfer)
    }

    /// The largest order of each strategy.
    fn attributes(&mut self) -> Result<Vec<(Strategy, u64)>> {
        let mut orders = Vec::new();
        for strategy in Strategy::ALL {
            self.guest.bounce(strategy)?;
            let (errno, max_order) = self.guest.attribute()?;
            ensure!(errno.is_none(), "getxattr() fails: {errno:?}");
            orders.push((strategy, max_order));
        }
        Ok(orders)
    }

    /// Calls and attributes with no two neighbouring pages free. There is no way
    /// back from here.
    fn fragmented(
        &mut self,
        orders: Vec<(Strategy, u64)>,
    ) -> Result<(Vec<FragmentedCall>, Vec<Attribute>)> {
        let mut calls = Vec::new();
        let mut attributes = Vec::new();
        for (strategy, max_order) in orders {
            self.guest.bounce(strategy)?;
            self.guest.fragment()?;
            let (fragmented, _) = self.guest.attribute()?;
            attributes.push(Attribute {
                strategy,
                max_order,
                fragmented,
            });
            for direction in Direction::ALL {
                for bytes in SIZES {
                    // What has become free since the last time too.
                    self.guest.fragment()?;
                    let file = file(direction, bytes);
                    let transfer = self.guest.repeat(direction, &file, bytes)?;
                    ensure!(
                        transfer.result.is_err() || transfer.result == Ok(bytes),
                        "part of {bytes} bytes: {transfer:?}"
                    );
                    let errno = transfer.result.err();
                    eprintln!(
                        "compare: fragmented: {} {} {bytes}: {:?}",
                        strategy.name(),
                        direction.name(),
                        transfer.result
                    );
                    calls.push(FragmentedCall {
                        direction,
                        bytes,
                        strategy,
                        errno,
                    });
                }
            }
        }
        Ok((calls, attributes))
    }
}

/// The file a call is made on.
fn file(direction: Direction, bytes: u64) -> String {
    match direction {
        Direction::Read => SOURCE.to_owned(),
        Direction::Write => format!("written-{bytes}"),
    }
}

/// What `call` counted without what `empty` did. The largest order of opening
/// and closing is 0, as their arguments are short.
fn difference(call: Counters, empty: Counters) -> Result<Counters> {
    let less = |a: u64, b: u64| a.checked_sub(b).context("a call counts less than none");
    ensure!(empty.max_order == 0, "a call of no bytes counts {empty:?}");
    Ok(Counters {
        requests: less(call.requests, empty.requests)?,
        allocated: less(call.allocated, empty.allocated)?,
        copied: less(call.copied, empty.copied)?,
        max_order: call.max_order,
    })
}
