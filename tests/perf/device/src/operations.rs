//! What is measured: each operation is a number of equal rounds.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use devices::fuse::Opcode;

use crate::driver::{Driver, Message, PAGE};
use crate::message::{self, ATTRIBUTES, Body, ENTRY, OPENED, WRITTEN};

const ROOT: u64 = 1;
const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const ENOENT: u32 = 2;
/// In the directory that is listed. With their attributes they fill a page.
const ENTRIES: u32 = 20;
const FILE: &str = "file";
const LISTED: &str = "listed";
const MADE: &str = "made";
/// What is read, over and over.
const CONTENT: u8 = 0x5a;
const MIB: u32 = 1 << 20;

/// An operation that can be measured.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// How it is begun; what it leaves open is the argument of the rounds.
    begin: fn(&mut Driver) -> Result<Open>,
    round: fn(&mut Driver, Open) -> Result<()>,
}

/// What a round works with.
#[derive(Clone, Copy, Debug)]
struct Open {
    node: u64,
    handle: u64,
}

/// Every operation, in the order in which they are shown.
pub(crate) const OPERATIONS: [Operation; 9] = [
    Operation {
        name: "read-4k",
        about: "READ of one page",
        begin: open,
        round: |driver, file| read(driver, file, 1),
    },
    Operation {
        name: "read-4k-32",
        about: "32 READs of one page under way at once",
        begin: open,
        round: read_many,
    },
    Operation {
        name: "read-1m",
        about: "READ of 1 MiB in 256 pages",
        begin: open,
        round: |driver, file| read(driver, file, MIB / PAGE),
    },
    Operation {
        name: "write-4k",
        about: "WRITE of one page",
        begin: open,
        round: write,
    },
    Operation {
        name: "lookup",
        about: "LOOKUP of a file that is known",
        begin: look_up_file,
        round: |driver, _| look_up(driver, FILE).map(drop),
    },
    Operation {
        name: "getattr",
        about: "GETATTR of a file",
        begin: look_up_file,
        round: get_attributes,
    },
    Operation {
        name: "create",
        about: "LOOKUP, CREATE, FLUSH, RELEASE, UNLINK, FORGET",
        begin: at_root,
        round: |driver, _| create(driver),
    },
    Operation {
        name: "open-read",
        about: "LOOKUP, OPEN, READ of one page, FLUSH, RELEASE",
        begin: look_up_file,
        round: |driver, _| open_and_read(driver),
    },
    Operation {
        name: "readdirplus",
        about: "LOOKUP, OPENDIR, READDIRPLUS of 20 entries to the end, RELEASEDIR",
        begin: at_root,
        round: |driver, _| list(driver),
    },
];

/// Makes what the operations find in a share.
pub(crate) fn prepare(share: &Path) -> Result<()> {
    fs::write(share.join(FILE), vec![CONTENT; MIB as usize])?;
    fs::create_dir(share.join(LISTED))?;
    for number in 0..ENTRIES {
        fs::write(share.join(LISTED).join(format!("entry-{number:02}")), b"")?;
    }
    Ok(())
}

impl Operation {
    /// Begins it, and does `rounds` of it.
    pub(crate) fn run(&self, driver: &mut Driver, rounds: u64) -> Result<()> {
        let open = (self.begin)(driver)?;
        for _ in 0..rounds {
            (self.round)(driver, open)?;
        }
        Ok(())
    }
}

fn at_root(_: &mut Driver) -> Result<Open> {
    Ok(Open {
        node: ROOT,
        handle: 0,
    })
}

fn look_up(driver: &mut Driver, name: &str) -> Result<u64> {
    look_up_in(driver, ROOT, name)
}

fn look_up_in(driver: &mut Driver, directory: u64, name: &str) -> Result<u64> {
    let body = Body::default().name(name);
    let entry = driver.exchange(&Message::new(
        Opcode::LOOKUP,
        directory,
        body.bytes(),
        ENTRY,
    ))?;
    message::long(&entry, 0)
}

fn look_up_file(driver: &mut Driver) -> Result<Open> {
    let node = look_up(driver, FILE)?;
    Ok(Open { node, handle: 0 })
}

fn open_as(driver: &mut Driver, opcode: Opcode, node: u64, flags: u32) -> Result<Open> {
    let body = Body::default().words(&[flags, 0]);
    let opened = driver.exchange(&Message::new(opcode, node, body.bytes(), OPENED))?;
    let handle = message::long(&opened, 0)?;
    Ok(Open { node, handle })
}

fn open(driver: &mut Driver) -> Result<Open> {
    let file = look_up_file(driver)?;
    open_as(driver, Opcode::OPEN, file.node, O_RDWR)
}

fn close(driver: &mut Driver, opcode: Opcode, file: Open) -> Result<()> {
    let body = message::close(file.handle);
    let message = Message::new(opcode, file.node, body.bytes(), 0);
    driver.exchange(&message).map(drop)
}

/// Reads `pages` pages, and looks at the first and the last byte.
fn read(driver: &mut Driver, file: Open, pages: u32) -> Result<()> {
    let body = message::read(file.handle, 0, pages * PAGE);
    let mut message = Message::new(Opcode::READ, file.node, body.bytes(), 0);
    message.pages_in = pages;
    let len = driver.fetch(&message)?;
    let data = driver.data(len)?;
    ensure!(len == (pages * PAGE) as usize, "{len} bytes were read");
    ensure!(
        data.first() == Some(&CONTENT) && data.last() == Some(&CONTENT),
        "something else was read"
    );
    Ok(())
}

fn read_many(driver: &mut Driver, file: Open) -> Result<()> {
    let body = message::read(file.handle, 0, PAGE);
    let mut message = Message::new(Opcode::READ, file.node, body.bytes(), 0);
    message.pages_in = 1;
    driver.exchange_many(&message)
}

fn write(driver: &mut Driver, file: Open) -> Result<()> {
    let body = message::write(file.handle, 0, PAGE);
    let mut message = Message::new(Opcode::WRITE, file.node, body.bytes(), WRITTEN);
    message.pages_out = 1;
    let written = message::word(&driver.exchange(&message)?, 0)?;
    ensure!(written == PAGE, "{written} bytes were written");
    Ok(())
}

fn get_attributes(driver: &mut Driver, file: Open) -> Result<()> {
    let body = Body::default().words(&[0; 4]);
    let message = Message::new(Opcode::GETATTR, file.node, body.bytes(), ATTRIBUTES);
    let attributes = driver.exchange(&message)?;
    // `attr.size`, behind the timeout and `attr.ino`.
    let size = message::long(&attributes, 24)?;
    ensure!(size == u64::from(MIB), "a file of {size} bytes");
    Ok(())
}

fn create(driver: &mut Driver) -> Result<()> {
    let name = Body::default().name(MADE);
    let name = name.bytes();
    driver.expect(&Message::new(Opcode::LOOKUP, ROOT, name, ENTRY), ENOENT)?;
    let body = Body::default()
        .words(&[O_CREAT | O_RDWR, 0o100_644, 0o022, 0])
        .name(MADE);
    let message = Message::new(Opcode::CREATE, ROOT, body.bytes(), ENTRY + OPENED);
    let made = driver.exchange(&message)?;
    let file = Open {
        node: message::long(&made, 0)?,
        handle: message::long(&made, ENTRY)?,
    };
    close(driver, Opcode::FLUSH, file)?;
    close(driver, Opcode::RELEASE, file)?;
    driver.exchange(&Message::new(Opcode::UNLINK, ROOT, name, 0))?;
    let once = Body::default().long(1);
    let forget = Message::new(Opcode::FORGET, file.node, once.bytes(), 0);
    driver.exchange(&forget).map(drop)
}

/// The name is looked up each time: what the server does at OPEN depends on whether
/// the guest can have the name in its cache, that is on the time since.
fn open_and_read(driver: &mut Driver) -> Result<()> {
    let file = look_up_file(driver)?;
    let file = open_as(driver, Opcode::OPEN, file.node, 0)?;
    read(driver, file, 1)?;
    close(driver, Opcode::FLUSH, file)?;
    close(driver, Opcode::RELEASE, file)
}

/// Lists a directory as Linux does, a page at a time, and asks for each file where the
/// server does not tell by the way. See [`open_and_read`] for why
/// it is looked up.
fn list(driver: &mut Driver) -> Result<()> {
    let node = look_up(driver, LISTED)?;
    let directory = open_as(driver, Opcode::OPENDIR, node, 0)?;
    let plus = driver.readdirplus;
    let (mut offset, mut entries) = (0, 0);
    loop {
        let body = message::read(directory.handle, offset, PAGE);
        let opcode = match plus {
            true => Opcode::READDIRPLUS,
            false => Opcode::READDIR,
        };
        let mut message = Message::new(opcode, node, body.bytes(), 0);
        message.pages_in = 1;
        let len = driver.fetch(&message)?;
        if len == 0 {
            break;
        }
        let page = driver.data(len)?;
        let mut at = 0;
        while at < len {
            // `struct fuse_dirent` behind the entry: ino, off, namelen, type, name.
            let dirent = at + if plus { ENTRY } else { 0 };
            offset = message::long(&page, dirent + 8)?;
            let len = message::word(&page, dirent + 16)? as usize;
            let name = page.get(dirent + 24..dirent + 24 + len);
            let name = str::from_utf8(name.context("the name is cut off")?)?;
            if !plus && !name.starts_with('.') {
                look_up_in(driver, node, name)?;
            }
            at = (dirent + 24 + len).next_multiple_of(8);
            entries += 1;
        }
    }
    // Those of the directory, its own and that above.
    ensure!(entries == ENTRIES + 2, "{entries} entries are listed");
    close(driver, Opcode::RELEASEDIR, directory)
}
