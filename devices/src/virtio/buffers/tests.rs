//! Buffers in several parts.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::*;

/// Two parts of one memory that do not touch: 3 bytes and 5.
fn parts(memory: &mut [u8; 16]) -> [VolatileSlice<'_>; 3] {
    let whole = VolatileSlice::from(memory.as_mut_slice());
    let part = |at, len| whole.subslice(at, len).unwrap();
    [part(1, 3), part(6, 0), part(8, 5)]
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn content(mut file: File) -> Vec<u8> {
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}

#[test]
fn bytes_are_read_across_parts_and_once() {
    let mut memory = *b"_abc____defgh___";
    let parts = parts(&mut memory);
    let mut readable = Readable::new(&parts);
    assert_eq!(readable.remaining(), 8);
    let mut bytes = [0; 2];
    readable.read(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ab");
    let mut again = readable;
    for readable in [&mut readable, &mut again] {
        let mut bytes = [0; 3];
        readable.read(&mut bytes).unwrap();
        assert_eq!(&bytes, b"cde");
    }
    let mut bytes = [0xee; 4];
    assert_eq!(readable.read(&mut bytes), Err(Short));
    assert_eq!((bytes, readable.remaining()), ([0xee; 4], 3));
    readable.read(&mut bytes[..3]).unwrap();
    assert_eq!(&bytes[..3], b"fgh");
    assert_eq!(readable.read(&mut []), Ok(()));
}

#[test]
fn what_is_split_off_is_apart() {
    let mut memory = *b"_abc____defgh___";
    let parts = parts(&mut memory);
    for at in 0..=8 {
        let mut first = Readable::new(&parts);
        let mut second = first.split_off(at).unwrap();
        assert_eq!((first.remaining(), second.remaining()), (at, 8 - at));
        let mut bytes = [0; 9];
        assert_eq!(first.read(&mut bytes[..=at]), Err(Short));
        first.read(&mut bytes[..at]).unwrap();
        second.read(&mut bytes[at..8]).unwrap();
        assert_eq!(&bytes[..8], b"abcdefgh");
    }
    assert!(Readable::new(&parts).split_off(9).is_err());
}

#[test]
fn bytes_are_written_into_the_parts_and_nowhere_else() {
    let mut memory = [b'_'; 16];
    let parts = parts(&mut memory);
    let mut header = Writable::new(&parts);
    let mut body = header.split_off(4).unwrap();
    assert_eq!(body.write(b"12345"), Err(Short));
    body.write(b"efgh").unwrap();
    assert_eq!(header.write(b"abcde"), Err(Short));
    header.write(b"abcd").unwrap();
    assert_eq!((header.remaining(), body.remaining()), (0, 0));
    assert_eq!(&memory, b"_abc____defgh___");
}

#[test]
fn files_are_read_into_the_parts() {
    let mut memory = [b'_'; 16];
    let parts = parts(&mut memory);
    let mut writable = Writable::new(&parts);
    let file = file(b"0123456789");
    assert_eq!(writable.read_from_at(&file, 2, 4).unwrap(), 2);
    { &file }.seek(SeekFrom::Start(1)).unwrap();
    assert_eq!(writable.read_from(&file, 4).unwrap(), 4);
    assert_eq!(writable.remaining(), 2);
    // Up to the end of the file, and what there is room for.
    assert_eq!(writable.read_from_at(&file, 9, 9).unwrap(), 1);
    assert_eq!(writable.read_from_at(&file, 9, 3).unwrap(), 1);
    assert_eq!(writable.read_from_at(&file, 9, 3).unwrap(), 0);
    assert_eq!({ &file }.stream_position().unwrap(), 5);
    assert_eq!(&memory, b"_451____23493___");
}

#[test]
fn files_are_written_from_the_parts() {
    let mut memory = *b"_abc____defgh___";
    let parts = parts(&mut memory);
    let mut readable = Readable::new(&parts);
    let file = file(b"0123456789");
    file.write_all_at(b"x", 0).unwrap();
    { &file }.seek(SeekFrom::Start(1)).unwrap();
    assert_eq!(readable.write_to_at(&file, 2, 4).unwrap(), 2);
    assert_eq!(readable.write_to(&file, 3).unwrap(), 3);
    assert_eq!(readable.append_to(&file, 2).unwrap(), 2);
    assert_eq!(readable.remaining(), 1);
    assert_eq!(readable.write_to_at(&file, 9, 9).unwrap(), 1);
    assert_eq!(content(file), b"xcdeab678hfg");
}

#[test]
fn offsets_that_no_file_has_are_refused() {
    let mut memory = [0; 16];
    let parts = parts(&mut memory);
    let file = file(b"");
    let beyond = 1 << 63;
    let error = (Writable::new(&parts).read_from_at(&file, 1, beyond)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    let error = (Readable::new(&parts).write_to_at(&file, 1, beyond)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn an_error_of_the_host_uses_nothing_up() {
    let mut memory = [0; 16];
    let parts = parts(&mut memory);
    let unreadable = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .unwrap();
    let mut writable = Writable::new(&parts);
    let error = writable.read_from(&unreadable, 8).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    assert_eq!(writable.remaining(), 8);
}

#[test]
fn no_more_parts_are_passed_than_a_call_takes() {
    let mut memory = vec![7_u8; 2000];
    let whole = VolatileSlice::from(memory.as_mut_slice());
    let parts: Vec<_> = (0..2000).map(|at| whole.subslice(at, 1).unwrap()).collect();
    let file = file(b"");
    let mut readable = Readable::new(&parts);
    assert_eq!(readable.write_to_at(&file, 2000, 0).unwrap(), 1024);
    assert_eq!(readable.remaining(), 976);
}
