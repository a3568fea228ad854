//! gdb's remote protocol, the part that the tests speak.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::vm::stretched;

/// How long an answer may take, on hardware.
const PATIENCE: Duration = Duration::from_secs(10);

/// A debugger.
pub(super) struct Client {
    stream: UnixStream,
}

/// The registers of a processor, in gdb's order.
#[derive(Clone, Debug)]
pub(super) struct Registers {
    /// RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8 to R15.
    pub(super) general: [u64; 16],
    pub(super) rip: u64,
    /// The others.
    rest: String,
}

impl Client {
    /// Connects as soon as somebody listens.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let deadline = Instant::now() + stretched(PATIENCE);
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("nobody listens for gdb");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_read_timeout(Some(stretched(PATIENCE)))?;
        let mut client = Self { stream };
        let features = client.ask("qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+")?;
        ensure!(features.contains("PacketSize="), "{features}");
        let stop = client.ask("?")?;
        ensure!(stop.starts_with("T05"), "{stop}");
        Ok(client)
    }

    /// Sends a packet and reads its answer.
    pub(super) fn ask(&mut self, packet: &str) -> Result<String> {
        self.start(packet)?;
        self.answer().with_context(|| format!("after {packet}"))
    }

    /// Sends a packet whose answer comes later.
    pub(super) fn start(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        self.stream
            .write_all(format!("${packet}#{sum:02x}").as_bytes())?;
        ensure!(self.byte()? == b'+', "{packet} is not acknowledged");
        Ok(())
    }

    /// Waits for an answer.
    pub(super) fn answer(&mut self) -> Result<String> {
        while self.byte()? != b'$' {}
        let mut text = Vec::new();
        loop {
            match self.byte()? {
                b'#' => break,
                // A run of the byte before.
                b'*' => {
                    let count = self.byte()?.saturating_sub(29);
                    let last = *text.last().context("a run of nothing")?;
                    text.extend(std::iter::repeat_n(last, usize::from(count)));
                }
                byte => text.push(byte),
            }
        }
        self.byte()?;
        self.byte()?;
        // Whoever has ended takes no acknowledgement.
        let _ = self.stream.write_all(b"+");
        Ok(String::from_utf8(text)?)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).context("no answer")?;
        Ok(byte[0])
    }

    fn ok(&mut self, packet: &str) -> Result<()> {
        let answer = self.ask(packet)?;
        ensure!(answer == "OK", "{packet}: {answer}");
        Ok(())
    }

    /// The threads by number.
    pub(super) fn threads(&mut self) -> Result<Vec<u8>> {
        let answer = self.ask("qfThreadInfo")?;
        ensure!(self.ask("qsThreadInfo")? == "l");
        let names = answer.strip_prefix('m').context("no list")?;
        names
            .split(',')
            .map(|name| {
                let thread = name.rsplit('.').next().unwrap_or_default();
                Ok(u8::from_str_radix(thread, 16)?)
            })
            .collect()
    }

    /// The registers of a thread.
    pub(super) fn registers(&mut self, thread: u8) -> Result<Registers> {
        self.ok(&format!("Hgp1.{thread:x}"))?;
        let answer = self.ask("g")?;
        let mut words = Vec::new();
        for index in 0..17 {
            let digits = answer
                .get(index * 16..index * 16 + 16)
                .context("too short")?;
            words.push(u64::from_str_radix(digits, 16)?.swap_bytes());
        }
        Ok(Registers {
            general: words[..16].try_into()?,
            rip: words[16],
            rest: answer[17 * 16..].to_owned(),
        })
    }

    pub(super) fn set_registers(&mut self, thread: u8, registers: &Registers) -> Result<()> {
        self.ok(&format!("Hgp1.{thread:x}"))?;
        let mut packet = "G".to_owned();
        for word in registers.general.iter().chain([&registers.rip]) {
            write!(packet, "{:016x}", word.swap_bytes())?;
        }
        packet += &registers.rest.replace('x', "0");
        self.ok(&packet)
    }

    /// Reads memory as the chosen thread sees it.
    pub(super) fn read(&mut self, address: u64, length: usize) -> Result<Vec<u8>> {
        let answer = self.ask(&format!("m{address:x},{length:x}"))?;
        if answer.len() != 2 * length {
            bail!("cannot read {address:x}: {answer}");
        }
        (0..length)
            .map(|index| Ok(u8::from_str_radix(&answer[2 * index..2 * index + 2], 16)?))
            .collect()
    }

    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let mut packet = format!("M{address:x},{:x}:", bytes.len());
        for byte in bytes {
            write!(packet, "{byte:02x}")?;
        }
        self.ok(&packet)
    }

    /// Sets a breakpoint: '0' in memory, '1' in a register, '2' for stores.
    pub(super) fn breakpoint(&mut self, kind: char, address: u64, length: u8) -> Result<()> {
        self.ok(&format!("Z{kind},{address:x},{length}"))
    }

    pub(super) fn remove_breakpoint(&mut self, kind: char, address: u64, length: u8) -> Result<()> {
        self.ok(&format!("z{kind},{address:x},{length}"))
    }

    /// Lets all processors go on and waits until the guest stops.
    pub(super) fn go_on(&mut self) -> Result<String> {
        self.ask("vCont;c")
    }

    /// One instruction of one processor; the others stay.
    pub(super) fn step(&mut self, thread: u8) -> Result<String> {
        self.ask(&format!("vCont;s:p1.{thread:x}"))
    }

    /// Ctrl-C, while the guest runs.
    pub(super) fn interrupt(&mut self) -> Result<String> {
        self.stream.write_all(&[3])?;
        self.answer()
    }

    pub(super) fn detach(&mut self) -> Result<()> {
        self.ok("D;1")
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.ok("vKill;1")
    }
}
