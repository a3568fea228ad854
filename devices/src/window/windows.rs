//! All windows of a machine.

use std::sync::Arc;
use std::time::Duration;

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

    /// As [`Window::tear_for`], each for its part of the time.
    pub fn tear_for(&self, limit: Duration) {
        let windows = u32::try_from(self.0.len()).unwrap_or(u32::MAX).max(1);
        for window in self.iter() {
            window.tear_for(limit / windows);
        }
    }
}

impl FromIterator<Arc<Window>> for Windows {
    fn from_iter<I: IntoIterator<Item = Arc<Window>>>(windows: I) -> Self {
        Self(windows.into_iter().collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::UNIT;
    use super::*;

    const BASE: u64 = 4 << 30;

    #[test]
    fn windows_are_found_by_the_guest_s_addresses() {
        let windows: Windows = [BASE, BASE + (1 << 30)]
            .map(|base| Arc::new(Window::reserve(base, UNIT).unwrap()))
            .into_iter()
            .collect();
        let found = |address, len| {
            let found = windows.find(address, len);
            found.map(|(window, at)| (window.base() - BASE, at))
        };
        assert_eq!(found(BASE, 1), Some((0, 0)));
        assert_eq!(found(BASE + UNIT - 1, 1), Some((0, UNIT - 1)));
        assert_eq!(found(BASE + UNIT - 1, 2), None);
        assert_eq!(found(BASE - 1, 2), None);
        assert_eq!(found(BASE + (1 << 30) + 5, 7), Some((1 << 30, 5)));
        assert_eq!(found(u64::MAX, 1), None);
        assert_eq!(found(BASE, usize::MAX), None);
        assert!(!windows.is_empty() && Windows::default().is_empty());
    }
}
