//! Which file it is, and whether that is enough to know what is in it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// A file that is written twice within this time may have the same times after
/// both: FAT counts in steps of two seconds, and other clocks are finer.
const COARSEST_CLOCK: Duration = Duration::from_millis(2100);

/// What changes with every change of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// In bytes.
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
    /// Seconds and nanoseconds; nobody sets this one.
    pub(crate) changed: (i64, i64),
}

impl Identity {
    pub(crate) fn of(file: &File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether a change of the file from `now` on shows in its times. One that was
    /// changed a moment ago may change again within the same tick of the clock, as
    /// git's index knows it ("racily clean"). A clock that is ahead of the host's, as a
    /// server's may be, makes it a moment for as long.
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds))
        else {
            return false;
        };
        let age = Duration::from_secs(seconds)
            .checked_add(Duration::from_nanos(u64::from(nanoseconds)))
            .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
            .and_then(|last| now.duration_since(last).ok());
        age.is_some_and(|age| age > COARSEST_CLOCK)
    }

    /// The same for the same file, whatever was done to it.
    pub(crate) fn name(&self) -> String {
        format!("{:x}-{:x}", self.device, self.inode)
    }

    pub(crate) fn bytes(&self) -> [u8; Self::SIZE] {
        let words = [
            self.device.to_le_bytes(),
            self.inode.to_le_bytes(),
            self.size.to_le_bytes(),
            self.modified.0.to_le_bytes(),
            self.modified.1.to_le_bytes(),
            self.changed.0.to_le_bytes(),
            self.changed.1.to_le_bytes(),
        ];
        let mut bytes = [0; Self::SIZE];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word);
        }
        bytes
    }

    /// How many [`Self::bytes`] there are.
    pub(crate) const SIZE: usize = 56;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_a_moment_ago_may_change_unseen() {
        let file = tempfile::tempfile().unwrap();
        let mut identity = Identity::of(&file).unwrap();
        let now = SystemTime::now();
        assert!(!identity.is_settled(now));
        assert!(!identity.is_settled(now - Duration::from_secs(3600)));
        assert!(!identity.is_settled(now + Duration::from_secs(2)));
        assert!(identity.is_settled(now + Duration::from_secs(3)));
        // Set by somebody, from another clock: it says nothing of when.
        identity.modified.0 += 100;
        assert!(identity.is_settled(now + Duration::from_secs(3)));
        for never in [(-1, 0), (i64::MAX, 0), (0, -1)] {
            identity.changed = never;
            assert!(!identity.is_settled(now), "{never:?}");
        }
    }

    #[test]
    fn every_part_of_an_identity_is_in_its_bytes() {
        let one = Identity {
            device: 1,
            inode: 2,
            size: 3,
            modified: (4, 5),
            changed: (6, 7),
        };
        let words: Vec<u8> = (one.bytes().chunks(8).map(|word| word[0])).collect();
        assert_eq!(words, [1, 2, 3, 4, 5, 6, 7]);
    }
}
