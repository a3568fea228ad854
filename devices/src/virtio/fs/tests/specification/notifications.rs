//! `VIRTIO_FS_F_NOTIFICATION`, feature 0, which this device has not: what a driver
//! finds where one that has it would have `notify_buf_size` and a queue more.

use super::super::session::{Session, read};
use super::*;

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        number: "5.11.4",
        level: Level::Is,
        says: "notify_buf_size exists with feature 0 only: the fields end at byte 40",
        check: nothing_follows_the_fields,
    },
    Clause {
        number: "5.11.4.2",
        level: Level::Must,
        says: "notify_buf_size has room for all notifications: none are sent",
        check: nothing_follows_the_fields,
    },
    Clause {
        number: "5.11.2, 5.11.6.3",
        level: Level::Is,
        says: "the notification queue exists with feature 0 only: queue 1 is for requests",
        check: queue_1_is_for_requests,
    },
];

/// Whatever the driver asked for, and however much it reads at a time.
fn nothing_follows_the_fields() {
    for asked in [false, true] {
        let mut transport = device("tag", 3);
        if asked {
            assert!(!agrees(&mut transport, FEATURES | 1));
        }
        let at = |offset: u32| u64::from(reg::VIRTIO_MMIO_CONFIG + offset);
        let mut whole = [0xee; 64];
        transport.read(at(0), &mut whole);
        assert_eq!(whole[36..40], 3u32.to_le_bytes());
        assert_eq!(whole[40..], [0; 24]);
        for width in [1, 2, 4, 8] {
            let mut bytes = vec![0xee; width];
            transport.read(at(40), &mut bytes);
            assert_eq!(bytes, vec![0; width], "{width} bytes");
        }
        let mut both = [0xee; 8];
        transport.read(at(36), &mut both);
        assert_eq!(both, [3, 0, 0, 0, 0, 0, 0, 0]);
    }
}

fn queue_1_is_for_requests() {
    let mut session = Session::new(2);
    assert_eq!(session.exchange(1, &read(2)), (0, b"x".to_vec()));
    // What a driver offers to be filled with a notification is a request without a
    // header: it is not kept.
    let (head, queue) = (SIZE - 1, &mut session.queues[1]);
    queue.describe(head, (queue.buffer(head), 256, WRITE, 0));
    queue.publish(head);
    session.transport.kicks()[1].write(1).unwrap();
    assert_eq!(session.queues[1].wait_used(), (head, 16), "an errno");
    assert_eq!(session.exchange(1, &read(2)).0, 0);
}
