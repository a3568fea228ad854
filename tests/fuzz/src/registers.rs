//! Accesses to the registers of a device with live queues.

use devices::bus::BusDevice;

use crate::guest::{BUFFERS, Guest, MEMORY, OnlyGuest};
use crate::input::Input;

/// Most steps of one run.
const STEPS: usize = 64;
/// Bytes of addresses that a device takes up.
const WINDOW: u64 = 0x1000;

static GUEST: OnlyGuest = OnlyGuest::new(Guest::with_share);

/// Does to the device what `data` says.
pub fn run(data: &[u8]) {
    GUEST.run(data, |guest, input| {
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            step(guest, input);
        }
        // Whatever it is in, a reset brings it back.
        guest.begin();
    });
}

fn step(guest: &mut Guest, input: &mut Input<'_>) {
    let what = input.u8();
    match what % 8 {
        // A register that there may be, as a driver would.
        0..=2 => {
            let register = u32::from(input.u8()) * 4;
            let value = match what & 8 {
                0 => input.u8().into(),
                _ => input.u32(),
            };
            guest.write32(register, value);
        }
        3 => {
            let register = u32::from(input.u8()) * 4;
            guest.read32(register);
        }
        // Any access that lies within the device.
        4 | 5 => {
            let offset = u64::from(input.u16()) % WINDOW;
            let room = usize::try_from(WINDOW - offset).unwrap_or(0);
            let len = usize::from(input.u8() % 16).min(room);
            let mut data = vec![0; len];
            if what % 8 == 4 {
                for (to, from) in data.iter_mut().zip(input.take(len)) {
                    *to = *from;
                }
                guest.transport.write(offset, &data);
            } else {
                guest.transport.read(offset, &mut data);
            }
        }
        // The rings and what they lead to.
        6 => {
            let at = match what & 8 {
                0 => u64::from(input.u16()) % BUFFERS,
                _ => u64::from(input.u32()) % MEMORY,
            };
            let len = input.u8().into();
            guest.store(at, input.take(len));
        }
        _ => guest.kick(usize::from(what >> 3 & 1)),
    }
}
