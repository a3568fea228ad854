//! The threads that serve a device's detached requests.
//!
//! They come when there is work that no idle one can take, up to a limit, and
//! leave after a while without any. A request beyond the limit waits here and
//! not on its queue's thread.
//!
//! A device has one pool for good, and not one for each activation: a guest
//! that resets again and again, with requests that nothing can wake, keeps at
//! most [`LIMIT`] threads of the host.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::detached::{Detached, Lease};
use crate::virtio::Complaints;

/// Most threads of one pool: as many requests can block at once and others
/// still be served.
const LIMIT: usize = 64;
/// How long a thread waits for work before it leaves.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pool of one device.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    name: String,
    limit: usize,
    spawn: Spawn,
}

/// How a thread with this name is had, to serve what there is.
type Spawn = fn(String, Arc<Shared>) -> io::Result<()>;

fn spawn(name: String, shared: Arc<Shared>) -> io::Result<()> {
    let builder = thread::Builder::new().name(name);
    builder.spawn(move || shared.serve()).map(drop)
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    patience: Duration,
    complaints: Complaints,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Detached>,
    threads: usize,
    /// Threads that wait for work.
    idle: usize,
    closed: bool,
}

impl Pool {
    /// A pool without threads; those to come are called `name`.
    pub(super) fn new(name: String) -> Self {
        Self::with_limits(name, LIMIT, PATIENCE)
    }

    /// A pool for which the host has no threads.
    #[cfg(test)]
    pub(super) fn without_threads() -> Self {
        let mut pool = Self::new("pool".into());
        pool.spawn = |_, _| Err(io::ErrorKind::WouldBlock.into());
        pool
    }

    /// How many requests wait for a thread.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    fn with_limits(name: String, limit: usize, patience: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                work: Condvar::new(),
                patience,
                complaints: Complaints::default(),
            }),
            name,
            limit,
            spawn,
        }
    }

    /// Has `request` served. Gives it back when the host has no thread for it
    /// and none is there that will come to it.
    pub(super) fn submit(&self, request: Detached) -> Result<(), Detached> {
        let mut state = self.shared.lock();
        state.waiting.push_back(request);
        if state.idle >= state.waiting.len() || state.threads >= self.limit {
            self.shared.work.notify_one();
            return Ok(());
        }
        match (self.spawn)(self.name.clone(), Arc::clone(&self.shared)) {
            Ok(()) => state.threads += 1,
            Err(error) if state.threads == 0 => {
                log::log!(
                    self.shared.complaints.level(),
                    "cannot start a thread for a request that may block: {error}"
                );
                return state.waiting.pop_back().map_or(Ok(()), Err);
            }
            // A thread that is there takes it when it is done.
            Err(_) => self.shared.work.notify_one(),
        }
        Ok(())
    }

    /// Drops the requests under `lease` that no thread has begun with: the
    /// driver they came from is gone.
    pub(super) fn discard(&self, lease: &Arc<Lease>) {
        let mut state = self.shared.lock();
        let (gone, left) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|request| Arc::ptr_eq(&request.lease, lease));
        state.waiting = left;
        drop(state);
        let gone: VecDeque<Detached> = gone;
        drop(gone);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Requests are served without the lock: nothing can panic under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread of the pool does until it leaves.
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(request) = state.waiting.pop_front() {
                drop(state);
                if let Err(error) = request.serve() {
                    let level = match error.is_the_hosts() {
                        true => self.complaints.level(),
                        false => log::Level::Debug,
                    };
                    log::log!(level, "a request that may block gets no answer: {error}");
                }
                state = self.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (woken, timeout) = self
                .work
                .wait_timeout(state, self.patience)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.waiting.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::{self, Receiver, TryRecvError};

    use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
    use vm_memory::{GuestAddress, GuestMemoryMmap};
    use vmm_sys_util::eventfd::EventFd;

    use super::super::detached::Finished;
    use super::super::server::RequestServer;
    use super::*;
    use crate::virtio::Interrupt;
    use crate::virtio::drain::Drain;
    use crate::virtio::driver::{DriverQueue, wait_for};

    /// Notes how many requests it serves at once.
    #[derive(Default)]
    struct Crowd {
        now: AtomicU32,
        most: AtomicU32,
    }

    impl RequestServer for Crowd {
        fn longest_request(&self) -> usize {
            8
        }

        fn longest_reply(&self) -> usize {
            8
        }

        fn may_block(&self, _: &Reader<'_>) -> bool {
            true
        }

        fn answer(&self, _: Reader<'_>, _: VirtioFsWriter<'_>) -> u32 {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
            self.now.fetch_sub(1, Ordering::SeqCst);
            0
        }

        fn reset(&self) {}
    }

    /// A request, and where it comes back.
    fn request(server: &Arc<Crowd>) -> (Detached, Receiver<Finished>) {
        let (mut all, back) = requests(server, 1);
        (all.remove(0), back)
    }

    /// Submits `count` requests and says where they come back.
    fn submit(pool: &Pool, server: &Arc<Crowd>, count: u16) -> Receiver<Finished> {
        let (all, back) = requests(server, count);
        for request in all {
            pool.submit(request).unwrap();
        }
        back
    }

    fn requests(server: &Arc<Crowd>, count: u16) -> (Vec<Detached>, Receiver<Finished>) {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x20_0000)]).unwrap();
        let mut driver = DriverQueue::new(&memory, 0x1000, 64);
        let queue = driver.config().build(&memory, false).unwrap();
        let interrupt = Arc::new(Interrupt::new().unwrap());
        let mut drain = Drain::new(queue, memory, interrupt);
        let (finished, back) = mpsc::channel();
        let kick = Arc::new(EventFd::new(0).unwrap());
        let all = (0..count).map(|_| {
            driver.submit(b"request", 8);
            Detached {
                chain: drain.next_request().unwrap().unwrap(),
                server: Arc::clone(server) as _,
                lease: Arc::<Lease>::default(),
                finished: finished.clone(),
                kick: Arc::clone(&kick),
            }
        });
        (all.collect(), back)
    }

    #[test]
    fn threads_come_with_the_work_and_leave_without() {
        let pool = Pool::with_limits("pool".into(), 8, Duration::from_millis(20));
        let server = Arc::<Crowd>::default();
        for _ in 0..2 {
            let back = submit(&pool, &server, 4);
            assert_eq!(back.iter().count(), 4);
            wait_for("the threads to leave", || {
                (pool.shared.lock().threads == 0).then_some(())
            });
        }
        assert!(server.most.load(Ordering::SeqCst) > 1);
    }

    #[test]
    fn there_are_never_more_threads_than_the_limit() {
        let pool = Pool::with_limits("pool".into(), 2, Duration::from_secs(20));
        let server = Arc::<Crowd>::default();
        let back = submit(&pool, &server, 20);
        assert_eq!(back.iter().count(), 20);
        assert_eq!(server.most.load(Ordering::SeqCst), 2);
        assert!(pool.shared.lock().threads <= 2);
    }

    #[test]
    fn an_idle_thread_takes_the_next_request() {
        let pool = Pool::with_limits("pool".into(), 8, Duration::from_secs(20));
        let server = Arc::<Crowd>::default();
        for _ in 0..5 {
            assert_eq!(submit(&pool, &server, 1).iter().count(), 1);
            wait_for("an idle thread", || {
                (pool.shared.lock().idle == 1).then_some(())
            });
        }
        assert_eq!(pool.shared.lock().threads, 1);
    }

    #[test]
    fn without_a_thread_a_request_comes_back() {
        let pool = Pool::without_threads();
        let (request, _back) = request(&Arc::default());
        let head = request.chain.head_index();
        let back = pool.submit(request).unwrap_err();
        assert_eq!(back.chain.head_index(), head);
        assert!(pool.shared.lock().waiting.is_empty());
    }

    #[test]
    fn without_another_thread_a_request_waits_for_one_that_is_there() {
        let mut pool = Pool::with_limits("pool".into(), 8, Duration::from_secs(20));
        let server = Arc::<Crowd>::default();
        assert_eq!(submit(&pool, &server, 1).iter().count(), 1);
        pool.spawn = Pool::without_threads().spawn;
        let back = submit(&pool, &server, 10);
        assert_eq!(back.iter().count(), 10);
        assert_eq!(pool.shared.lock().threads, 1);
    }

    #[test]
    fn what_waits_is_dropped_with_its_lease_and_nothing_else() {
        let mut pool = Pool::with_limits("pool".into(), 8, Duration::from_secs(20));
        pool.spawn = |_, _| Ok(());
        let server = Arc::default();
        let (gone, stays) = (request(&server), request(&server));
        let lease = Arc::clone(&gone.0.lease);
        let (of_gone, of_stays) = (gone.1, stays.1);
        pool.submit(gone.0).unwrap();
        pool.submit(stays.0).unwrap();

        pool.discard(&lease);

        assert_eq!(pool.shared.lock().waiting.len(), 1);
        assert_eq!(Arc::strong_count(&lease), 1);
        assert_eq!(of_gone.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(of_stays.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn threads_leave_with_the_pool() {
        let pool = Pool::with_limits("pool".into(), 8, Duration::from_secs(20));
        let shared = Arc::clone(&pool.shared);
        submit(&pool, &Arc::<Crowd>::default(), 3);
        drop(pool);
        wait_for("the threads to leave", || {
            (shared.lock().threads == 0).then_some(())
        });
    }
}
