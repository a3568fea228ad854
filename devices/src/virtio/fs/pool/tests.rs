use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Instant;

use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::super::detached::Finished;
use super::super::server::RequestServer;
use super::*;
use crate::filesystem::{Caller, Deferral, Request, WOULD_WAIT, Waiters};
use crate::virtio::Interrupt;
use crate::virtio::buffers::{Readable, Writable};
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

    fn may_block(&self, _: &Readable<'_>) -> bool {
        true
    }

    fn answer(&self, _: Readable<'_>, _: Writable<'_>) -> u32 {
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
    requests_of(server, b"request", count)
}

fn requests_of<S: RequestServer + 'static>(
    server: &Arc<S>,
    request: &[u8],
    count: u16,
) -> (Vec<Detached>, Receiver<Finished>) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x20_0000)]).unwrap();
    let mut driver = DriverQueue::new(&memory, 0x1000, 64);
    let queue = driver.config().build(&memory, false).unwrap();
    let interrupt = Arc::new(Interrupt::new().unwrap());
    let mut drain = Drain::new(queue, memory, interrupt);
    let (finished, back) = mpsc::channel();
    let kick = Arc::new(EventFd::new(0).unwrap());
    let all = (0..count).map(|_| {
        driver.submit(request, 8);
        Detached {
            chain: drain.next_request().unwrap().unwrap(),
            server: Arc::clone(server) as _,
            lease: Arc::<Lease>::default(),
            finished: finished.clone(),
            kick: Arc::clone(&kick),
            windows: crate::window::Windows::default(),
            arrived: Instant::now(),
            begun: None,
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
fn the_host_is_asked_for_a_thread_without_the_lock() {
    let pool = Pool::with_threads("pool".into(), 1, PATIENCE, |_, shared| {
        // Who submits meanwhile cannot rely on this thread.
        let state = shared.state.try_lock().unwrap();
        assert_eq!((state.starting, state.threads), (1, 0));
        Err(io::ErrorKind::WouldBlock.into())
    });
    let server = Arc::default();
    let back = pool.submit(request(&server).0);
    assert!(back.is_err());
    let state = pool.shared.lock();
    assert_eq!((state.starting, state.waiting.len()), (0, 0));
}

#[test]
fn a_request_that_relied_on_a_thread_which_never_came_is_served() {
    let pool = Pool::without_threads();
    let server = Arc::default();
    let (early, late) = (request(&server), request(&server));
    // As it waits when all threads of the pool are yet to begin.
    pool.shared.lock().waiting.push_back(Queued {
        number: u64::MAX,
        request: early.0,
    });
    assert!(pool.submit(late.0).is_err());
    assert_eq!(early.1.iter().count(), 1);
    assert_eq!(late.1.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn without_another_thread_a_request_waits_for_one_that_is_there() {
    let one = |name, shared: Arc<PoolShared>| {
        let first = shared.lock().threads == 0;
        match first {
            true => spawn(name, shared),
            false => no_thread(name, shared),
        }
    };
    let pool = Pool::with_threads("pool".into(), 8, Duration::from_secs(20), one);
    let server = Arc::<Crowd>::default();
    assert_eq!(submit(&pool, &server, 1).iter().count(), 1);
    let back = submit(&pool, &server, 10);
    assert_eq!(back.iter().count(), 10);
    assert_eq!(pool.shared.lock().threads, 1);
}

#[test]
fn what_waits_is_dropped_with_its_lease_and_nothing_else() {
    let pool = Pool::with_threads("pool".into(), 8, PATIENCE, |_, _| Ok(()));
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

/// Locks that are had the second time they are asked for, but that the server of
/// some is `gone` by then.
#[derive(Default)]
struct Servers {
    asked: AtomicU32,
    unique: AtomicU64,
    waiters: Waiters,
    gone: Mutex<()>,
}

impl RequestServer for Servers {
    fn longest_request(&self) -> usize {
        8
    }

    fn longest_reply(&self) -> usize {
        8
    }

    fn may_block(&self, _: &Readable<'_>) -> bool {
        true
    }

    fn answer(&self, _: Readable<'_>, _: Writable<'_>) -> u32 {
        0
    }

    fn answer_or_defer(
        &self,
        mut request: Readable<'_>,
        _: Writable<'_>,
        deferral: &Deferral,
    ) -> Option<u32> {
        let mut name = [0; 4];
        request.read(&mut name).unwrap();
        if name == *b"gone" && self.asked.fetch_add(1, Ordering::SeqCst) > 0 {
            drop(self.gone.lock());
        }
        let unique = self.unique.fetch_add(1, Ordering::SeqCst);
        let request = Request::new(unique, 1, Caller::default(), &self.waiters);
        let request = request.deferrable(deferral);
        if request.was_deferred() {
            return Some(0);
        }
        assert_eq!(request.defer(Box::new(())), WOULD_WAIT);
        None
    }

    fn reset(&self) {}
}

#[test]
fn a_server_that_is_gone_keeps_nobody_waiting_for_another() {
    let pool = Pool::with_limits("pool".into(), LIMIT, PATIENCE);
    let server = Arc::<Servers>::default();
    let gone = server.gone.lock();
    let (lost, lost_back) = requests_of(&server, b"gone", 1);
    for request in lost {
        pool.submit(request).unwrap();
    }
    wait_for("the lock to be asked for again", || {
        (server.asked.load(Ordering::SeqCst) > 1).then_some(())
    });
    let (others, back) = requests_of(&server, b"here", 3);
    for request in others {
        pool.submit(request).unwrap();
    }
    for _ in 0..3 {
        assert!(back.recv_timeout(Duration::from_secs(20)).is_ok());
    }
    assert_eq!(lost_back.try_recv(), Err(TryRecvError::Empty));
    drop(gone);
    assert!(lost_back.recv_timeout(Duration::from_secs(20)).is_ok());
}
