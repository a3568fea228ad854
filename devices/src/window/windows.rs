//! All windows of a machine.

use std::sync::Arc;

use super::Window;

/// The windows of a machine. The guest can name pages of any of them to any
/// device.
#[derive(Clone, Debug, Default)]
pub struct Windows(Arc<[Arc<Window>]>);

impl Windows {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every one.
    pub fn iter(&self) -> impl Iterator<Item = &Window> {
        self.0.iter().map(|window| &**window)
    }

    /// The window in which the `len` bytes at the guest's physical `address`
    /// are, and where in it.
    #[must_use]
    pub fn find(&self, address: u64, len: usize) -> Option<(&Window, u64)> {
        self.iter().find_map(|window| {
            let offset = address.checked_sub(window.base())?;
            let end = offset.checked_add(len as u64)?;
            (end <= window.len()).then_some((window, offset))
        })
    }

    /// As [`Window::tear`], of all.
    #[must_use]
    pub fn tear(&self) -> usize {
        self.iter().map(Window::tear).sum()
    }
}

impl FromIterator<Arc<Window>> for Windows {
    fn from_iter<I: IntoIterator<Item = Arc<Window>>>(windows: I) -> Self {
        Self(windows.into_iter().collect())
    }
}
