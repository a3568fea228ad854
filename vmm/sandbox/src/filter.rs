//! A list of system calls as a program for the kernel.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::error::Error;
use crate::role::Role;
use crate::table::{self, Only};

/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;

/// What a thread in a role may do.
#[derive(Debug)]
pub(crate) struct Filter([BpfProgram; 2]);

impl Filter {
    /// The one of `role`.
    pub(crate) fn of(role: Role) -> Result<Self, Error> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for (call, only) in table::of(role).iter().copied().flatten() {
            let allowed = rules.entry(i64::from(call.id())).or_default();
            allowed.extend(conditions(*only)?);
        }
        let absent = BTreeMap::from([(i64::from(table::ABSENT.id()), Vec::new())]);
        let no_such_call = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        Ok(Self([
            program(rules, SeccompAction::Trap, SeccompAction::Allow)?,
            program(absent, SeccompAction::Allow, no_such_call)?,
        ]))
    }

    /// Leaves the calling thread with it, and with what it had at most.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        // The one that refuses the means last.
        for program in self.0.iter().rev() {
            seccompiler::apply_filter(program)?;
        }
        Ok(())
    }
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, Error> {
    let filter = SeccompFilter::new(rules, otherwise, listed, TargetArch::x86_64);
    let program: Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
    let mut program = program.map_err(seccompiler::Error::from)?;
    refuse_other_architectures(&mut program);
    Ok(program)
}

/// Calls of another architecture, as those of 32 bits (`int $0x80`), would end the process;
/// they are refused as every other that is on no list.
fn refuse_other_architectures(program: &mut BpfProgram) {
    for instruction in program {
        if instruction.code == RETURN && instruction.k == libc::SECCOMP_RET_KILL_PROCESS {
            instruction.k = libc::SECCOMP_RET_TRAP;
        }
    }
}

/// One of these is to hold; without any all arguments are good.
fn conditions(only: Only) -> Result<Vec<SeccompRule>, Error> {
    let dword = SeccompCmpArgLen::Dword;
    let conditions = match only {
        Only::Any => Vec::new(),
        Only::OneOf(argument, values) => (values.iter())
            .map(|value| (argument, dword.clone(), SeccompCmpOp::Eq, u64::from(*value)))
            .collect(),
        Only::Masked(argument, mask, value) => vec![(
            argument,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(mask),
            value,
        )],
        Only::OwnProcess(argument) => {
            let own = u64::from(std::process::id());
            vec![(argument, dword, SeccompCmpOp::Eq, own)]
        }
    };
    let rule = |(argument, len, operator, value)| {
        SeccompRule::new(vec![SeccompCondition::new(argument, len, operator, value)?])
    };
    let rules: Result<_, seccompiler::BackendError> = conditions.into_iter().map(rule).collect();
    Ok(rules.map_err(seccompiler::Error::from)?)
}
