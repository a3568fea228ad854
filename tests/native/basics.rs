//! The everyday operations, in every cache mode.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::fixture::{MODES, Place, mapped_modes, names, on_share, pattern, text};
use crate::mapping;

const MEBIBYTE: usize = 1 << 20;

#[test]
fn what_is_written_is_read_and_is_on_the_host() {
    let len = 5 * MEBIBYTE + 4321;
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                let path = mount.join("file");
                let mut file = OpenOptions::new()
                    .create_new(true)
                    .read(true)
                    .write(true)
                    .open(&path)
                    .unwrap();
                file.write_all(&pattern(1, len)).unwrap();
                file.write_all_at(b"in between", 4090).unwrap();
                file.seek(SeekFrom::Start(0)).unwrap();
                let mut back = Vec::new();
                file.read_to_end(&mut back).unwrap();
                assert_eq!(back.len(), len);
                assert_eq!(&back[4090..4100], b"in between");
                file.set_len(6000).unwrap();
                assert_eq!(fs::metadata(&path).unwrap().len(), 6000);
            },
            |directory| {
                let mut expected = pattern(1, 6000);
                expected[4090..4100].copy_from_slice(b"in between");
                assert!(fs::read(directory.join("file")).unwrap() == expected);
            },
        );
    }
}

#[test]
fn a_file_that_is_opened_to_be_overwritten_is_empty() {
    const SIZE: usize = 3 * 4096;
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                // What was only stored so far goes as well.
                let dirty = |file: &File| match mapped_modes().contains(&mode) {
                    true => mapping::store(file, SIZE, 4096, b"not synced").unwrap(),
                    false => file.write_all_at(b"not synced", 4096).unwrap(),
                };
                let accesses = [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR];
                for (number, access) in accesses.into_iter().enumerate() {
                    let path = mount.join(number.to_string());
                    fs::write(&path, pattern(1, SIZE)).unwrap();
                    let bits = fs::Permissions::from_mode(0o6755);
                    fs::set_permissions(&path, bits).unwrap();
                    let file = OpenOptions::new().read(true).write(true).open(&path);
                    let file = file.unwrap();
                    dirty(&file);
                    let emptied =
                        rustix::fs::open(&path, access | OFlags::TRUNC, Mode::empty()).unwrap();
                    assert_eq!(file.metadata().unwrap().len(), 0, "{mode} {access:?}");
                    assert!(fs::read(&path).unwrap().is_empty(), "{mode} {access:?}");
                    // Root's truncation takes nothing away.
                    let bits = file.metadata().unwrap().mode() & 0o7777;
                    assert_eq!(bits, 0o6755, "{mode} {access:?}");
                    drop(emptied);
                    file.sync_all().unwrap();
                    file.write_all_at(b"new", 5).unwrap();
                    assert!(fs::read(&path).unwrap() == b"\0\0\0\0\0new", "{mode}");
                }
            },
            |directory| {
                for name in ["0", "1", "2"] {
                    let bytes = fs::read(directory.join(name)).unwrap();
                    assert!(bytes == b"\0\0\0\0\0new", "{mode} {name}");
                }
            },
        );
    }
}

#[test]
fn a_rename_replaces_and_a_removal_removes() {
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                fs::create_dir_all(mount.join("a/b")).unwrap();
                fs::write(mount.join("old"), "old").unwrap();
                fs::write(mount.join("a/new"), "new").unwrap();
                fs::write(mount.join("gone"), "gone").unwrap();
                fs::hard_link(mount.join("old"), mount.join("a/link")).unwrap();
                let mut open = File::open(mount.join("gone")).unwrap();
                fs::remove_file(mount.join("gone")).unwrap();
                fs::rename(mount.join("a/new"), mount.join("old")).unwrap();
                fs::rename(mount.join("a"), mount.join("c")).unwrap();
                let mut text = String::new();
                open.read_to_string(&mut text).unwrap();
                assert_eq!(text, "gone");
                assert_eq!(names(mount), ["c", "old"]);
                assert_eq!(names(&mount.join("c")), ["b", "link"]);
                assert_eq!(fs::read(mount.join("old")).unwrap(), b"new");
            },
            |directory| {
                assert_eq!(names(directory), ["c", "old"]);
                assert_eq!(fs::read(directory.join("old")).unwrap(), b"new");
                assert_eq!(fs::read(directory.join("c/link")).unwrap(), b"old");
            },
        );
    }
}

#[test]
fn a_file_gets_more_names_than_the_server_remembers() {
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                fs::write(mount.join("0"), "").unwrap();
                for n in 1..40 {
                    fs::hard_link(mount.join("0"), mount.join(n.to_string())).unwrap();
                }
            },
            |directory| assert_eq!(fs::metadata(directory.join("0")).unwrap().nlink(), 40),
        );
    }
}

#[test]
fn a_file_is_as_old_as_it_is_on_the_host() {
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                let file = File::create(mount.join("file")).unwrap();
                let created = file.metadata().unwrap().created().unwrap();
                fs::set_permissions(mount.join("file"), PermissionsExt::from_mode(0o600)).unwrap();
                let now = fs::metadata(mount.join("file")).unwrap();
                assert_eq!(now.created().unwrap(), created);
                fs::write(mount.join("created"), format!("{created:?}")).unwrap();
            },
            |directory| {
                let file = fs::metadata(directory.join("file")).unwrap();
                let created = format!("{:?}", file.created().unwrap());
                assert_eq!(
                    fs::read_to_string(directory.join("created")).unwrap(),
                    created
                );
            },
        );
    }
}

#[test]
fn acls_are_kept_on_the_host_and_decide_in_the_guest() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can be two users"
    );
    let place = Place::new();
    let script = "umask 077; echo text >file; mkdir d; setfacl -d -m u::rwx,g::rx,o::rx d
                  umask 077; echo text >d/open; stat -c %a d/open
                  as() { setpriv --reuid 1234 --regid 1234 --clear-groups \"$@\"; }
                  chmod 711 .; as cat file 2>/dev/null || echo refused
                  setfacl -m u:1234:r file; as cat file; getfacl -cp file | grep 1234";
    let output = place.shell("acl,cache=auto", script);
    assert_eq!(
        text(&output),
        "644\nrefused\ntext\nuser:1234:r--\n",
        "{output:?}"
    );
    let getfacl = std::process::Command::new("getfacl")
        .arg("-cp")
        .arg(place.directory().join("file"))
        .output()
        .unwrap();
    assert!(text(&getfacl).contains("user:1234:r--"), "{getfacl:?}");

    let output = place.shell("cache=auto", "setfacl -m u:1:r file");
    assert!(text(&output).contains("not supported"), "{output:?}");
}

#[test]
fn a_shared_mapping_reaches_the_host() {
    for mode in mapped_modes() {
        on_share(
            mode,
            |mount| {
                let path = mount.join("mapped");
                fs::write(&path, pattern(0, 2 * MEBIBYTE)).unwrap();
                let file = OpenOptions::new().read(true).write(true).open(&path);
                let file = file.unwrap();
                let text = b"through a mapping";
                mapping::write(&file, 2 * MEBIBYTE, 12_293, text).unwrap();
                assert_eq!(
                    &fs::read(&path).unwrap()[12_293..12_310],
                    b"through a mapping"
                );
            },
            |directory| {
                let mut expected = pattern(0, 2 * MEBIBYTE);
                expected[12_293..12_310].copy_from_slice(b"through a mapping");
                assert!(fs::read(directory.join("mapped")).unwrap() == expected);
            },
        );
    }
}

#[test]
fn without_a_page_cache_an_older_kernel_has_no_shared_mapping() {
    on_share(
        "cache=never",
        |mount| {
            let path = mount.join("file");
            fs::write(&path, pattern(0, 4096)).unwrap();
            let file = OpenOptions::new().read(true).write(true).open(&path);
            let outcome = mapping::write(&file.unwrap(), 4096, 0, b"text");
            let expected = match mapped_modes().contains(&"cache=never") {
                true => Ok(()),
                false => Err(Errno::NODEV),
            };
            assert_eq!(outcome, expected);
        },
        |_| {},
    );
}

#[test]
fn a_mapping_is_what_reads_and_writes_see() {
    for mode in mapped_modes() {
        on_share(
            mode,
            |mount| {
                let path = mount.join("file");
                fs::write(&path, pattern(0, 8192)).unwrap();
                let file = OpenOptions::new().read(true).write(true).open(&path);
                let file = file.unwrap();
                let while_mapped = || {
                    // Stored a moment ago and not synced.
                    let mut stored = [0; 4];
                    file.read_exact_at(&mut stored, 5000).unwrap();
                    assert_eq!(&stored, b"text");
                    file.write_all_at(b"other", 100).unwrap();
                };
                mapping::write_and(&file, 8192, 5000, b"text", while_mapped).unwrap();
                assert_eq!(&fs::read(&path).unwrap()[100..105], b"other");
            },
            |directory| {
                let bytes = fs::read(directory.join("file")).unwrap();
                assert_eq!(
                    (&bytes[100..105], &bytes[5000..5004]),
                    (&b"other"[..], &b"text"[..])
                );
            },
        );
    }
}

#[test]
fn two_threads_get_what_each_of_them_wrote() {
    for mode in MODES {
        on_share(
            mode,
            |mount| {
                thread::scope(|scope| {
                    for thread in 0..2_u8 {
                        scope.spawn(move || {
                            for number in 0..40_u8 {
                                let path = mount.join(format!("{thread}-{number}"));
                                let text = pattern(thread ^ number, 10_000);
                                let mut file = File::create(&path).unwrap();
                                file.write_all(&text).unwrap();
                                file.sync_all().unwrap();
                                assert!(fs::read(&path).unwrap() == text);
                                if number % 2 == 1 {
                                    fs::remove_file(&path).unwrap();
                                }
                            }
                        });
                    }
                });
            },
            |directory| assert_eq!(names(directory).len(), 40),
        );
    }
}
