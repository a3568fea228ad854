//! How the interrupts of the virtio devices reach the guest.

use devices::io_apic;

use super::layout;

/// Which controller they go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wiring {
    /// KVM's own, on pins that a kernel has without ACPI.
    Pins,
    /// The IO-APIC that sends messages: KVM delivers these from the thread of the
    /// device, without a thread of the host's kernel in between. Only ACPI tells a
    /// kernel of a second IO-APIC.
    Messages,
}

impl Wiring {
    /// How many interrupts so many devices have: beyond that they share them.
    pub(super) fn lines(self, devices: usize) -> usize {
        devices.min(match self {
            Self::Pins => layout::DEVICE_PINS.len(),
            Self::Messages => usize::from(io_apic::MOST_PINS),
        })
    }

    /// The pins of the IO-APIC that sends messages, if there is one.
    pub(super) fn message_pins(self, devices: usize) -> Option<u8> {
        let pins = (self == Self::Messages).then(|| u8::try_from(self.lines(devices)).ok())??;
        (pins > 0).then_some(pins)
    }

    /// The interrupt of the `index`th device, as a global system interrupt.
    pub(super) fn interrupt(self, index: usize) -> u32 {
        match self {
            Self::Pins => layout::virtio_pin(index),
            Self::Messages => layout::message_interrupt(index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_an_interrupt_of_its_own_as_far_as_they_go() {
        let messages = Wiring::Messages;
        assert_eq!(messages.message_pins(0), None);
        assert_eq!(messages.message_pins(3), Some(3));
        assert_eq!(messages.message_pins(500), Some(io_apic::MOST_PINS));
        assert_eq!(messages.interrupt(0), 24);
        assert_eq!(messages.interrupt(119), 143);
        assert_eq!(messages.interrupt(120), 24);
        assert_eq!(Wiring::Pins.message_pins(3), None);
        assert_eq!(Wiring::Pins.lines(100), layout::DEVICE_PINS.len());
    }
}
