//! The devices of a machine on their two buses, wired to KVM.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use devices::bus::{Bus, BusDevice, BusError};
use devices::i8042::I8042;
use devices::io_apic::{self, IoApic};
use devices::power::{PowerHandler, PowerRegisters};
use devices::serial::Serial;
use devices::virtio::mmio::{ACKNOWLEDGE_OFFSET, MmioTransport, NOTIFY_OFFSET};
use devices::virtio::{Interrupt, VirtioDevice};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::layout;
use super::vm::{self, Vm};
use super::wiring::Wiring;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0} devices are too many: use fewer shares")]
    TooManyDevices(usize),
    #[error("the host has no eventfd left for a device; raise the limit of open files (ulimit -n)")]
    EventFd(#[source] std::io::Error),
    #[error("the layout of the machine has no place for a device")]
    Bus(#[from] BusError),
    #[error(transparent)]
    Vm(#[from] vm::Error),
}

/// Everything a guest can reach by port or memory-mapped register.
#[derive(Debug)]
pub(super) struct Board {
    ports: Arc<Bus>,
    mmio: Arc<Bus>,
    serial: Arc<Mutex<Serial>>,
    transports: Vec<Arc<Mutex<MmioTransport>>>,
}

/// Checks that there is a window for each of `devices`.
pub(super) fn check_number(devices: usize) -> Result<(), Error> {
    if devices > layout::VIRTIO_MMIO_MAX {
        return Err(Error::TooManyDevices(devices));
    }
    Ok(())
}

impl Board {
    pub(super) fn new(
        vm: &mut Vm,
        wiring: Wiring,
        devices: Vec<Box<dyn VirtioDevice>>,
        console: Box<dyn Write + Send>,
        power: PowerHandler,
    ) -> Result<Self, Error> {
        check_number(devices.len())?;
        let serial = Serial::new(console).map_err(Error::EventFd)?;
        vm.wire_interrupt(serial.irq(), layout::SERIAL_PIN)?;
        let serial = Arc::new(Mutex::new(serial));

        let mut ports = Bus::new();
        insert_ports(&mut ports, layout::SERIAL_PORTS, serial.clone())?;
        insert_ports(
            &mut ports,
            layout::I8042_PORTS,
            Arc::new(Mutex::new(I8042::new(Arc::clone(&power)))),
        )?;
        insert_ports(
            &mut ports,
            layout::POWER_PORTS,
            Arc::new(Mutex::new(PowerRegisters::new(power))),
        )?;

        let mut mmio = Bus::new();
        let mut transports = Vec::with_capacity(devices.len());
        if let Some(pins) = wiring.message_pins(devices.len()) {
            let io_apic = IoApic::new(layout::MESSAGE_IO_APIC_ID, pins, vm.router(pins));
            mmio.insert(
                layout::MESSAGE_IO_APIC.into(),
                io_apic::LEN,
                Arc::new(Mutex::new(io_apic)),
            )?;
        }
        let acknowledged = EventFd::new(EFD_NONBLOCK).map_err(Error::EventFd)?;
        let lines = Lines::new(vm, wiring, devices.len())?;
        for (index, device) in devices.into_iter().enumerate() {
            let interrupt = Interrupt::on_line(lines.of(index)?);
            let transport = wire(vm, index, device, interrupt)?;
            let window = layout::virtio_window(index);
            vm.show(transport.page(), layout::virtio_page(index))?;
            vm.take_acknowledgements(window + ACKNOWLEDGE_OFFSET, &acknowledged)?;
            let transport = Arc::new(Mutex::new(transport));
            mmio.insert(window, layout::VIRTIO_MMIO_SIZE, transport.clone())?;
            transports.push(transport);
        }
        Ok(Self {
            ports: Arc::new(ports),
            mmio: Arc::new(mmio),
            serial,
            transports,
        })
    }

    pub(super) fn ports(&self) -> Arc<Bus> {
        Arc::clone(&self.ports)
    }

    pub(super) fn mmio(&self) -> Arc<Bus> {
        Arc::clone(&self.mmio)
    }

    pub(super) fn serial(&self) -> Arc<Mutex<Serial>> {
        Arc::clone(&self.serial)
    }

    /// The doorbells of the `index`th device.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub(super) fn kicks(&self, index: usize) -> Vec<Arc<EventFd>> {
        self.transports[index].lock().unwrap().kicks().to_vec()
    }

    /// The interrupt line of the `index`th device.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub(super) fn line(&self, index: usize) -> EventFd {
        let transport = self.transports[index].lock().unwrap();
        transport.irq().try_clone().unwrap()
    }

    /// Resets every virtio device: its workers are joined, so that nothing
    /// touches guest memory, and its files are closed.
    pub(super) fn reset(&self) {
        for transport in &self.transports {
            transport
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .reset();
        }
    }
}

fn insert_ports(
    bus: &mut Bus,
    ports: std::ops::Range<u16>,
    device: Arc<Mutex<dyn BusDevice>>,
) -> Result<(), BusError> {
    bus.insert(u64::from(ports.start), ports.len() as u64, device)
}

/// The interrupt lines, one for each interrupt in use. Devices that share one
/// share the eventfd, see [`Interrupt::on_line`].
struct Lines(Vec<EventFd>);

impl Lines {
    fn new(vm: &Vm, wiring: Wiring, devices: usize) -> Result<Self, Error> {
        let lines = (0..wiring.lines(devices))
            .map(|index| {
                let line = EventFd::new(EFD_NONBLOCK).map_err(Error::EventFd)?;
                vm.wire_interrupt(&line, wiring.interrupt(index))?;
                Ok(line)
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self(lines))
    }

    /// The line of the `index`th device; there are lines if there are devices.
    fn of(&self, index: usize) -> Result<EventFd, Error> {
        self.0[index % self.0.len()]
            .try_clone()
            .map_err(Error::EventFd)
    }
}

/// Puts a device behind a transport whose notifications never pass through
/// this process's vCPU threads.
fn wire(
    vm: &Vm,
    index: usize,
    device: Box<dyn VirtioDevice>,
    interrupt: Interrupt,
) -> Result<MmioTransport, Error> {
    let transport = MmioTransport::with_interrupt(vm.memory().clone(), device, interrupt)
        .map_err(Error::EventFd)?
        .with_windows(vm.windows().clone());
    let doorbell = layout::virtio_window(index) + NOTIFY_OFFSET;
    vm.ring_doorbells(doorbell, transport.kicks())?;
    Ok(transport)
}
