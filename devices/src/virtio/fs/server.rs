//! What a virtio-fs device asks of the server behind it.

use std::time::Duration;

use crate::filesystem::{Change, Deferral};
use crate::virtio::buffers::{Readable, Writable};

/// What answers the requests of a device.
///
/// Called from several threads at once: one for each queue, and those of the
/// pool.
pub trait RequestServer: Send + Sync {
    /// The longest request that is served, in bytes.
    fn longest_request(&self) -> usize;

    /// The longest reply, in bytes.
    fn longest_reply(&self) -> usize;

    /// Whether answering `request` may wait for something that is not this
    /// request's own work, such as a lock another guest process holds, and
    /// must therefore not keep the queue from going on. A request is copied
    /// out of guest memory and back for it, so bulk data is better served in
    /// place.
    fn may_block(&self, request: &Readable<'_>) -> bool;

    /// Answers `request` in `reply`, whatever it is, and says how many bytes
    /// were written: the used length. `reply` has no space when the driver
    /// wants no answer.
    fn answer(&self, request: Readable<'_>, reply: Writable<'_>) -> u32;

    /// The same, unless only serving the request shows that it may block: then
    /// nothing is done and nothing answered, and the request is to be answered
    /// where it keeps nobody waiting.
    fn answer_at_once(&self, request: Readable<'_>, reply: Writable<'_>) -> Option<u32> {
        Some(self.answer(request, reply))
    }

    /// The same as [`answer`](Self::answer), unless the request waits for
    /// something that no thread has to wait for: then there is no answer yet,
    /// and it is to be served again, with the same `deferral`, at each
    /// [change](Self::wait_for_change) and from time to time.
    fn answer_or_defer(
        &self,
        request: Readable<'_>,
        reply: Writable<'_>,
        _deferral: &Deferral,
    ) -> Option<u32> {
        Some(self.answer(request, reply))
    }

    /// Answers `request` with `EFAULT` and does not execute it: some of the
    /// memory that it names is not there.
    fn answer_fault(&self, _request: Readable<'_>, _reply: Writable<'_>) -> u32 {
        0
    }

    /// At most so many requests may be deferred at a time: they keep their
    /// places in the queue, and there have to be some left for what ends
    /// their wait.
    fn limit_deferred(&self, _most: usize) {}

    /// What has happened so far that deferred requests may wait for.
    fn change(&self) -> Change {
        Change::default()
    }

    /// Waits until there is another change than `seen`, or the time is up.
    fn wait_for_change(&self, _seen: Change, patience: Duration) -> Change {
        std::thread::sleep(patience);
        Change::default()
    }

    /// Wakes whoever waits for a change.
    fn wake(&self) {}

    /// The driver is gone: forgets what was negotiated and opened, and wakes
    /// whatever still waits in [`answer`](Self::answer).
    ///
    /// Called when all requests are answered, but for detached ones, whose
    /// reply is thrown away; and once more before that when one that is not
    /// detached keeps its thread from ending.
    fn reset(&self);
}
