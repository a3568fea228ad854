//! The threads of the vCPUs: started together, stopped together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vmm_sandbox::{Role, Sandbox};
use vmm_sys_util::signal::{Killable, register_signal_handler, unblock_signal};

use super::parking::Parking;
use super::processor::{Vcpu, VcpuContext, VcpuEnd};
use crate::machine::ending::{Ending, FirstEnding};

/// What gets a thread out of KVM_RUN. Not one of those of real time, of which as many are
/// pending as were sent: a thread that is stuck in the kernel would be sent all that its user
/// may have. Nobody else has a use for it, and by default it does nothing.
pub(in crate::machine) const KICK: libc::c_int = libc::SIGURG;

/// How long a vCPU that missed a kick runs on before the next.
const KICK_INTERVAL: Duration = Duration::from_millis(1);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot handle the signal that stops vCPUs")]
    Signal(#[source] vmm_sys_util::errno::Error),
    #[error("cannot start the thread of vCPU {index}")]
    Thread { index: u8, source: std::io::Error },
}

/// What the threads have in common.
#[derive(Debug)]
pub(in crate::machine) struct VcpuLaunch {
    pub(in crate::machine) context: VcpuContext,
    /// Hears why a vCPU ended by itself.
    pub(in crate::machine) ending: FirstEnding,
    /// A triple fault is how this kernel resets the machine.
    pub(in crate::machine) resets: bool,
    /// What confines them.
    pub(in crate::machine) sandbox: Sandbox,
}

/// The threads while they run. Dropping them stops them.
#[derive(Debug)]
pub(in crate::machine) struct VcpuThreads {
    stop: Arc<AtomicBool>,
    kicker: Kicker,
    /// Where some may wait for a debugger.
    parking: Option<Arc<Parking>>,
}

/// Gets processors out of the guest, from any thread.
#[derive(Clone, Debug, Default)]
pub(in crate::machine) struct Kicker(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Kicker {
    /// Kicks every vCPU out of the guest, once. Says whether there are any left.
    pub(in crate::machine) fn kick(&self) -> bool {
        let threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for thread in threads.iter().filter(|thread| !thread.is_finished()) {
            any = true;
            // A thread that ends in this moment needs no kick.
            let _ = thread.kill(KICK);
        }
        any
    }

    fn add(&self, thread: JoinHandle<()>) {
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread);
    }

    fn take(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl VcpuLaunch {
    /// Starts every vCPU, or none.
    pub(in crate::machine) fn start(&self, vcpus: Vec<Vcpu>) -> Result<VcpuThreads, Error> {
        // The handler does nothing: that the signal arrives ends KVM_RUN.
        register_signal_handler(KICK, ignore_kick).map_err(Error::Signal)?;
        let started = VcpuThreads {
            stop: Arc::clone(&self.context.stop),
            kicker: Kicker::default(),
            parking: self.context.parking.clone(),
        };
        for vcpu in vcpus {
            let index = vcpu.index();
            let thread = self
                .spawn(vcpu)
                .map_err(|source| Error::Thread { index, source })?;
            started.kicker.add(thread);
        }
        Ok(started)
    }

    fn spawn(&self, vcpu: Vcpu) -> std::io::Result<JoinHandle<()>> {
        let index = vcpu.index();
        let context = self.context.clone();
        let ending = self.ending.clone();
        let resets = self.resets;
        let sandbox = self.sandbox.clone();
        std::thread::Builder::new()
            .name(format!("vcpu-{index}"))
            .spawn(move || {
                let _guard = EndOnPanic(&ending);
                // Whatever the program's threads have blocked: without this
                // one a vCPU cannot be stopped.
                if let Err(error) = unblock_signal(KICK) {
                    log::warn!("vCPU {index} cannot unblock its kick: {error}");
                }
                if let Err(error) = sandbox.enter(Role::Vcpu) {
                    ending.set(Ok(Ending::unconfined("a vCPU", &error)));
                    return;
                }
                context.counters.mark_first_run();
                if let Some(reason) = reason(vcpu.run(&context), resets) {
                    ending.set(reason);
                }
            })
    }
}

impl VcpuThreads {
    /// Stops every vCPU and waits for its thread.
    pub(in crate::machine) fn stop(self) {
        self.halt();
        for thread in self.kicker.take() {
            // A panic aborts the process, except in tests, which see it there.
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// What gets the vCPUs out of the guest.
    pub(in crate::machine) fn kicker(&self) -> &Kicker {
        &self.kicker
    }

    /// Kicks every vCPU out of the guest, again and again: a kick that arrives
    /// just before KVM_RUN has no effect.
    fn halt(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(parking) = &self.parking {
            parking.close();
        }
        while self.kicker.kick() {
            std::thread::sleep(KICK_INTERVAL);
        }
    }
}

impl Drop for VcpuThreads {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Ends the machine when its vCPU thread panics. Where a panic unwinds at all,
/// in tests, a run without this would wait for that vCPU for ever.
struct EndOnPanic<'a>(&'a FirstEnding);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .set(Ok(Ending::Crash("a vCPU thread panicked".to_owned())));
        }
    }
}

/// What the end of one vCPU means for the machine.
fn reason(end: VcpuEnd, triple_fault_resets: bool) -> Option<Result<Ending, kvm_ioctls::Error>> {
    match end {
        VcpuEnd::Stopped => None,
        VcpuEnd::TripleFault(_) if triple_fault_resets => Some(Ok(Ending::Reset)),
        VcpuEnd::TripleFault(text) | VcpuEnd::Crash(text) => Some(Ok(Ending::Crash(text))),
        VcpuEnd::Failed(error) => Some(Err(error)),
    }
}

extern "C" fn ignore_kick(
    _signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::channel;

    use vmm_sys_util::signal::block_signal;

    use super::*;

    /// The signals that are pending for this user.
    fn pending() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigQ:"));
        let (pending, _) = line.unwrap().trim().split_once('/').unwrap();
        pending.parse().unwrap()
    }

    #[test]
    fn kicks_of_a_thread_that_does_not_take_them_do_not_gather() {
        const KICKS: usize = 4000;
        let (blocked, is_blocked) = channel();
        let (go, end) = channel::<()>();
        let thread = std::thread::spawn(move || {
            block_signal(KICK).unwrap();
            blocked.send(()).unwrap();
            let _ = end.recv();
        });
        is_blocked.recv().unwrap();
        let kicker = Kicker::default();
        kicker.add(thread);
        let before = pending();
        for _ in 0..KICKS {
            assert!(kicker.kick());
        }
        // Others have some, too.
        let more = pending().saturating_sub(before);
        drop(go);
        for thread in kicker.take() {
            thread.join().unwrap();
        }
        assert!(more < KICKS / 2, "{more}");
    }
}
