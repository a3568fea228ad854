//! The device status: which steps of the driver are legal, as a table
//! (virtio 1.2, 2.1 and 3.1.1).

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};

/// The driver found the device.
pub(crate) const ACKNOWLEDGE: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE;
/// The driver knows how to drive it.
pub(crate) const DRIVER: u32 = VIRTIO_CONFIG_S_DRIVER;
/// Both sides agreed on the features.
pub(crate) const FEATURES_OK: u32 = VIRTIO_CONFIG_S_FEATURES_OK;
/// The driver is ready: the queues are live.
pub(crate) const DRIVER_OK: u32 = VIRTIO_CONFIG_S_DRIVER_OK;
/// Only a reset can mend the device. The device's own bit.
pub(crate) const NEEDS_RESET: u32 = VIRTIO_CONFIG_S_NEEDS_RESET;
/// The driver gave up.
pub(crate) const FAILED: u32 = VIRTIO_CONFIG_S_FAILED;

const START: u32 = 0;
const FOUND: u32 = ACKNOWLEDGE;
const NEGOTIATING: u32 = FOUND | DRIVER;
const AGREED: u32 = NEGOTIATING | FEATURES_OK;
const LIVE: u32 = AGREED | DRIVER_OK;

/// Every step a driver can take, apart from reset (writing 0) and writing
/// again what is there. A bit once set is never cleared but by reset.
const STEPS: [(u32, u32, Step); 8] = [
    (START, FOUND, Step::Taken),
    (FOUND, NEGOTIATING, Step::Taken),
    (NEGOTIATING, AGREED, Step::Taken),
    (AGREED, LIVE, Step::Activate),
    (FOUND, FOUND | FAILED, Step::Taken),
    (NEGOTIATING, NEGOTIATING | FAILED, Step::Taken),
    (AGREED, AGREED | FAILED, Step::Taken),
    (LIVE, LIVE | FAILED, Step::Taken),
];

/// What became of a write to the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The status is what was written.
    Taken,
    /// The same, and the device has to go live.
    Activate,
    /// Nothing changed: it was there already.
    Repeated,
    /// Nothing changed: there is no such step, or the features do not do.
    Refused,
}

/// How far the driver has come. NEEDS_RESET is not in here: it is the
/// device's to set, see [`Interrupt`](super::Interrupt).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status(u32);

impl Status {
    /// The bits the driver has set.
    #[must_use]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// Whether the driver may choose features now.
    #[must_use]
    pub(crate) fn negotiating(self) -> bool {
        self.0 == NEGOTIATING
    }

    /// Whether the driver may set up queues now: not before the features are
    /// agreed on, not when they are live (virtio 1.2, 3.1.1 and 4.2.2.2).
    #[must_use]
    pub(crate) fn configuring(self) -> bool {
        self.0 == AGREED
    }

    /// Whether the device is live.
    #[must_use]
    pub(crate) fn live(self) -> bool {
        self.0 & DRIVER_OK != 0
    }

    /// Takes a write of `written`, other than the 0 of a reset, from a driver
    /// that chose `accepted` of the features `offered`.
    pub(crate) fn advance(&mut self, written: u32, offered: u64, accepted: u64) -> Step {
        // A driver ORs its bit into what it read, the device's bit included.
        let written = written & !NEEDS_RESET;
        if written == self.0 {
            return Step::Repeated;
        }
        let step = STEPS
            .iter()
            .find(|(from, to, _)| (*from, *to) == (self.0, written))
            .map_or(Step::Refused, |(_, _, step)| *step);
        if step == Step::Refused || (written == AGREED && !acceptable(offered, accepted)) {
            return Step::Refused;
        }
        self.0 = written;
        step
    }

    /// Back to the start.
    pub(crate) fn reset(&mut self) {
        self.0 = START;
    }
}

/// Whether a driver may accept these features (virtio 1.2, 2.2.1 and 6.2):
/// only what was offered, and VERSION_1, without which it is a legacy driver.
fn acceptable(offered: u64, accepted: u64) -> bool {
    accepted & !offered == 0 && accepted & (1 << VIRTIO_F_VERSION_1) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
    const OFFERED: u64 = VERSION_1 | 1;

    fn at(bits: u32) -> Status {
        Status(bits)
    }

    #[test]
    fn the_steps_of_a_good_driver_lead_to_a_live_device() {
        let mut status = Status::default();
        let stage = |status: Status| (status.negotiating(), status.configuring(), status.live());
        assert_eq!(stage(status), (false, false, false));
        assert_eq!(status.advance(1, OFFERED, 0), Step::Taken);
        assert_eq!(stage(status), (false, false, false));
        assert_eq!(status.advance(3, OFFERED, 0), Step::Taken);
        assert_eq!(stage(status), (true, false, false));
        assert_eq!(status.advance(11, OFFERED, VERSION_1), Step::Taken);
        assert_eq!(stage(status), (false, true, false));
        assert_eq!(status.advance(15, OFFERED, VERSION_1), Step::Activate);
        assert_eq!(stage(status), (false, false, true));
        assert_eq!(status.bits(), 15);
    }

    #[test]
    fn only_the_steps_in_the_table_are_taken() {
        for from in [START, FOUND, NEGOTIATING, AGREED, LIVE] {
            for to in 1..=0xff {
                let mut status = at(from);
                let step = status.advance(to, OFFERED, VERSION_1);
                let to = to & !NEEDS_RESET;
                let legal = match from {
                    START => to == FOUND,
                    FOUND => to == NEGOTIATING || to == FOUND | FAILED,
                    NEGOTIATING => to == AGREED || to == NEGOTIATING | FAILED,
                    AGREED => to == LIVE || to == AGREED | FAILED,
                    _ => to == LIVE | FAILED,
                };
                if from == to {
                    assert_eq!(step, Step::Repeated);
                } else {
                    assert_eq!(step != Step::Refused, legal, "{from:#x} -> {to:#x}");
                    assert_eq!(status.bits(), if legal { to } else { from });
                }
            }
        }
    }

    #[test]
    fn after_failed_only_a_reset_helps() {
        let mut status = at(LIVE | FAILED);
        assert_eq!(status.advance(LIVE, OFFERED, VERSION_1), Step::Refused);
        assert_eq!(
            status.advance(ACKNOWLEDGE, OFFERED, VERSION_1),
            Step::Refused
        );
        status.reset();
        assert_eq!(status.advance(ACKNOWLEDGE, OFFERED, VERSION_1), Step::Taken);
    }

    #[test]
    fn features_that_were_not_offered_are_refused() {
        let mut status = at(NEGOTIATING);
        let step = status.advance(AGREED, OFFERED, VERSION_1 | 2);
        assert_eq!((step, status), (Step::Refused, at(NEGOTIATING)));
    }

    #[test]
    fn a_legacy_driver_is_refused() {
        let mut status = at(NEGOTIATING);
        assert_eq!(status.advance(AGREED, OFFERED, 1), Step::Refused);
    }

    #[test]
    fn the_devices_own_bit_written_back_is_ignored() {
        let mut status = at(AGREED);
        let step = status.advance(LIVE | NEEDS_RESET, OFFERED, VERSION_1);
        assert_eq!((step, status), (Step::Activate, at(LIVE)));
    }
}
