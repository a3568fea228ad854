//! What becomes of a system call that is not on the list of its thread.
//!
//! The kernel does not make it but sends its thread SIGSYS (`SECCOMP_RET_TRAP`).
//! The handler says its name, once for each call and process, and lets it fail
//! with `EPERM`.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{c_int, siginfo_t, ucontext_t};
use syscalls::Sysno;

/// `si_code` of a SIGSYS by a filter.
const SYS_SECCOMP: c_int = 1;

/// `AUDIT_ARCH_X86_64`
const X86_64: u32 = 0xc000_003e;

/// One bit for each number of a call that was told.
static TOLD: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// Stands for all numbers that are none of a call, as those of x32 are, which has
/// bit 30 set, and for those of 32 bits, which are other calls. The kernel has none that high.
const OTHERS: usize = TOLD.len() * 64 - 1;

/// A `siginfo_t` as it is with SIGSYS.
#[repr(C)]
struct SystemCall {
    signal: c_int,
    errno: c_int,
    code: c_int,
    /// Where the call was made.
    address: *mut c_void,
    number: c_int,
    arch: u32,
}

/// Handles refused calls, in all threads.
pub(crate) fn handle() -> io::Result<()> {
    // SAFETY: all zeros are a `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = refuse as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` is whole, its function has the signature that SA_SIGINFO
    // asks for, and makes async-signal-safe calls only.
    match unsafe { libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn refuse(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands the handler a whole `siginfo_t`, which `SystemCall` has the
    // beginning of; of any other signal its last two are just not looked at.
    let SystemCall { code, arch, .. } = unsafe { info.cast::<SystemCall>().read() };
    if code != SYS_SECCOMP {
        // Somebody sent it: what it does by default, once this has returned.
        // SAFETY: async-signal-safe, and no handler is left that could be run.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: async-signal-safe.
        unsafe { libc::raise(signal) };
        return;
    }
    let context = context.cast::<ucontext_t>();
    // SAFETY: the kernel hands the handler the registers at the call, which no
    // one else touches; `REG_RAX` is one of the 23.
    let rax = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_RAX as usize] };
    // The register of the result still holds the number of the call.
    let number = match arch {
        X86_64 => usize::try_from(*rax).map_or(OTHERS, |number| number.min(OTHERS)),
        _ => OTHERS,
    };
    *rax = i64::from(-libc::EPERM);
    if is_news(number) {
        tell(number);
    }
}

/// The calls that were refused so far, by name.
pub(crate) fn refused() -> Vec<&'static str> {
    let was = |number: &usize| {
        (TOLD.get(number / 64))
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (number % 64) & 1 == 1)
    };
    (0..=OTHERS).filter(was).map(name_of).collect()
}

fn name_of(number: usize) -> &'static str {
    Sysno::new(number).map_or("unknown", |call| call.name())
}

fn is_news(number: usize) -> bool {
    let Some(word) = TOLD.get(number / 64) else {
        return false;
    };
    let bit = 1 << (number % 64);
    word.fetch_or(bit, Ordering::Relaxed) & bit == 0
}

/// Says it on standard error, without any memory or lock.
fn tell(number: usize) {
    // `TASK_COMM_LEN`
    let mut thread = [0_u8; 16];
    // SAFETY: async-signal-safe; the kernel writes 16 bytes, the last of which is NUL.
    let _ = unsafe { libc::prctl(libc::PR_GET_NAME, thread.as_mut_ptr()) };
    let end = thread.iter().position(|byte| *byte == 0);
    let thread = thread.get(..end.unwrap_or(0)).unwrap_or_default();
    let mut line = [0_u8; 160];
    let mut len = 0;
    for part in [
        b"vmm: warning: the sandbox refused the system call ",
        name_of(number).as_bytes(),
        b" to the thread ",
        thread,
        b", a mistake of this program: please report it\n",
    ] {
        for byte in part {
            if let Some(place) = line.get_mut(len) {
                *place = *byte;
                len += 1;
            }
        }
    }
    // SAFETY: async-signal-safe, and `len` bytes of `line` are there to be read.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), len) };
}
