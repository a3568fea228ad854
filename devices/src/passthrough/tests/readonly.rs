//! A read-only share: every change is refused by this side, and the host's
//! tree stays byte for byte what it was, times included.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

use super::fixture::operations::*;
use super::fixture::{
    Data, GUEST_ROOT, Share, attribute, by, moved_to, name, node, opening, writing,
};
use crate::filesystem::{FallocateArgs, ROOT, SetAttributes, SetTime};
use crate::passthrough::Config;

/// Everything `stat` tells about every file below `path`, and the contents.
fn picture(path: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut left = vec![path.to_path_buf()];
    while let Some(at) = left.pop() {
        let m = at.symlink_metadata().unwrap();
        let times = (
            m.atime_nsec(),
            m.atime(),
            m.mtime_nsec(),
            m.mtime(),
            m.ctime(),
            m.ctime_nsec(),
        );
        let what = (m.ino(), m.mode(), m.nlink(), m.uid(), m.gid(), m.size());
        all.push(format!("{} {times:?} {what:?}", at.display()));
        if m.is_dir() {
            left.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
        }
    }
    all.sort();
    all
}

#[test]
fn nothing_changes_and_every_attempt_is_erofs() {
    let share = Share::with(Config {
        read_only: true,
        ..Config::default()
    });
    std::fs::write(share.path("f"), b"contents").unwrap();
    std::fs::create_dir(share.path("d")).unwrap();
    std::fs::write(share.path("d/g"), b"g").unwrap();
    // An access time older than the last change is one that reading updates.
    std::fs::File::open(share.path("f"))
        .unwrap()
        .set_times(std::fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH))
        .unwrap();
    picture(share.outside());
    let before = picture(share.outside());
    let file = share.walk("f").unwrap();
    let directory = share.walk("d").unwrap();
    let opened = share.open(file, libc::O_RDONLY).unwrap();
    let fs = &share.fs;
    let who = &GUEST_ROOT;
    let (f, new) = (name("f"), name("new"));
    let mode = SetAttributes {
        mode: Some(0o777),
        ..SetAttributes::default()
    };
    let times = SetAttributes {
        atime: Some(SetTime::Now),
        ..SetAttributes::default()
    };
    let size = SetAttributes {
        size: Some(0),
        ..SetAttributes::default()
    };
    let open = |flags: i32| share.open(file, flags).map(drop);
    let create = |child, flags: i32| {
        let flags = flags.cast_unsigned();
        fs.create(&by(who, ROOT), child, &node(0o644), opening(flags, false))
            .map(drop)
    };

    let outcomes = [
        open(libc::O_WRONLY),
        open(libc::O_RDWR),
        open(libc::O_RDONLY | libc::O_TRUNC),
        create(&new, libc::O_RDWR),
        create(&f, libc::O_RDONLY),
        fs.mkdir(&by(who, ROOT), &new, &node(0o755)).map(drop),
        fs.mknod(&by(who, ROOT), &new, &node(0o644)).map(drop),
        fs.symlink(&by(who, ROOT), &new, &f).map(drop),
        fs.link(&by(who, ROOT), &new, file).map(drop),
        fs.unlink(&by(who, ROOT), &f),
        fs.rmdir(&by(who, ROOT), &name("d")),
        fs.rename(&by(who, ROOT), &f, moved_to(directory, &new, 0)),
        fs.setattr(&by(who, file), None, &mode).map(drop),
        fs.setattr(&by(who, file), None, &times).map(drop),
        fs.setattr(&by(who, file), Some(opened.handle), &size)
            .map(drop),
        fs.setxattr(&by(who, file), c"user.x", &attribute(b"1", 0, false)),
        fs.removexattr(&by(who, file), c"user.x"),
        fs.fallocate(
            &by(who, file),
            &FallocateArgs {
                handle: opened.handle,
                mode: 0,
                offset: 0,
                length: 99,
            },
        ),
        fs.access(&by(who, file), 2),
        fs.write(
            &by(who, file),
            &writing(opened.handle, 0, b"x", 0),
            &mut Data(b"x"),
        )
        .map(drop),
    ];
    assert_eq!(outcomes, [Err(Errno::ROFS); 20]);
    assert_eq!(share.contents(file).unwrap(), b"contents");
    assert_eq!(share.list(ROOT, true, 4096).unwrap().len(), 4);
    assert_eq!(share.list(directory, true, 4096).unwrap().len(), 3);
    assert_eq!(fs.access(&by(who, file), 4), Ok(()));

    assert_eq!(picture(share.outside()), before);
}
