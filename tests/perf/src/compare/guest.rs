//! A guest that does what it is told: `vmm run` with
//! `guest-kernel/comparison/measure` in it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::plan::{Direction, Strategy};
use super::results::Form;

/// Half of it is taken when memory is fragmented, and a call of 64 MiB has to
/// fit into the rest.
const MEMORY_MIB: &str = "512";
/// The status of the program `xattr` when it got what was not set.
const WRONG_DATA: i32 = 255;
/// An hour of the lab's time, in which waiting takes none of ours.
const TIMEOUT: &str = "1h";

/// What the guest's kernel answers of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes, or the errno.
    pub result: Result<u64, i32>,
    /// Of the bytes in the kernel's buffer.
    pub crc32: u32,
    /// The guest's cycle counter before and after the call.
    pub cycles: (u64, u64),
    /// Warnings in its log.
    pub warnings: u64,
    /// Of `virtiofs/bounce`.
    pub counters: Counters,
}

/// The counters of `virtiofs/bounce` that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Requests put on a queue.
    pub requests: u64,
    /// Bytes allocated.
    pub allocated: u64,
    /// Bytes copied in and out.
    pub copied: u64,
    /// Largest order.
    pub max_order: u64,
}

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    release: String,
}

impl Guest {
    /// Starts it, with `data` shared without a cache.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start(vmm: &Path, kernel: &Path, script: &Path, data: &Path) -> Result<Self> {
        let mut command = Command::new(vmm);
        command.args(["run", "--memory", MEMORY_MIB, "--timeout", TIMEOUT]);
        command.arg("--kernel").arg(kernel.join("bzImage"));
        let share = |directory: &Path, options: &str| {
            let mut value = std::ffi::OsString::from(options);
            value.push(directory);
            value
        };
        command
            .arg("--share")
            .arg(share(data, "tag=data,cache=never,xattr,path="));
        command
            .arg("--share")
            .arg(share(&kernel.join("driver-tests"), "tag=modules,ro,path="));
        let here = script.parent().context("the script is in no directory")?;
        command
            .arg("--share")
            .arg(share(here, "tag=comparison,ro,path="));
        // A shell reads a script as it goes: from memory, not through a mount
        // whose requests would be counted.
        command.args([
            "--",
            "sh",
            "-c",
            "cp /mnt/comparison/measure /tmp/measure && \
             exec sh /tmp/measure data /mnt/data /mnt/modules",
        ]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", vmm.display()))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut guest = Self {
            child,
            input,
            output: BufReader::new(output),
            release: String::new(),
        };
        guest.release = guest.answer("its start")?;
        Ok(guest)
    }

    /// `uname -r`.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Mounts the share anew.
    ///
    /// # Errors
    ///
    /// When the guest cannot.
    pub fn bounce(&mut self, strategy: Strategy) -> Result<()> {
        self.ask(&format!("bounce {}", strategy.name())).map(drop)
    }

    /// Takes away every free block of two pages or more.
    ///
    /// # Errors
    ///
    /// When the guest cannot.
    pub fn fragment(&mut self) -> Result<()> {
        self.ask("fragment").map(drop)
    }

    /// One call.
    ///
    /// # Errors
    ///
    /// When the guest cannot make it; not when the call returns an error.
    pub fn transfer(&mut self, direction: Direction, file: &str, bytes: u64) -> Result<Transfer> {
        Transfer::parse(&self.ask(&format!("transfer {} {file} {bytes}", direction.name()))?)
    }

    /// One call whose bytes do not matter.
    ///
    /// # Errors
    ///
    /// When the guest cannot make it; not when the call returns an error.
    pub fn repeat(&mut self, direction: Direction, file: &str, bytes: u64) -> Result<Transfer> {
        Transfer::parse(&self.ask(&format!("repeat {} {file} {bytes}", direction.name()))?)
    }

    /// Gets an extended attribute of 64 KiB: the errno if that failed, and the
    /// largest order.
    ///
    /// # Errors
    ///
    /// When the guest cannot try.
    pub fn attribute(&mut self) -> Result<(Option<i32>, u64)> {
        let line = self.ask("attribute")?;
        let complaint = || format!("the guest answers {line:?}");
        let (status, named) = line.split_once(' ').with_context(complaint)?;
        let status: i32 = status.parse().with_context(complaint)?;
        ensure!(status != WRONG_DATA, "the attribute has wrong bytes");
        let words: Vec<&str> = named.split_whitespace().collect();
        let counters = Counters::parse(&words).with_context(complaint)?;
        Ok(((status != 0).then_some(status), counters.max_order))
    }

    /// What `argbuf_forms` measures.
    ///
    /// # Errors
    ///
    /// When it does not run, or a form gave wrong data.
    pub fn forms(&mut self) -> Result<Vec<Form>> {
        forms(&self.ask("forms")?)
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// When it does not end well.
    pub fn end(mut self) -> Result<()> {
        drop(self.input);
        let status = self.child.wait().context("cannot wait for vmm")?;
        ensure!(status.success(), "vmm ended with {status}");
        Ok(())
    }

    fn ask(&mut self, what: &str) -> Result<String> {
        writeln!(self.input, "{what}").with_context(|| format!("the guest is gone at {what:?}"))?;
        self.answer(what)
    }

    fn answer(&mut self, what: &str) -> Result<String> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .context("cannot read from the guest")?;
        match line.trim_end().split_once(' ') {
            Some(("ok", rest)) => Ok(rest.to_owned()),
            None if line.trim_end() == "ok" => Ok(String::new()),
            _ if line.is_empty() => bail!("the guest ended at {what:?}"),
            _ => bail!("the guest answers {line:?} to {what:?}"),
        }
    }
}

impl Transfer {
    fn parse(line: &str) -> Result<Self> {
        let complaint = || format!("the guest answers {line:?}");
        let words: Vec<&str> = line.split_whitespace().collect();
        let (fixed, named) = words.split_at_checked(6).with_context(complaint)?;
        let number = |text: &str| text.parse::<u64>().with_context(complaint);
        let bytes: i64 = fixed[0].parse().with_context(complaint)?;
        let result = match u64::try_from(bytes) {
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(i32::try_from(-bytes).with_context(complaint)?),
        };
        Ok(Self {
            result,
            crc32: u32::from_str_radix(fixed[1], 16).with_context(complaint)?,
            cycles: (number(fixed[3])?, number(fixed[4])?),
            warnings: number(fixed[5])?,
            counters: Counters::parse(named).with_context(complaint)?,
        })
    }
}

impl Counters {
    /// Reads NAME VALUE NAME VALUE.
    fn parse(words: &[&str]) -> Result<Self> {
        let counters: HashMap<&str, &str> = words
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect();
        let counter = |name: &str| -> Result<u64> {
            let text = counters.get(name);
            let text = text.with_context(|| format!("no counter {name}"))?;
            text.parse().with_context(|| format!("{name} is {text:?}"))
        };
        Ok(Self {
            requests: counter("requests")?,
            allocated: counter("allocated_bytes")?,
            copied: counter("copied_in_bytes")? + counter("copied_out_bytes")?,
            max_order: counter("max_order")?,
        })
    }
}

/// `read again 140599 cycles per request of 252 pages;write ...;`
fn forms(text: &str) -> Result<Vec<Form>> {
    let forms: Vec<Form> = text
        .split(';')
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [
                direction,
                form,
                cycles,
                "cycles",
                "per",
                "request",
                "of",
                pages,
                "pages",
            ] = words[..]
            else {
                bail!("argbuf_forms says {line:?}");
            };
            Ok(Form {
                direction: Direction::ALL
                    .into_iter()
                    .find(|known| known.name() == direction)
                    .with_context(|| format!("argbuf_forms says {line:?}"))?,
                form: form.to_owned(),
                instructions: cycles.parse()?,
                pages: pages.parse()?,
            })
        })
        .collect::<Result<_>>()?;
    ensure!(forms.len() == 8, "argbuf_forms says only {text:?}");
    Ok(forms)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const COUNTERS: &str = "requests 4 failed 0 flat 2 scattered 1 allocated_bytes 4192 \
         copied_in_bytes 50 copied_out_bytes 60 max_order 2";

    #[test]
    fn an_answer_has_the_result_and_the_counters() {
        let line = format!("65536 00c0ffee 12345 100 900 0 {COUNTERS}");
        let transfer = Transfer::parse(&line).unwrap();
        assert_eq!(transfer.result, Ok(65536));
        assert_eq!(transfer.crc32, 0x00c0_ffee);
        assert_eq!(transfer.cycles, (100, 900));
        assert_eq!(transfer.counters.copied, 110);
        assert_eq!(transfer.counters.max_order, 2);
    }

    #[test]
    fn an_error_is_an_errno() {
        let line = format!("-12 00000000 5 1 2 1 {COUNTERS}");
        let transfer = Transfer::parse(&line).unwrap();
        assert_eq!((transfer.result, transfer.warnings), (Err(12), 1));
    }

    #[test]
    fn what_is_missing_is_not_zero() {
        assert!(Transfer::parse("65536 00c0ffee 12345 100 900 0 requests 4").is_err());
        assert!(Transfer::parse("65536 00c0ffee").is_err());
        let broken = format!("x 00c0ffee 1 1 1 0 {COUNTERS}");
        assert!(Transfer::parse(&broken).is_err());
    }

    #[test]
    fn forms_are_all_there_or_an_error() {
        let mut text = String::new();
        for form in ["again", "once", "index", "flat"] {
            for direction in ["read", "write"] {
                text.push_str(&format!(
                    "{direction} {form} 2520 cycles per request of 252 pages;"
                ));
            }
        }
        let found = forms(&text).unwrap();
        assert_eq!((found.len(), found[0].per_mib()), (8, 2560));
        assert!(forms(&text.replacen("pages;", "pages WRONG DATA;", 1)).is_err());
        assert!(forms("read again 1 cycles per request of 252 pages;").is_err());
    }
}
