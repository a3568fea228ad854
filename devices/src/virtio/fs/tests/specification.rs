//! Virtio 1.3, 5.11, clause by clause: what it says of the device, and a check of
//! each. The normative ones are all that its conformance clause for file system
//! devices names: of the configuration, the hiprio queue and the DAX window.

mod dax;
mod notifications;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;

use super::session::{FULL, Session, forget, fsync, init, read, request};
use super::*;
use crate::fuse::Opcode;

/// How much a clause demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// The device MUST or MUST NOT.
    Must,
    /// The device MAY.
    May,
    /// The clause says what is so.
    Is,
    /// The driver MUST or MUST NOT, and the device has to live with one that
    /// does otherwise.
    Driver,
}

struct Clause {
    number: &'static str,
    level: Level,
    /// In other words than the specification's.
    says: &'static str,
    check: fn(),
}

const CLAUSES: &[Clause] = &[
    Clause {
        number: "5.11.1",
        level: Level::Is,
        says: "the device ID is 26",
        check: the_device_id,
    },
    Clause {
        number: "5.11.2",
        level: Level::Is,
        says: "queue 0 is hiprio, and without notifications the others are for requests",
        check: the_queues,
    },
    Clause {
        number: "5.11.3",
        level: Level::Is,
        says: "feature 0 is for notifications, and the device that has none offers it not",
        check: the_features,
    },
    Clause {
        number: "5.11.3 (2.2.2)",
        level: Level::Must,
        says: "a feature that was not offered cannot be had",
        check: no_other_features,
    },
    Clause {
        number: "5.11.4",
        level: Level::Is,
        says: "the tag is UTF-8, with NULs behind it where there is room",
        check: the_tag,
    },
    Clause {
        number: "5.11.4",
        level: Level::Is,
        says: "tag and num_request_queues are always there",
        check: the_fields,
    },
    Clause {
        number: "5.11.4.1",
        level: Level::Driver,
        says: "nobody writes to the configuration space",
        check: the_configuration_is_not_to_be_written,
    },
    Clause {
        number: "5.11.4.1",
        level: Level::Driver,
        says: "a driver may use any number of the request queues",
        check: any_number_of_queues,
    },
    Clause {
        number: "5.11.4.2",
        level: Level::Must,
        says: "num_request_queues is 1 at least",
        check: at_least_one_request_queue,
    },
    Clause {
        number: "5.11.5",
        level: Level::Is,
        says: "one INIT, on any request queue, begins the session of all queues",
        check: one_session_for_all_queues,
    },
    Clause {
        number: "5.11.6.1",
        level: Level::Is,
        says: "a request is a readable part, then a writable one that takes the answer",
        check: the_format,
    },
    Clause {
        number: "5.11.6.1",
        level: Level::May,
        says: "requests are done in any order",
        check: any_order,
    },
    Clause {
        number: "5.11.6.1",
        level: Level::Is,
        says: "the next INIT ends the session and begins another",
        check: the_next_init,
    },
    Clause {
        number: "5.11.6.1",
        level: Level::Is,
        says: "INIT shows the byte order: one that is not this machine's begins no session",
        check: the_other_byte_order,
    },
    Clause {
        number: "5.11.6.2",
        level: Level::Is,
        says: "hiprio has INTERRUPT, FORGET and BATCH_FORGET, in the same format",
        check: what_hiprio_has,
    },
    Clause {
        number: "5.11.6.2.1",
        level: Level::Must,
        says: "nothing on a request queue makes the device pause with hiprio",
        check: hiprio_does_not_pause,
    },
    Clause {
        number: "5.11.6.2.1",
        level: Level::May,
        says: "hiprio and request queues are served side by side",
        check: hiprio_does_not_pause,
    },
    Clause {
        number: "5.11.6.2.2",
        level: Level::Driver,
        says: "no other request comes by hiprio, and none of these by a request queue",
        check: requests_on_the_wrong_queue,
    },
];

#[test]
fn every_clause_of_5_11_about_the_device() {
    let parts = [CLAUSES, notifications::CLAUSES, dax::CLAUSES];
    let clauses = || parts.into_iter().flatten();
    for clause in clauses() {
        println!("{} ({:?}): {}", clause.number, clause.level, clause.says);
        (clause.check)();
    }
    let musts = clauses().filter(|clause| clause.level == Level::Must);
    // Those of 5.11, each of which is here: 5.11.4.2 has two, 5.11.6.2.1 one and
    // 5.11.6.4.1 four.
    let own = musts.filter(|clause| !clause.number.contains('('));
    assert_eq!(own.count(), 7);
}

fn device(tag: &str, requests: u16) -> MmioTransport {
    let queues = Queues {
        requests,
        ..Queues::default()
    };
    let server = Arc::new(Server::default());
    let device = Fs::new(Tag::new(tag).unwrap(), server, queues).unwrap();
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    MmioTransport::new(memory, Box::new(device)).unwrap()
}

/// The configuration space: 36 bytes, and two words.
fn configuration(transport: &mut MmioTransport) -> (Vec<u8>, u32, u32) {
    let mut tag = [0xee; 36];
    transport.read(u64::from(reg::VIRTIO_MMIO_CONFIG), &mut tag);
    let word = |transport: &mut _, at| read32(transport, reg::VIRTIO_MMIO_CONFIG + at);
    (tag.to_vec(), word(transport, 36), word(transport, 40))
}

fn offered(transport: &mut MmioTransport) -> u64 {
    let mut half = |half| {
        write32(transport, reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
        u64::from(read32(transport, reg::VIRTIO_MMIO_DEVICE_FEATURES))
    };
    half(0) | half(1) << 32
}

fn the_device_id() {
    let id = read32(&mut device("tag", 1), reg::VIRTIO_MMIO_DEVICE_ID);
    assert_eq!(id, 26);
}

fn the_queues() {
    for requests in [1, 3, 64] {
        let mut transport = device("tag", requests);
        for queue in 0..70 {
            write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_SEL, queue);
            let size = read32(&mut transport, reg::VIRTIO_MMIO_QUEUE_NUM_MAX);
            assert_eq!(size > 0, queue <= u32::from(requests), "queue {queue}");
        }
    }
    what_hiprio_has();
}

fn the_features() {
    let version_1: u64 = 1 << VIRTIO_F_VERSION_1;
    let (indirect, event_idx) = (1 << 28, 1 << 29);
    let offered = offered(&mut device("tag", 1));
    assert_eq!(offered, version_1 | indirect | event_idx);
    assert_eq!(offered & 1, 0, "VIRTIO_FS_F_NOTIFICATION");
}

fn no_other_features() {
    for (features, accepted) in [
        (FEATURES, true),
        (FEATURES | 1, false),
        (FEATURES | 2, false),
    ] {
        let agreed = agrees(&mut device("tag", 1), features);
        assert_eq!(agreed, accepted, "{features:x}");
    }
}

/// Whether the device takes a driver that wants these.
fn agrees(transport: &mut MmioTransport, features: u64) -> bool {
    const FEATURES_OK: u32 = 8;
    for status in [0, 1, 3] {
        write32(transport, reg::VIRTIO_MMIO_STATUS, status);
    }
    for half in [0, 1] {
        let bits = u32::try_from(features >> (32 * half) & 0xffff_ffff).unwrap();
        write32(transport, reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        write32(transport, reg::VIRTIO_MMIO_DRIVER_FEATURES, bits);
    }
    write32(transport, reg::VIRTIO_MMIO_STATUS, 3 | FEATURES_OK);
    read32(transport, reg::VIRTIO_MMIO_STATUS) & FEATURES_OK != 0
}

fn the_tag() {
    for tag in ["t", "größe", &"t".repeat(35), &"t".repeat(36)] {
        let (bytes, ..) = configuration(&mut device(tag, 1));
        let (name, padding) = bytes.split_at(tag.len());
        assert_eq!(name, tag.as_bytes());
        assert!(padding.iter().all(|byte| *byte == 0));
    }
}

fn the_fields() {
    for requests in [1, 2, 64] {
        let (_, queues, _) = configuration(&mut device("tag", requests));
        assert_eq!(queues, u32::from(requests));
    }
}

fn the_configuration_is_not_to_be_written() {
    let mut transport = device("tag", 2);
    let before = configuration(&mut transport);
    for at in (0..44).step_by(4) {
        write32(&mut transport, reg::VIRTIO_MMIO_CONFIG + at, 0x5555_5555);
    }
    assert_eq!(configuration(&mut transport), before);
}

fn any_number_of_queues() {
    let mut session = Session::new(4);
    for queue in [2, 4, 2] {
        assert_eq!(session.exchange(queue, &read(2)).0, 0);
    }
    // One that sets only the last of them up.
    let mut machine = machine();
    assert_eq!(machine.exchange(b"one"), b"ONE");
}

fn at_least_one_request_queue() {
    let none = Queues {
        requests: 0,
        ..Queues::default()
    };
    let server = Arc::new(Server::default());
    let refused = Fs::new(Tag::new("tag").unwrap(), server, none);
    assert_eq!(refused.unwrap_err(), FsError::RequestQueues(0));
    assert_eq!(configuration(&mut device("tag", 1)).1, 1);
}

fn one_session_for_all_queues() {
    let mut session = Session::without_init(3);
    assert_eq!(session.exchange(1, &read(2)).0, libc::EIO);
    assert_eq!(session.exchange(3, &init()).0, 0);
    for queue in 1..=3 {
        assert_eq!(session.exchange(queue, &read(2)).0, 0);
    }
    assert_eq!(session.fs.sessions.load(Ordering::SeqCst), 1);
}

fn the_format() {
    let mut session = Session::new(1);
    assert_eq!(session.exchange(1, &read(2)), (0, b"x".to_vec()));
    // An errno has no data.
    let (errno, data) = session.exchange(1, &request(Opcode::GETATTR, 2, &[0; 4]));
    assert_eq!((errno, data.len()), (libc::ENOSYS, 0));
}

fn any_order() {
    let mut session = Session::new(1);
    let first = session.submit(1, &fsync(), 16);
    session.wait_until("an fsync", |fs| fs.syncing.load(Ordering::SeqCst) == 1);
    assert_eq!(session.exchange(1, &read(2)).0, 0);
    session.fs.gate.open();
    assert_eq!(session.queues[1].wait_used(), (first, 16));
}

fn the_next_init() {
    let mut session = Session::new(2);
    assert_eq!(session.exchange(2, &init()).0, 0);
    assert_eq!(session.fs.sessions.load(Ordering::SeqCst), 2);
    assert_eq!(session.exchange(1, &read(2)).0, 0);
}

fn the_other_byte_order() {
    let mut session = Session::without_init(1);
    let swapped: Vec<u8> = (init().chunks(4))
        .flat_map(|word| word.iter().rev().copied().collect::<Vec<_>>())
        .collect();
    let head = session.submit(1, &swapped, 256);
    let (used, len) = session.queues[1].wait_used();
    assert_eq!((used, len), (head, 16), "an errno");
    assert_eq!(session.fs.sessions.load(Ordering::SeqCst), 0);
    assert_eq!(session.exchange(1, &init()).0, 0);
}

fn what_hiprio_has() {
    let mut session = Session::new(1);
    let batch = request(Opcode::BATCH_FORGET, 0, &[2, 0, 5, 0, 1, 0, 6, 0, 1, 0]);
    for request in [forget(), batch] {
        let head = session.submit(0, &request, 0);
        assert_eq!(session.queues[0].wait_used(), (head, 0));
    }
    assert_eq!(session.fs.forgotten.load(Ordering::SeqCst), 3);
    let interrupt = request(Opcode::INTERRUPT, 0, &[5, 0]);
    assert_eq!(session.exchange(0, &interrupt).0, libc::EAGAIN);
}

fn hiprio_does_not_pause() {
    let mut session = Session::new(1);
    for _ in 0..FULL {
        session.submit(1, &fsync(), 16);
    }
    session.wait_until("fsyncs", |fs| fs.syncing.load(Ordering::SeqCst) > 0);
    let head = session.submit(0, &forget(), 0);
    assert_eq!(session.queues[0].wait_used(), (head, 0));
    assert_eq!(session.fs.synced.load(Ordering::SeqCst), 0);
    session.fs.gate.open();
}

fn requests_on_the_wrong_queue() {
    let mut session = Session::new(1);
    assert_eq!(session.exchange(0, &read(2)).0, 0);
    let head = session.submit(1, &forget(), 0);
    assert_eq!(session.queues[1].wait_used(), (head, 0));
    assert_eq!(session.fs.forgotten.load(Ordering::SeqCst), 1);
}
