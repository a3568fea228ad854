//! Files that have no name at first (`O_TMPFILE`).

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::fixture::{MODES, names, on_share};

#[test]
fn a_file_without_a_name_is_written_and_then_linked() {
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                let open = |more: OFlags| {
                    let flags = OFlags::TMPFILE | OFlags::RDWR | more;
                    rustix::fs::open(mount, flags, Mode::from_raw_mode(0o640)).map(fs::File::from)
                };
                let mut file = open(OFlags::empty()).unwrap();
                assert_eq!(file.metadata().unwrap().nlink(), 0);
                file.write_all(b"all of it").unwrap();
                assert!(names(mount).is_empty());
                let link = |file: &fs::File, name: &str| {
                    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
                    let follow = AtFlags::SYMLINK_FOLLOW;
                    rustix::fs::linkat(CWD, from, CWD, mount.join(name), follow)
                };
                link(&file, "named").unwrap();
                assert_eq!(file.metadata().unwrap().nlink(), 1);
                file.write_all(b" and more").unwrap();
                let mut text = String::new();
                file.seek(SeekFrom::Start(0)).unwrap();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text, "all of it and more");
                let never = open(OFlags::EXCL).unwrap();
                assert_eq!(link(&never, "never"), Err(Errno::NOENT));
            },
            |directory| {
                assert_eq!(names(directory), ["named"]);
                let named = directory.join("named");
                assert_eq!(fs::read(&named).unwrap(), b"all of it and more");
                let status = fs::metadata(named).unwrap();
                assert_eq!((status.nlink(), status.mode() & 0o777), (1, 0o640));
            },
        );
    }
}
