//! READ and WRITE between files and guest pages.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::guest::{UNTOUCHED, exchange, exchange_scattered};
use super::requests::{init, read, write};
use crate::filesystem::{
    AttributeOperations, CreateOperations, DirectoryOperations, FileOperations, FileSystem,
    IoctlOperations, LockOperations, LookupOperations, MappingOperations, Position, ReadArgs,
    RemoveOperations, ReplyData, Request, RequestData, Result, WriteArgs, XattrOperations,
};
use crate::fuse::Server;

/// A file system with one open file, and no more of a mind than a test gives
/// it.
struct OneFile {
    file: File,
    /// Where it reads and writes; where the request says, unless told.
    position: Option<Position>,
    /// What to claim as read or written instead of the truth.
    claim: Mutex<Option<usize>>,
}

impl OneFile {
    fn position(&self, offset: u64) -> Position {
        self.position.unwrap_or(Position::At(offset))
    }

    fn claim(&self, truth: usize) -> usize {
        self.claim.lock().unwrap().unwrap_or(truth)
    }
}

impl FileSystem for OneFile {}
impl LookupOperations for OneFile {}
impl CreateOperations for OneFile {}
impl RemoveOperations for OneFile {}
impl AttributeOperations for OneFile {}
impl DirectoryOperations for OneFile {}
impl XattrOperations for OneFile {}
impl LockOperations for OneFile {}
impl IoctlOperations for OneFile {}
impl MappingOperations for OneFile {}

impl FileOperations for OneFile {
    fn read(&self, _: &Request<'_>, args: &ReadArgs, data: &mut dyn ReplyData) -> Result<usize> {
        let size = args.size as usize;
        assert_eq!(data.space(), size);
        let count = data.fill_from(&self.file, usize::MAX, self.position(args.offset))?;
        assert_eq!(data.space(), size - count);
        assert_eq!(data.put(&vec![0; size + 1]), Err(Errno::IO));
        Ok(self.claim(count))
    }

    fn write(
        &self,
        _: &Request<'_>,
        args: &WriteArgs,
        data: &mut dyn RequestData,
    ) -> Result<usize> {
        let size = args.size as usize;
        assert_eq!(data.remaining(), size);
        assert_eq!(data.take(&mut vec![0; size + 1]), Err(Errno::IO));
        let count = data.drain_to(&self.file, usize::MAX, self.position(args.offset))?;
        assert_eq!(data.remaining(), size - count);
        Ok(self.claim(count))
    }
}

fn serving(file: File, position: Option<Position>) -> (Server, Arc<OneFile>) {
    let fs = Arc::new(OneFile {
        file,
        position,
        claim: Mutex::new(None),
    });
    let server = Server::new(fs.clone());
    exchange(&server, &init(7, 38, 0), 80).assert_success(64);
    (server, fs)
}

fn file_with(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn content(mut file: &File) -> Vec<u8> {
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}

/// Bytes with no short period.
fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + (at >> 8) * 7) as u8).collect()
}

#[test]
fn a_read_fills_scattered_pages_in_order() {
    let noise = noise(20_000);
    let (server, _) = serving(file_with(&noise), None);
    let request = read(12_000, 1234).finish();
    // The header shares its page with the first data.
    let rooms = [100, 4096, 1, 4096, 4000];
    let answer = exchange_scattered(&server, &[&request], &rooms);
    answer.assert_success(12_000);
    assert_eq!(answer.body(), &noise[1234..13_234]);
    assert!(
        answer.memory[12_016..]
            .iter()
            .all(|byte| *byte == UNTOUCHED)
    );
}

#[test]
fn a_read_over_the_end_is_as_long_as_the_file() {
    let (server, _) = serving(file_with(b"0123456789"), None);
    let answer = exchange(&server, &read(100, 4).finish(), 116);
    answer.assert_success(6);
    assert_eq!(answer.body(), b"456789");
    exchange(&server, &read(100, 10).finish(), 116).assert_success(0);
    exchange(&server, &read(0, 0).finish(), 16).assert_success(0);
}

#[test]
fn a_read_never_goes_beyond_what_was_asked_for() {
    let (server, _) = serving(file_with(&noise(100)), None);
    let answer = exchange(&server, &read(10, 0).finish(), 116);
    answer.assert_success(10);
    assert!(answer.memory[26..].iter().all(|byte| *byte == UNTOUCHED));
}

#[test]
fn a_read_of_a_stream_takes_what_is_there() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"stream").unwrap();
    let (server, _) = serving(
        File::from(std::os::fd::OwnedFd::from(reader)),
        Some(Position::Current),
    );
    let answer = exchange(&server, &read(100, 0).finish(), 116);
    answer.assert_success(6);
    assert_eq!(answer.body(), b"stream");
}

#[test]
fn a_read_counts_what_is_really_in_the_reply() {
    let (server, fs) = serving(file_with(b"0123456789"), None);
    *fs.claim.lock().unwrap() = Some(usize::MAX);
    exchange(&server, &read(5, 0).finish(), 116).assert_success(5);
    *fs.claim.lock().unwrap() = Some(2);
    exchange(&server, &read(5, 0).finish(), 116).assert_success(2);
}

#[test]
fn a_write_comes_from_scattered_pages_in_order() {
    let noise = noise(9_000);
    let (server, fs) = serving(tempfile::tempfile().unwrap(), None);
    let request = write(9_000, 100, &noise).finish();
    let pieces: Vec<&[u8]> = request.chunks(1000).collect();
    let answer = exchange_scattered(&server, &pieces, &[10, 14]);
    answer.assert_success(8);
    assert_eq!(answer.u32(16), 9_000);
    let content = content(&fs.file);
    assert_eq!(content[..100], [0; 100]);
    assert_eq!(content[100..], noise);
}

#[test]
fn the_largest_write_and_read_go_through_in_one_piece() {
    let noise = noise(1 << 20);
    let (server, fs) = serving(tempfile::tempfile().unwrap(), None);
    let request = write(1 << 20, 0, &noise).finish();
    let (head, data) = request.split_at(80);
    let mut pieces = vec![head];
    pieces.extend(data.chunks(4096));
    let answer = exchange_scattered(&server, &pieces, &[24]);
    answer.assert_success(8);
    assert_eq!(answer.u32(16), 1 << 20);
    assert!(content(&fs.file) == noise);
    let mut rooms = vec![16];
    rooms.extend([4096; 256]);
    let request = read(1 << 20, 0).finish();
    let answer = exchange_scattered(&server, &[&request], &rooms);
    answer.assert_success(1 << 20);
    assert!(answer.body() == noise);
}

#[test]
fn a_write_of_nothing_is_answered() {
    let (server, _) = serving(tempfile::tempfile().unwrap(), None);
    let answer = exchange(&server, &write(0, 0, &[]).finish(), 24);
    answer.assert_success(8);
    assert_eq!(answer.u32(16), 0);
}

#[test]
fn a_write_to_a_stream_goes_where_the_stream_is() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (server, fs) = serving(
        File::from(std::os::fd::OwnedFd::from(writer)),
        Some(Position::Current),
    );
    exchange(&server, &write(3, 77, b"abc").finish(), 24).assert_success(8);
    drop((server, fs));
    let mut taken = Vec::new();
    reader.read_to_end(&mut taken).unwrap();
    assert_eq!(taken, b"abc");
}

#[test]
fn a_write_never_claims_more_than_was_sent() {
    let (server, fs) = serving(tempfile::tempfile().unwrap(), None);
    for claim in [4, usize::MAX] {
        *fs.claim.lock().unwrap() = Some(claim);
        let answer = exchange(&server, &write(3, 0, b"abc").finish(), 24);
        assert_eq!(answer.u32(16), 3);
    }
}

#[test]
fn an_offset_beyond_the_largest_file_is_refused() {
    let (server, fs) = serving(file_with(b"0123456789"), None);
    for offset in [1 << 63, u64::MAX] {
        exchange(&server, &read(5, offset).finish(), 116).assert_errno(Errno::INVAL);
        let request = write(3, offset, b"abc").finish();
        exchange(&server, &request, 24).assert_errno(Errno::INVAL);
    }
    assert_eq!(content(&fs.file), b"0123456789");
}

#[test]
fn the_errno_of_the_host_reaches_the_guest_and_the_file_stays_open() {
    let dir = File::open("/").unwrap();
    let descriptor = dir.as_raw_fd();
    let (server, fs) = serving(dir, None);
    exchange(&server, &read(5, 0).finish(), 116).assert_errno(Errno::ISDIR);
    exchange(&server, &write(3, 0, b"abc").finish(), 24).assert_errno(Errno::BADF);
    assert_eq!(fs.file.as_raw_fd(), descriptor);
    assert!(fs.file.metadata().unwrap().is_dir(), "closed or replaced");
}

#[test]
fn a_write_to_the_end_goes_there_from_scattered_pages() {
    let noise = noise(9000);
    let (server, fs) = serving(file_with(b"before"), Some(Position::End));
    for part in noise.chunks(3000) {
        // Wherever the file and the request are.
        (&fs.file).seek(SeekFrom::Start(1)).unwrap();
        let request = write(3000, 2, part).finish();
        let pieces: Vec<&[u8]> = request.chunks(700).collect();
        let answer = exchange_scattered(&server, &pieces, &[24]);
        answer.assert_success(8);
        assert_eq!(answer.u32(16), 3000);
    }
    assert_eq!(content(&fs.file), [&b"before"[..], &noise].concat());
}
