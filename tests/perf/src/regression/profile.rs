//! What callgrind wrote about one thread.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// Functions that give memory. What they call themselves is not counted again.
const ALLOCATORS: [&str; 6] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
];

/// The cost of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Instructions in user mode.
    pub instructions: u64,
    /// Calls of allocators.
    pub allocations: u64,
}

impl Profile {
    /// Reads a file in the format of callgrind with an event for instructions (`Ir`).
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self> {
        let mut names = BTreeMap::new();
        let mut column = None;
        let mut profile = Self::default();
        let mut callee = None;
        // The line behind `calls=` has the cost of the callee, which counts where
        // that is the function.
        let mut is_inclusive = false;
        for line in text.lines() {
            if let Some(events) = line.strip_prefix("events:") {
                let found = events.split_whitespace().position(|event| event == "Ir");
                column = Some(found.context("no event Ir")?);
            } else if let Some(function) = line.strip_prefix("fn=") {
                resolve(&mut names, function)?;
            } else if let Some(function) = line.strip_prefix("cfn=") {
                callee = Some(resolve(&mut names, function)?);
            } else if let Some(calls) = line.strip_prefix("calls=") {
                let count = calls.split_whitespace().next().unwrap_or("");
                let count: u64 = count.parse().with_context(|| format!("line {line:?}"))?;
                let callee = callee.take().context("a call of nothing")?;
                // `malloc'2` is a recursive one, `malloc@@GLIBC_2.2.5` has a version.
                let name = callee.split(['\'', '@']).next();
                if ALLOCATORS.iter().any(|allocator| name == Some(*allocator)) {
                    profile.allocations += count;
                }
                is_inclusive = true;
            } else if line
                .starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
                && !std::mem::take(&mut is_inclusive)
            {
                let column = column.context("costs before events")?;
                // Zeros at the end of a line are left out.
                let cost = line.split_whitespace().nth(1 + column).unwrap_or("0");
                let cost: u64 = cost.parse().with_context(|| format!("line {line:?}"))?;
                profile.instructions += cost;
            }
        }
        ensure!(column.is_some(), "no profile of callgrind");
        Ok(profile)
    }
}

/// The name behind `(ID) NAME`, or behind an `(ID)` that had one before.
fn resolve(names: &mut BTreeMap<String, String>, reference: &str) -> Result<String> {
    let Some((id, name)) = reference.split_once(')') else {
        bail!("{reference:?} is no function");
    };
    let name = name.trim();
    if !name.is_empty() {
        names.insert(id.to_owned(), name.to_owned());
    }
    let name = names
        .get(id)
        .with_context(|| format!("{reference:?} has no name"))?;
    Ok(name.clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FILE: &str = "\
# callgrind format
version: 1
positions: line
events: Ir Dr
summary: 999 9 9

ob=(1) /bin/program
fl=(1) a.rs
fn=(1) serve
16 400 2 30
+2 7
cob=(2) /lib/libc.so.6
cfi=(2) malloc.c
cfn=(2) malloc
calls=3 0
* 90 1
-1 5
cfn=(3) clock_gettime@@GLIBC_2.17
calls=2 0
* 20 2

fn=(2)
0 60
cfn=(4) _int_malloc
calls=3 0
0 30 1

fn=(4)
0 30 1

fn=(3)
0 20 2 5

totals: 522 4
";

    #[test]
    fn costs_are_those_of_the_functions_themselves() {
        let profile = Profile::parse(FILE).unwrap();
        assert_eq!(profile.instructions, 400 + 7 + 5 + 60 + 30 + 20);
    }

    #[test]
    fn allocations_are_calls_of_allocators() {
        assert_eq!(Profile::parse(FILE).unwrap().allocations, 3);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for text in [
            "",
            "events: Dr\n",
            "fn=(1) f\n1 2\n",
            "events: Ir\nfn=(7)\n",
        ] {
            Profile::parse(text).unwrap_err();
        }
    }
}
