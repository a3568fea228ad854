//! What was refused is on record, and is told once. A program of its own, as the
//! record is the process's.
#![allow(unsafe_code, clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Seek};

use rustix::io::Errno;
use serde_json::json;
use vmm_sandbox::{Mode, Role, Sandbox};

/// What x32 adds to the number of a call.
const X32: i64 = 0x4000_0000;
/// Of the 64 bits it is `munmap`, which is on every list.
const EXECVE_32: i64 = 11;
/// No kernel has it.
const NONE: i64 = 0x1234_5678;

/// What a processor's thread gets for calls without arguments of these numbers.
fn call_as_vcpu(sandbox: &Sandbox, numbers: &[i64]) -> Vec<Option<Errno>> {
    let call = |number: &i64| {
        // SAFETY: none of these calls is made.
        match unsafe { libc::syscall(*number, -1, 0, 0, 0, 0, 0) } {
            -1 => Errno::from_io_error(&std::io::Error::last_os_error()),
            _ => None,
        }
    };
    let confined = || {
        sandbox.enter(Role::Vcpu).unwrap();
        numbers.iter().map(call).collect()
    };
    std::thread::scope(|scope| scope.spawn(confined).join()).unwrap()
}

/// What `work` writes to standard error.
fn told(work: impl FnOnce()) -> String {
    let mut file = tempfile::tempfile().unwrap();
    let before = rustix::io::dup(rustix::stdio::stderr()).unwrap();
    rustix::stdio::dup2_stderr(&file).unwrap();
    work();
    rustix::stdio::dup2_stderr(before).unwrap();
    let mut told = String::new();
    File::rewind(&mut file).unwrap();
    file.read_to_string(&mut told).unwrap();
    told
}

/// What a processor's thread gets for an `execve` of 32 bits.
fn call_of_32_bits_as_vcpu(sandbox: &Sandbox) -> i64 {
    let confined = || {
        sandbox.enter(Role::Vcpu).unwrap();
        let outcome: i64;
        // SAFETY: its arguments are null, and it is not made.
        unsafe {
            std::arch::asm!(
                "push rbx", "xor ebx, ebx", "int 0x80", "pop rbx",
                inlateout("rax") EXECVE_32 => outcome, in("rcx") 0, in("rdx") 0,
                lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            );
        }
        outcome
    };
    std::thread::scope(|scope| scope.spawn(confined).join()).unwrap()
}

#[test]
fn refused_calls_are_told_by_name_and_those_without_a_name_as_well() {
    let sandbox = Sandbox::plan(Mode::On).unwrap();
    sandbox.begin().unwrap();
    let record = || serde_json::to_value(sandbox.holds().record()).unwrap()["refused"].clone();
    assert_eq!(record(), json!([]));
    let lines = told(|| {
        let refused = call_of_32_bits_as_vcpu(&sandbox);
        assert_eq!(refused, i64::from(-libc::EPERM));
        assert_eq!(record(), json!(["unknown"]));
        let numbers = [libc::SYS_socket, X32 | libc::SYS_execve, NONE, -2];
        for _ in 0..2 {
            let refused = call_as_vcpu(&sandbox, &numbers);
            assert_eq!(refused, [Some(Errno::PERM); 4]);
        }
    });
    assert_eq!(record(), json!(["socket", "unknown"]));
    assert_eq!(lines.lines().count(), 2, "{lines}");
    for name in ["socket", "unknown"] {
        let line = format!("refused the system call {name} to the thread");
        assert!(lines.contains(&line), "{lines}");
    }
}
