//! Requests in descriptor chains of guest memory, through the real server to a
//! real directory.
//!
//! The bytes are requests one after the other: the queue, how it lies in memory,
//! and what it says. Most have a header that makes sense, with small numbers of
//! nodes and handles, which are those that the server gives; some are descriptors
//! as they come.

use crate::guest::{BUFFERS, Guest, OnlyGuest, SIZE};
use crate::input::Input;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Most requests of one run.
const REQUESTS: usize = 16;
/// `struct fuse_in_header`.
const HEADER: usize = 40;
/// Where replies and indirect tables go.
const REPLIES: u64 = BUFFERS + 0x8_0000;
const TABLES: u64 = BUFFERS + 0x18_0000;

static GUEST: OnlyGuest = OnlyGuest::new(Guest::with_share);

/// Serves the requests in `data`.
pub fn run(data: &[u8]) {
    GUEST.run(data, requests);
}

/// Sends the requests in `input`.
pub(crate) fn requests(guest: &mut Guest, input: &mut Input<'_>) {
    send(guest, 1, 0, &init());
    for _ in 0..REQUESTS {
        if input.is_empty() {
            return;
        }
        let (queue, layout) = (input.u8(), input.u8());
        let queue = usize::from(queue % 8 != 0);
        match layout % 8 {
            0 => raw(guest, queue, input),
            _ => {
                let request = request(input);
                send(guest, queue, layout, &request);
            }
        }
    }
}

/// INIT of a driver that can do everything.
fn init() -> Vec<u8> {
    let mut request = header(26, 0, 0);
    for word in [7_u32, 45, 0x2_0000, !0, !0] {
        request.extend(word.to_le_bytes());
    }
    request.resize(request.len() + 44, 0);
    complete(request)
}

fn header(opcode: u32, node: u64, user: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(opcode.to_le_bytes());
    header.extend(1_u64.to_le_bytes());
    header.extend(node.to_le_bytes());
    header.extend(user.to_le_bytes());
    header.extend(user.to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    header.extend([0; 4]);
    header
}

/// With its length in front.
fn complete(mut request: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(request.len()).unwrap_or(u32::MAX);
    for (to, from) in request.iter_mut().zip(len.to_le_bytes()) {
        *to = from;
    }
    request
}

fn request(input: &mut Input<'_>) -> Vec<u8> {
    let (opcode, shape) = (input.u8(), input.u8());
    let user = match shape & 1 {
        0 => 0,
        _ => 1000,
    };
    // A number of ours, or any.
    let node = match shape & 2 {
        0 => input.u8().into(),
        _ => input.u64(),
    };
    let len = usize::from(input.u8()) * if shape & 4 == 0 { 1 } else { 64 };
    let mut request = header(opcode.into(), node, user);
    request.extend(input.take(len));
    match shape & 24 {
        // More or less than there is.
        8 => {
            let said = input.u32();
            request.get_mut(..4).into_iter().for_each(|field| {
                field.copy_from_slice(&said.to_le_bytes());
            });
            request
        }
        // Data of zeros after it.
        16 => {
            request.resize(request.len() + usize::from(input.u16()), 0);
            complete(request)
        }
        // Extensions at its end.
        24 => {
            let words = input.u16();
            request
                .get_mut(HEADER - 4..HEADER - 2)
                .into_iter()
                .for_each(|field| field.copy_from_slice(&words.to_le_bytes()));
            complete(request)
        }
        _ => complete(request),
    }
}

/// Sends `request` in as many pieces as `layout` says, with as much room for an
/// answer, and waits for that.
fn send(guest: &mut Guest, queue: usize, layout: u8, request: &[u8]) {
    let pieces = usize::from(layout >> 3 & 3) + 1;
    let room: u32 = match layout >> 5 & 3 {
        0 => 0x1000,
        1 => 0x4_0000,
        2 => 16,
        _ => 0,
    };
    guest.store(BUFFERS, request);
    let mut descriptors = Vec::new();
    let mut at = BUFFERS;
    for piece in request.chunks(request.len().div_ceil(pieces).max(1)) {
        descriptors.push((at, u32::try_from(piece.len()).unwrap_or(0), NEXT));
        at += piece.len() as u64;
    }
    match room {
        0 => {}
        // An answer's header apart.
        room if layout & 4 != 0 => {
            descriptors.push((REPLIES, 16, WRITE | NEXT));
            descriptors.push((REPLIES + 16, room, WRITE | NEXT));
        }
        room => descriptors.push((REPLIES, room, WRITE | NEXT)),
    }
    if let Some((.., flags)) = descriptors.last_mut() {
        *flags &= !NEXT;
    }
    let bytes = |index: usize, (at, len, flags): (u64, u32, u16)| {
        let next = u16::try_from(index + 1).unwrap_or(0);
        descriptor(at, len, flags, next)
    };
    let table: Vec<[u8; 16]> = (descriptors.into_iter().enumerate())
        .map(|(index, descriptor)| bytes(index, descriptor))
        .collect();
    if layout & 0x80 == 0 {
        for (index, bytes) in (0..).zip(&table) {
            guest.describe(queue, index, bytes);
        }
    } else {
        guest.store(TABLES, &table.concat());
        let len = u32::try_from(table.len() * 16).unwrap_or(0);
        guest.describe(queue, 0, &descriptor(TABLES, len, INDIRECT, 0));
    }
    guest.exchange(queue, 0);
}

/// Descriptors as they come, and a request where some of them may be.
fn raw(guest: &mut Guest, queue: usize, input: &mut Input<'_>) {
    let count = u16::from(input.u8() % 8) + 1;
    for index in 0..count {
        let shape = input.u8();
        let at = match shape & 1 {
            0 => BUFFERS + u64::from(input.u16()),
            _ => input.u64(),
        };
        let len = match shape & 2 {
            0 => input.u16().into(),
            _ => input.u32(),
        };
        // One beyond the table is among them.
        let next = u16::from(input.u8()) % (SIZE + 1);
        let flags = u16::from(shape >> 2);
        guest.describe(queue, index, &descriptor(at, len, flags, next));
    }
    let request = request(input);
    guest.store(BUFFERS, &request);
    let head = input.u8();
    guest.exchange(queue, u16::from(head) % (SIZE + 1));
}

fn descriptor(at: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&at.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}
