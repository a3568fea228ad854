//! The filter that stops a call and tells the supervisor.
#![allow(unsafe_code)]

use std::io;
use std::mem::offset_of;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, ensure};
use libc::{seccomp_data, sock_filter, sock_fprog};

/// `AUDIT_ARCH_X86_64`: that of the table of calls.
const ARCHITECTURE: u32 = 0xc000_003e;

/// Puts a filter on the calling thread and on those it will start, and returns
/// what tells of the calls in `numbers`. Those whose first argument is
/// `device` or a standard stream go on.
pub(super) fn install(numbers: &[u32], device: RawFd) -> Result<OwnedFd> {
    rustix::thread::set_no_new_privs(true).context("cannot give up new privileges")?;
    let mut program = program(numbers, device)?;
    let program = sock_fprog {
        len: u16::try_from(program.len())?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program lives across the call, is as long as it says, and is
    // copied and checked by the kernel.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    ensure!(
        listener >= 0,
        "cannot watch system calls: {}",
        io::Error::last_os_error()
    );
    // SAFETY: the descriptor was made by this call, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(listener)?) })
}

fn program(numbers: &[u32], device: RawFd) -> Result<Vec<sock_filter>> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let spared = [0, 1, 2, u32::try_from(device)?];
    let count = u8::try_from(numbers.len())?;
    let mut program = vec![
        load(offset_of!(seccomp_data, arch))?,
        skip_unless(ARCHITECTURE, count + 1),
        load(offset_of!(seccomp_data, nr))?,
    ];
    // To the load of the first argument, over the rest of these and `allow`.
    for (rest, number) in (0..count).rev().zip(&numbers) {
        program.push(jump_if(*number, rest + 1));
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program.push(load(offset_of!(seccomp_data, args))?);
    for (rest, number) in (0..spared.len()).rev().zip(spared) {
        program.push(jump_if(number, u8::try_from(rest)? + 1));
    }
    program.push(answer(libc::SECCOMP_RET_USER_NOTIF));
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    Ok(program)
}

#[allow(clippy::cast_possible_truncation)] // the codes have 16 bits
fn load(offset: usize) -> Result<sock_filter> {
    Ok(sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: u32::try_from(offset)?,
    })
}

#[allow(clippy::cast_possible_truncation)] // as above
fn jump(value: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k: value,
    }
}

fn jump_if(value: u32, over: u8) -> sock_filter {
    jump(value, over, 0)
}

fn skip_unless(value: u32, over: u8) -> sock_filter {
    jump(value, 0, over)
}

#[allow(clippy::cast_possible_truncation)] // as above
fn answer(value: u32) -> sock_filter {
    sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: value,
    }
}
