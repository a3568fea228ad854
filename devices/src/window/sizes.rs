//! How long the files are that are mapped. A mapping does not say whether a page that
//! cannot be had is behind the end of its file or on a disk that cannot be read, and
//! has no descriptor to ask with.

use std::fmt;
use std::sync::OnceLock;

use crate::filesystem::NodeId;

/// Says how many bytes a file has that is mapped, and whether it is to be written to.
pub(crate) trait Ask: Fn(NodeId, bool) -> Option<u64> + Send + Sync + 'static {}

impl<T: Fn(NodeId, bool) -> Option<u64> + Send + Sync + 'static> Ask for T {}

/// Whoever knows the files.
#[derive(Default)]
pub(super) struct Sizes(OnceLock<Box<dyn Ask>>);

impl Sizes {
    pub(super) fn ask(&self, ask: impl Ask) {
        // A window is one file system's.
        let _ = self.0.set(Box::new(ask));
    }

    /// The size in bytes of a file that is mapped to be written to, or to be read only,
    /// if it can be found out.
    pub(super) fn of(&self, node: NodeId, writable: bool) -> Option<u64> {
        self.0.get().and_then(|ask| ask(node, writable))
    }
}

impl fmt::Debug for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sizes").finish_non_exhaustive()
    }
}
