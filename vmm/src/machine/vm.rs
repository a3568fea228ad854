//! The virtual machine as KVM has it: memory slots, interrupt controllers,
//! and the eventfds that join devices to the guest without an exit.

use std::sync::Arc;

use devices::io_apic::Router;
use devices::virtio::RegisterPage;
use devices::virtio::mmio::ACKNOWLEDGE_USED;
use devices::window::Windows;
use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{IoEventAddress, Kvm, VmFd};
use vm_memory::{GuestMemory, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::{layout, memory, routes};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("KVM creates no virtual machine")]
    Create(#[source] kvm_ioctls::Error),
    /// No room for what KVM keeps in guest-physical space.
    #[error("KVM cannot reserve guest addresses for its own use")]
    Reserve(#[source] kvm_ioctls::Error),
    #[error("KVM creates no interrupt controllers")]
    Irqchip(#[source] kvm_ioctls::Error),
    #[error("KVM creates no PIT")]
    Pit(#[source] kvm_ioctls::Error),
    #[error(transparent)]
    Memory(#[from] memory::Error),
    #[error("KVM does not take the doorbell at {address:#x}")]
    Doorbell {
        address: u64,
        source: kvm_ioctls::Error,
    },
    #[error("KVM does not take interrupt {gsi}")]
    Interrupt { gsi: u32, source: kvm_ioctls::Error },
}

/// A virtual machine with memory and interrupt controllers, no processors.
#[derive(Debug)]
pub(super) struct Vm {
    fd: Arc<VmFd>,
    /// Keeps the memory that the slots name.
    memory: GuestMemoryMmap,
    /// The same of the windows.
    windows: Windows,
    /// The same of what the guest reads of registers.
    pages: Vec<Arc<RegisterPage>>,
}

impl Vm {
    pub(super) fn new(kvm: &Kvm, memory: GuestMemoryMmap, windows: Windows) -> Result<Self, Error> {
        let fd = kvm.create_vm().map_err(Error::Create)?;
        fd.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .and_then(|()| fd.set_tss_address(layout::KVM_TSS))
            .map_err(Error::Reserve)?;
        memory::register(&fd, &memory)?;
        memory::register_windows(&fd, &memory, &windows)?;
        fd.create_irq_chip().map_err(Error::Irqchip)?;
        // For kernels without ACPI or kvm-clock, which calibrate against it.
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        fd.create_pit2(pit).map_err(Error::Pit)?;
        Ok(Self {
            fd: Arc::new(fd),
            memory,
            windows,
            pages: Vec::new(),
        })
    }

    pub(super) fn fd(&self) -> &VmFd {
        &self.fd
    }

    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    pub(super) fn windows(&self) -> &Windows {
        &self.windows
    }

    /// What must not go before the VM and its vCPUs do.
    pub(super) fn pages(&self) -> &[Arc<RegisterPage>] {
        &self.pages
    }

    /// Lets the guest read `page` at `address` without an exit. Writes are exits, or
    /// signals on eventfds, as if nothing were there.
    pub(super) fn show(&mut self, page: &Arc<RegisterPage>, address: u64) -> Result<(), Error> {
        self.pages.push(Arc::clone(page));
        let slots = self.memory.num_regions() + self.windows.iter().count() + self.pages.len() - 1;
        memory::register_page(&self.fd, slots, page, address)?;
        Ok(())
    }

    /// Takes the guest's acknowledgement of used buffers at `address` without an exit,
    /// to an eventfd that nobody reads.
    pub(super) fn take_acknowledgements(&self, address: u64, sink: &EventFd) -> Result<(), Error> {
        self.fd
            .register_ioevent(sink, &IoEventAddress::Mmio(address), ACKNOWLEDGE_USED)
            .map_err(|source| Error::Doorbell { address, source })
    }

    /// Turns the guest's write of a queue's index to `address` into a signal on
    /// the eventfd of that queue.
    pub(super) fn ring_doorbells(&self, address: u64, kicks: &[Arc<EventFd>]) -> Result<(), Error> {
        for (kick, index) in kicks.iter().zip(0_u32..) {
            self.fd
                .register_ioevent(kick, &IoEventAddress::Mmio(address), index)
                .map_err(|source| Error::Doorbell { address, source })?;
        }
        Ok(())
    }

    /// Makes a write to `line` the interrupt `gsi`: an edge on the pin of that number
    /// of KVM's IO-APIC, or, from [`layout::FIRST_MESSAGE`] on, the message that
    /// [`Self::router`] was told.
    pub(super) fn wire_interrupt(&self, line: &EventFd, gsi: u32) -> Result<(), Error> {
        self.fd
            .register_irqfd(line, gsi)
            .map_err(|source| Error::Interrupt { gsi, source })
    }

    /// Where an IO-APIC with so many pins tells what they send.
    pub(super) fn router(&self, pins: u8) -> Router {
        routes::router(Arc::downgrade(&self.fd), pins)
    }
}
