//! Where the guest is to stop: instructions that a byte of ours takes the place
//! of, and what the debug registers watch.

use std::collections::BTreeMap;

use gdbstub::target::ext::breakpoints::WatchKind;
use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP, kvm_guest_debug,
    kvm_guest_debug_arch,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// INT3.
const BREAKPOINT: u8 = 0xcc;
/// Debug registers that hold an address (Intel SDM vol. 3, 17.2).
const SLOTS: usize = 4;
/// DR7: bit 10 is always set.
const DR7_FIXED: u64 = 1 << 10;
/// DR7: breakpoints are exact.
const DR7_EXACT: u64 = 1 << 9;

/// What a debug register watches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// An instruction is about to be executed; `in_memory` where gdb had asked for
    /// a byte in memory that is not mapped yet.
    Execution {
        in_memory: bool,
    },
    Access(WatchKind, u64),
}

/// A debug register in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) address: u64,
    pub(super) watched: Watched,
}

/// A byte of the guest's that ours is in the place of.
#[derive(Clone, Copy, Debug)]
struct Replaced {
    at: GuestAddress,
    byte: u8,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Breakpoints {
    /// By linear address.
    in_memory: BTreeMap<u64, Replaced>,
    slots: [Option<Slot>; SLOTS],
}

impl Breakpoints {
    /// Puts a byte at `address`, which is at `physical` in memory. Says whether
    /// that was possible.
    pub(super) fn insert(
        &mut self,
        memory: &GuestMemoryMmap,
        address: u64,
        physical: GuestAddress,
    ) -> bool {
        if self.in_memory.contains_key(&address) {
            return true;
        }
        let Ok(byte) = memory.read_obj::<u8>(physical) else {
            return false;
        };
        if memory.write_obj(BREAKPOINT, physical).is_err() {
            return false;
        }
        let replaced = Replaced { at: physical, byte };
        self.in_memory.insert(address, replaced);
        true
    }

    /// Takes away the byte at `address`, unless the guest has overwritten it. Says
    /// whether there was one.
    pub(super) fn remove(&mut self, memory: &GuestMemoryMmap, address: u64) -> bool {
        let Some(Replaced { at, byte }) = self.in_memory.remove(&address) else {
            return false;
        };
        if matches!(memory.read_obj::<u8>(at), Ok(BREAKPOINT)) {
            // It could be read a moment ago.
            let _ = memory.write_obj(byte, at);
        }
        true
    }

    /// Takes away everything.
    pub(super) fn clear(&mut self, memory: &GuestMemoryMmap) {
        while let Some((&address, _)) = self.in_memory.first_key_value() {
            self.remove(memory, address);
        }
        self.slots = [None; SLOTS];
    }

    /// Whether the byte at `address` is ours.
    pub(super) fn is_in_memory(&self, address: u64) -> bool {
        self.in_memory.contains_key(&address)
    }

    /// Has a debug register watch, if one is free and can.
    pub(super) fn watch(&mut self, slot: Slot) -> bool {
        if self.slots.contains(&Some(slot)) {
            return true;
        }
        if encode(&slot).is_none() {
            return false;
        }
        let free = self.slots.iter_mut().find(|slot| slot.is_none());
        free.map(|free| *free = Some(slot)).is_some()
    }

    /// The opposite. Says whether one did.
    pub(super) fn unwatch(&mut self, slot: Slot) -> bool {
        let used = self.slots.iter_mut().find(|used| **used == Some(slot));
        used.map(|used| *used = None).is_some()
    }

    /// What made a `#DB` with this DR6, if that was one of the debug registers.
    pub(super) fn hit(&self, dr6: u64) -> Option<Slot> {
        let hit = |index: usize| dr6 & (1 << index) != 0;
        (self.slots.iter().enumerate()).find_map(|(index, slot)| slot.filter(|_| hit(index)))
    }

    /// What KVM is to intercept, with further `KVM_GUESTDBG_` flags.
    pub(super) fn control(&self, flags: u32) -> kvm_guest_debug {
        let mut debug = kvm_guest_debug {
            control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP | flags,
            pad: 0,
            arch: kvm_guest_debug_arch::default(),
        };
        let mut enabled = 0;
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let Some(code) = encode(slot) else { continue };
            if let Some(register) = debug.arch.debugreg.get_mut(index) {
                *register = slot.address;
            }
            // The global enable bit, and four bits of what and how much.
            enabled |= (2 << (2 * index)) | (code << (16 + 4 * index));
        }
        if enabled != 0 {
            debug.control |= KVM_GUESTDBG_USE_HW_BP;
            debug.arch.debugreg[7] = DR7_FIXED | DR7_EXACT | enabled;
        }
        debug
    }
}

/// R/W and LEN of DR7 for a slot; `None` where a debug register cannot do that.
fn encode(slot: &Slot) -> Option<u64> {
    let (kind, length) = match slot.watched {
        Watched::Execution { .. } => return Some(0),
        Watched::Access(WatchKind::Write, length) => (1, length),
        Watched::Access(WatchKind::ReadWrite, length) => (3, length),
        // There is no such thing on this architecture.
        Watched::Access(WatchKind::Read, _) => return None,
    };
    let code = match length {
        1 => 0,
        2 => 1,
        4 => 3,
        8 => 2,
        _ => return None,
    };
    (slot.address.is_multiple_of(length)).then_some(kind | code << 2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap()
    }

    #[test]
    fn the_guests_byte_comes_back_unless_it_was_overwritten() {
        let memory = memory();
        memory.write_obj(0x90_u8, GuestAddress(5)).unwrap();
        let mut breakpoints = Breakpoints::default();
        let read = || memory.read_obj::<u8>(GuestAddress(5)).unwrap();
        assert!(breakpoints.insert(&memory, 0xffff_0005, GuestAddress(5)));
        assert!(breakpoints.insert(&memory, 0xffff_0005, GuestAddress(5)));
        assert_eq!(read(), BREAKPOINT);
        assert!(breakpoints.is_in_memory(0xffff_0005));
        assert!(breakpoints.remove(&memory, 0xffff_0005));
        assert_eq!(read(), 0x90);
        assert!(!breakpoints.remove(&memory, 0xffff_0005));

        assert!(breakpoints.insert(&memory, 1, GuestAddress(5)));
        memory.write_obj(0x55_u8, GuestAddress(5)).unwrap();
        breakpoints.clear(&memory);
        assert_eq!(read(), 0x55);
        assert!(!breakpoints.insert(&memory, 1, GuestAddress(0x1000)));
    }

    #[test]
    fn debug_registers_are_as_the_manual_has_them() {
        let mut breakpoints = Breakpoints::default();
        let execution = |address| Slot {
            address,
            watched: Watched::Execution { in_memory: false },
        };
        let access = |address, kind, length| Slot {
            address,
            watched: Watched::Access(kind, length),
        };
        assert!(breakpoints.watch(execution(0x1001)));
        assert!(breakpoints.watch(access(0x2008, WatchKind::Write, 8)));
        assert!(breakpoints.watch(access(0x3004, WatchKind::ReadWrite, 4)));
        let debug = breakpoints.control(0);
        assert_eq!(debug.arch.debugreg[..4], [0x1001, 0x2008, 0x3004, 0]);
        assert_eq!(debug.arch.debugreg[7], 0xf90_062a);
        assert!(debug.control & KVM_GUESTDBG_USE_HW_BP != 0);
        assert_eq!(breakpoints.hit(0xffff_0ff2).unwrap().address, 0x2008);
        assert_eq!(breakpoints.hit(0xffff_0ff8), None);

        assert!(breakpoints.unwatch(execution(0x1001)));
        assert!(!breakpoints.unwatch(execution(0x1001)));
        assert_eq!(breakpoints.hit(0xffff_0ff1), None);
    }

    #[test]
    fn what_no_debug_register_can_watch_is_refused() {
        let mut breakpoints = Breakpoints::default();
        let mut watch = |address, kind, length| {
            breakpoints.watch(Slot {
                address,
                watched: Watched::Access(kind, length),
            })
        };
        assert!(!watch(0, WatchKind::Read, 4));
        assert!(!watch(0, WatchKind::Write, 3));
        assert!(!watch(0, WatchKind::Write, 0));
        assert!(!watch(4, WatchKind::Write, 8));
        for slot in 0..4 {
            assert!(watch(slot * 8, WatchKind::Write, 8));
        }
        assert!(!watch(64, WatchKind::Write, 8));
    }
}
