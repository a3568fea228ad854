//! Files opened by what `name_to_handle_at(2)` says of them.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::fixture::on_share;

/// `struct file_handle` with room for any.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

fn handle_of(path: &Path) -> Handle {
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        data: [0; 128],
    };
    let mut mount = 0_i32;
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: `handle` is a `struct file_handle` with as much room as it says,
    // and everything lives across the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    };
    assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    handle
}

fn open(mount: &File, handle: &Handle) -> io::Result<File> {
    // SAFETY: `handle` was filled by the kernel and is not changed.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &raw const *handle,
            libc::O_RDONLY,
        )
    };
    let fd = i32::try_from(fd).unwrap();
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Opens a file and a directory by handle after the guest has dropped them from
/// its cache, again and again until `enough` says so.
fn opened_later(mount: &Path, enough: impl Fn(&io::Result<File>) -> bool) {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root opens by handle"
    );
    fs::create_dir_all(mount.join("a/b")).unwrap();
    fs::write(mount.join("a/b/file"), "text").unwrap();
    let handles = ["a/b/file", "a/b"].map(|path| handle_of(&mount.join(path)));
    let root = File::open(mount).unwrap();
    for handle in &handles {
        let mut patience = 100;
        loop {
            fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
            // FORGET is on its way.
            thread::sleep(Duration::from_millis(20));
            let outcome = open(&root, handle);
            if enough(&outcome) {
                break;
            }
            patience -= 1;
            assert!(patience > 0, "{outcome:?}");
        }
    }
}

#[test]
fn an_exported_share_opens_what_the_guest_has_forgotten() {
    for mode in [
        "export,cache=never",
        "export,cache=auto",
        "export,cache=always",
    ] {
        on_share(
            mode,
            |mount| {
                opened_later(mount, |outcome| {
                    let mut file = outcome.as_ref().unwrap();
                    if file.metadata().unwrap().is_file() {
                        let mut text = String::new();
                        file.read_to_string(&mut text).unwrap();
                        assert_eq!(text, "text");
                    } else {
                        // A directory is where it was.
                        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
                        assert_eq!(fs::read_link(link).unwrap(), mount.join("a/b"));
                    }
                    true
                });
            },
            |_| {},
        );
    }
}

#[test]
fn another_share_says_that_it_is_gone() {
    on_share(
        "cache=auto",
        |mount| {
            opened_later(mount, |outcome| {
                let stale = |error: &io::Error| error.raw_os_error() == Some(libc::ESTALE);
                outcome.as_ref().is_err_and(stale)
            });
        },
        |_| {},
    );
}
