//! Files whose contents the host vouches for (fs-verity).
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use crate::fixture::{linux_since, not_tried, on_share, pattern};

/// `FS_IOC_ENABLE_VERITY` and `FS_IOC_MEASURE_VERITY` of `linux/fsverity.h`.
const ENABLE: u32 = 0x4080_6685;
const MEASURE: u32 = 0xc004_6686;

/// `struct fsverity_enable_arg`, without salt and signature.
#[repr(C)]
struct Enable {
    version: u32,
    /// 1 is SHA-256.
    hash: u32,
    block_size: u32,
    rest: [u32; 29],
}

/// `struct fsverity_digest` with room for that of SHA-256.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digest {
    hash: u16,
    size: u16,
    digest: [u8; 32],
}

fn call<T>(file: &File, command: u32, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: `argument` is the whole structure that the command takes, with as much
    // room as it says, exclusively borrowed across the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), command.into(), &raw mut *argument) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap()),
    }
}

fn enable(file: &File) -> Result<(), Errno> {
    let mut patience = 100;
    loop {
        let mut enable = Enable {
            version: 1,
            hash: 1,
            block_size: 4096,
            rest: [0; 29],
        };
        match call(file, ENABLE, &mut enable) {
            // The close of who wrote it is on its way.
            Err(Errno::TXTBSY) if patience > 0 => patience -= 1,
            outcome => return outcome,
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn measure(file: &File) -> Result<Digest, Errno> {
    let mut digest = Digest {
        hash: 0,
        size: 32,
        digest: [0; 32],
    };
    call(file, MEASURE, &mut digest).map(|()| digest)
}

/// What the mount is told of a digest, for the host to compare.
fn noted(digest: &Digest) -> String {
    format!("{digest:?}")
}

const REFUSED: &str = "refused";

#[test]
fn what_has_verity_is_only_read_and_is_measured_as_on_the_host() {
    for mode in ["cache=never", "cache=auto"] {
        on_share(mode, with_verity, is_verified);
    }
}

fn with_verity(mount: &Path) {
    let path = mount.join("file");
    fs::write(&path, pattern(1, 100_000)).unwrap();
    let file = File::open(&path).unwrap();
    match enable(&file) {
        Ok(()) => {}
        // The host's file system has none.
        Err(error @ (Errno::OPNOTSUPP | Errno::NOTTY)) => {
            fs::write(mount.join(REFUSED), error.to_string()).unwrap();
            assert!(fs::read(&path).unwrap() == pattern(1, 100_000));
            return;
        }
        Err(error) => panic!("{error}"),
    }
    assert_eq!(enable(&file), Err(Errno::EXIST));
    let written = File::options().write(true).open(&path).map(drop);
    let error = written.unwrap_err().raw_os_error();
    assert_eq!(error, Some(libc::EPERM));
    assert!(fs::read(&path).unwrap() == pattern(1, 100_000));
    // Linux asks for room for a digest since 6.10.
    if linux_since(6, 10) {
        let digest = measure(&file).unwrap();
        fs::write(mount.join("digest"), noted(&digest)).unwrap();
    }
    // It goes as any other.
    fs::write(mount.join("other"), "text").unwrap();
    fs::rename(mount.join("other"), mount.join("another")).unwrap();
}

fn is_verified(directory: &Path) {
    if let Ok(why) = fs::read_to_string(directory.join(REFUSED)) {
        return not_tried("files with verity", &why);
    }
    let digest = measure(&File::open(directory.join("file")).unwrap()).unwrap();
    assert_eq!((digest.hash, digest.size), (1, 32));
    if let Ok(told) = fs::read_to_string(directory.join("digest")) {
        assert_eq!(told, noted(&digest));
    }
}
