//! What the guest's init says about the command: when it started and ended,
//! and how.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use devices::filesystem::{RequestData, Result};
use guest_init::protocol::{MAX_STATUS, MAX_TAINTED, Mark, Status};
use rustix::io::Errno;

/// Longer than the name of any mark.
const MAX_MARK: usize = 32;

/// The guest's words so far. The first of each kind counts.
pub(super) struct StatusReport {
    said: Mutex<Said>,
    reported: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Said {
    status: Option<Status>,
    marks: [Option<Instant>; Mark::ALL.len()],
    taint: Option<u64>,
}

impl StatusReport {
    pub(super) fn new(reported: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            said: Mutex::default(),
            reported: Box::new(reported),
        }
    }

    pub(super) fn get(&self) -> Option<Status> {
        self.lock().status.clone()
    }

    pub(super) fn taint(&self) -> Option<u64> {
        self.lock().taint
    }

    pub(super) fn reached(&self, mark: Mark) -> Option<Instant> {
        *self.lock().marks.get(mark as usize)?
    }

    /// Takes the status: one JSON object in one write.
    pub(super) fn write_status(&self, data: &mut dyn RequestData, size: usize) -> Result<usize> {
        let json = take(data, size, MAX_STATUS)?;
        let status = serde_json::from_slice(&json).map_err(|_| Errno::INVAL)?;
        let mut said = self.lock();
        if said.status.is_some() {
            return Err(Errno::EXIST);
        }
        said.status = Some(status);
        drop(said);
        (self.reported)();
        Ok(json.len())
    }

    /// Takes the name of a mark, which is now.
    pub(super) fn write_mark(&self, data: &mut dyn RequestData, size: usize) -> Result<usize> {
        let now = Instant::now();
        let name = take(data, size, MAX_MARK)?;
        let mark = Mark::from_name(&name).ok_or(Errno::INVAL)?;
        if let Some(time) = self.lock().marks.get_mut(mark as usize) {
            time.get_or_insert(now);
        }
        Ok(name.len())
    }

    /// Takes the flags of a tainted kernel, a decimal number and a newline.
    pub(super) fn write_taint(&self, data: &mut dyn RequestData, size: usize) -> Result<usize> {
        let text = take(data, size, MAX_TAINTED)?;
        let bits = std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.trim_end().parse().ok())
            .ok_or(Errno::INVAL)?;
        self.lock().taint.get_or_insert(bits);
        Ok(text.len())
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a write that may have `limit` bytes at most.
fn take(data: &mut dyn RequestData, size: usize, limit: usize) -> Result<Vec<u8>> {
    if size > limit {
        return Err(Errno::FBIG);
    }
    let mut bytes = vec![0; size];
    data.take(&mut bytes)?;
    Ok(bytes)
}
