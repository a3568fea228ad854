//! Which interrupt of KVM's goes where: the pins of its own controllers, and a
//! message for each pin of [`IoApic`](devices::io_apic::IoApic).

use std::sync::{Arc, Mutex, Once, PoisonError, Weak};

use devices::io_apic::{Message, Router};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
    kvm_irq_routing_entry__bindgen_ty_1 as Target, kvm_irq_routing_irqchip, kvm_irq_routing_msi,
};
use kvm_ioctls::VmFd;

use super::layout;

/// Pins of each 8259.
const PIC_PINS: u32 = 8;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there are too many routes")]
    TooMany(#[source] vmm_sys_util::fam::Error),
    #[error("KVM does not take them")]
    Kvm(#[source] kvm_ioctls::Error),
}

/// What changes the routes of `vm`, for an IO-APIC with so many pins. It does not keep
/// `vm` open, which is not to outlive the memory that it was given.
pub(super) fn router(vm: Weak<VmFd>, pins: u8) -> Router {
    let messages = Mutex::new(vec![None; usize::from(pins)]);
    // A guest can ask as often as it likes.
    let told = Once::new();
    Arc::new(move |pin, message| {
        let mut messages = messages.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(slot), Some(vm)) = (messages.get_mut(usize::from(pin)), vm.upgrade()) {
            *slot = message;
            if let Err(error) = set(&vm, &messages) {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                told.call_once(|| {
                    log::error!(
                        "interrupts of the devices do not go where the guest wants them: {error}: {}",
                        cause.unwrap_or_default()
                    );
                });
            }
        }
    })
}

/// KVM takes a whole table. What is KVM's own is as KVM has it from the start.
fn set(vm: &VmFd, messages: &[Option<Message>]) -> Result<(), Error> {
    let table = KvmIrqRouting::from_entries(&entries(messages)).map_err(Error::TooMany)?;
    vm.set_gsi_routing(&table).map_err(Error::Kvm)
}

fn entries(messages: &[Option<Message>]) -> Vec<kvm_irq_routing_entry> {
    let mut entries = Vec::new();
    for pin in 0..u32::from(layout::IO_APIC_PINS) {
        entries.push(pin_of(KVM_IRQCHIP_IOAPIC, pin, pin));
        if pin < PIC_PINS {
            entries.push(pin_of(KVM_IRQCHIP_PIC_MASTER, pin, pin));
        } else if pin < 2 * PIC_PINS {
            entries.push(pin_of(KVM_IRQCHIP_PIC_SLAVE, pin, pin - PIC_PINS));
        }
    }
    let sent = (layout::FIRST_MESSAGE..).zip(messages);
    entries.extend(sent.filter_map(|(gsi, message)| Some(message_of(gsi, (*message)?))));
    entries
}

fn pin_of(irqchip: u32, gsi: u32, pin: u32) -> kvm_irq_routing_entry {
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: Target {
            irqchip: kvm_irq_routing_irqchip { irqchip, pin },
        },
        ..Default::default()
    }
}

fn message_of(gsi: u32, message: Message) -> kvm_irq_routing_entry {
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: Target {
            msi: kvm_irq_routing_msi {
                address_lo: message.address,
                data: message.data,
                ..Default::default()
            },
        },
        ..Default::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_of_kvm_are_always_in_the_table_and_messages_follow() {
        let message = Message {
            address: 0xfee0_0000,
            data: 0x31,
        };
        let table = entries(&[None, Some(message), None]);
        let gsis = |kind| {
            let of_kind = table.iter().filter(move |entry| entry.type_ == kind);
            of_kind.map(|entry| entry.gsi).collect::<Vec<_>>()
        };
        // Both an 8259 and the IO-APIC have the first sixteen.
        let pins = gsis(KVM_IRQ_ROUTING_IRQCHIP);
        assert_eq!(pins.len(), 24 + 16);
        assert!((0..24).all(|gsi| pins.contains(&gsi)));
        assert_eq!(gsis(KVM_IRQ_ROUTING_MSI), [25]);
    }
}
