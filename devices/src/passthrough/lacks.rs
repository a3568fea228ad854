//! What options of a share the file system of its root has no use for: it is served
//! without.

use super::attribute_names::{ACLS, has_names_like};
use super::{Owners, Passthrough};

/// Something that a file system may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Pages of files that can be [mapped into a window](Passthrough::with_window).
    Pages,
    /// POSIX ACLs, for [`posix_acl`](super::Config::posix_acl).
    Acls,
    /// Files that a guest may keep, for [`writeback`](super::Config::writeback): they are
    /// made when they are read.
    Files,
}

impl Passthrough {
    /// Whether the file system of the root has no such thing. One that is mounted
    /// below it may have.
    #[must_use]
    pub fn lacks(&self, lack: Lack) -> bool {
        let host_fs = self.mounts.of_root().host_fs;
        match lack {
            Lack::Pages => !host_fs.mappable,
            Lack::Acls => {
                let kept = self.ownership.policy() == Owners::Xattr;
                !kept && !has_names_like(&self.root, ACLS[0])
            }
            Lack::Files => host_fs.synthetic,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    const ALL: [Lack; 3] = [Lack::Pages, Lack::Acls, Lack::Files];

    #[test]
    fn a_file_system_of_the_kernels_making_lacks_all_and_one_that_stores_files_nothing() {
        let lacks = |path: &Path, owners| {
            let config = Config {
                owners,
                ..Config::default()
            };
            let fs = Passthrough::new(path, config).unwrap();
            ALL.map(|lack| fs.lacks(lack))
        };
        assert_eq!(lacks(Path::new("/proc"), Owners::Host), [true; 3]);
        let directory = tempfile::tempdir().unwrap();
        for owners in [Owners::Host, Owners::Xattr] {
            assert_eq!(lacks(directory.path(), owners), [false; 3], "{owners:?}");
        }
    }
}
