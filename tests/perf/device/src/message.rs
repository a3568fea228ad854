//! FUSE messages as Linux lays them out (`include/uapi/linux/fuse.h`).

use anyhow::{Context, Result, ensure};
use devices::fuse::Opcode;

/// `struct fuse_in_header`.
pub(crate) const REQUEST_HEADER: usize = 40;
/// `struct fuse_out_header`.
pub(crate) const REPLY_HEADER: usize = 16;
/// `struct fuse_entry_out`.
pub(crate) const ENTRY: usize = 128;
/// `struct fuse_attr_out`.
pub(crate) const ATTRIBUTES: usize = 104;
/// `struct fuse_open_out`.
pub(crate) const OPENED: usize = 16;
/// `struct fuse_write_out`.
pub(crate) const WRITTEN: usize = 8;
/// `struct fuse_init_out`.
pub(crate) const AGREED: usize = 64;

/// What a virtiofs of Linux 6.1 offers at INIT, less `FUSE_SECURITY_CTX`, which
/// only a kernel with a security module offers.
const OFFER: u32 = 0x7bdf_fc7b;

/// `FUSE_DO_READDIRPLUS`.
const DO_READDIRPLUS: u32 = 1 << 13;

/// Whether the server took READDIRPLUS, by its answer to INIT.
pub(crate) fn has_readdirplus(init: &[u8]) -> Result<bool> {
    Ok(word(init, 12)? & DO_READDIRPLUS != 0)
}

/// The body of a request: fields one after the other.
#[derive(Debug, Default)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    pub(crate) fn words(mut self, words: &[u32]) -> Self {
        self.0
            .extend(words.iter().flat_map(|word| word.to_le_bytes()));
        self
    }

    pub(crate) fn long(mut self, long: u64) -> Self {
        self.0.extend(long.to_le_bytes());
        self
    }

    pub(crate) fn name(mut self, name: &str) -> Self {
        self.0.extend(name.as_bytes());
        self.0.push(0);
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `struct fuse_init_in`.
pub(crate) fn init() -> Body {
    Body::default()
        .words(&[7, 37, 128 << 10, OFFER])
        .words(&[0; 12])
}

/// `struct fuse_read_in`, of READ and READDIRPLUS.
pub(crate) fn read(handle: u64, offset: u64, size: u32) -> Body {
    Body::default()
        .long(handle)
        .long(offset)
        .words(&[size, 0, 0, 0, 0, 0])
}

/// `struct fuse_write_in`, without the data.
pub(crate) fn write(handle: u64, offset: u64, size: u32) -> Body {
    read(handle, offset, size)
}

/// `struct fuse_release_in`, or `struct fuse_flush_in`, which is as long.
pub(crate) fn close(handle: u64) -> Body {
    Body::default().long(handle).words(&[0; 4])
}

/// The header of a request with `rest` bytes behind it.
pub(crate) fn header(opcode: Opcode, unique: u64, node: u64, rest: usize) -> Result<Vec<u8>> {
    let len = u32::try_from(REQUEST_HEADER + rest)?;
    let header = Body::default()
        .words(&[len, opcode.0])
        .long(unique)
        .long(node);
    // Of the server's own user, so that it changes to nobody else.
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    Ok(header.words(&[uid, gid, 1, 0]).0)
}

/// The errno in the header of the reply to `unique`, 0 for none.
pub(crate) fn errno(reply: &[u8], unique: u64) -> Result<u32> {
    ensure!(long(reply, 8)? == unique, "the reply is to another request");
    Ok(word(reply, 4)?.wrapping_neg())
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let field = bytes.get(at..at + 4).context("the reply is too short")?;
    Ok(u32::from_le_bytes(field.try_into()?))
}

pub(crate) fn long(bytes: &[u8], at: usize) -> Result<u64> {
    let field = bytes.get(at..at + 8).context("the reply is too short")?;
    Ok(u64::from_le_bytes(field.try_into()?))
}
