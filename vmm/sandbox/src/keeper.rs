//! The thread that starts those of a share.
//!
//! It is confined to the share before any guest runs, and everything that it
//! starts is by that. So what a vCPU or a worker may do does not matter for what the
//! thread may that it asks for.
//!
//! No thread has a filter of its own. A guest starts and ends threads as often as it
//! likes, by a reset or by locks that wait; each filter is a program that the kernel
//! compiles, and frees on a queue of its own which more than a thousand of them can stop
//! for good (Linux 6.18: `bpf_prog_pack_free` waits for work on the queue that it fills).

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};

use devices::virtio::fs::{Threads, Work};

use crate::error::Error;
use crate::role::Role;
use crate::sandbox::Sandbox;
use crate::tree::Place;

/// Longest name of a thread in bytes (`TASK_COMM_LEN` without the NUL).
const NAME_LIMIT: usize = 15;

/// Starts the threads of one device, confined to what it serves.
#[derive(Debug)]
pub struct Keeper {
    sandbox: Sandbox,
    name: String,
    role: Role,
    place: Mutex<Option<Place>>,
    orders: OnceLock<Sender<Order>>,
}

/// A thread that is wanted.
struct Order {
    name: String,
    work: Work,
    answer: Sender<io::Result<JoinHandle<()>>>,
}

impl Keeper {
    /// The keeper of the share `tag` at `place`; of the session without one. It
    /// has no thread yet.
    #[must_use]
    pub fn new(sandbox: &Sandbox, tag: &str, place: Option<Place>) -> Self {
        let role = match &place {
            Some(place) => Role::Share {
                writes: place.writes,
            },
            None => Role::Session,
        };
        let name: String = format!("keep-{tag}").chars().take(NAME_LIMIT).collect();
        Self {
            sandbox: sandbox.clone(),
            name,
            role,
            place: Mutex::new(Some(place.unwrap_or(Place::nowhere()))),
            orders: OnceLock::new(),
        }
    }

    /// Starts its thread and has it confined. Does nothing the second time.
    ///
    /// # Errors
    ///
    /// When that is not possible; then it starts nothing.
    pub fn start(&self) -> Result<(), Error> {
        let place = (self.place.lock())
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(place) = place else {
            return Ok(());
        };
        let (sandbox, role) = (self.sandbox.clone(), self.role);
        sandbox.handle_refusals()?;
        let (orders, received) = channel::<Order>();
        let (confined, outcome) = channel();
        let keep = move || {
            let entered = sandbox.enter_at(role, &place);
            // What it was told by is not needed any more.
            drop(place);
            let go_on = entered.is_ok();
            let _ = confined.send(entered);
            if !go_on {
                return;
            }
            for Order { name, work, answer } in received {
                let _ = answer.send(Builder::new().name(name).spawn(work));
            }
        };
        let builder = Builder::new().name(self.name.clone());
        builder.spawn(keep).map_err(Error::Thread)?;
        outcome.recv().map_err(|_| Error::Gone)??;
        // Cannot be there yet: there was a place.
        let _ = self.orders.set(orders);
        Ok(())
    }
}

impl Threads for Keeper {
    fn start(&self, name: String, work: Work) -> io::Result<JoinHandle<()>> {
        let gone = |_| io::Error::other(Error::Gone);
        let orders = self.orders.get().ok_or_else(|| gone(()))?;
        let (answer, answered) = channel();
        let order = Order { name, work, answer };
        orders.send(order).map_err(|_| gone(()))?;
        answered.recv().map_err(|_| gone(()))?
    }
}
