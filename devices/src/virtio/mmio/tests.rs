//! Every register, with a device that records what it is asked to do.

use std::sync::{Mutex, MutexGuard};

use proptest::prelude::*;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::QueueT;
use vm_memory::GuestAddress;

use super::*;
use crate::virtio::RegisterPage;
use crate::virtio::driver::{DriverQueue, go_live, negotiate, read32, write32};

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const OFFERED: u64 = VERSION_1 | EVENT_IDX | 1;

#[derive(Default)]
struct Record {
    activations: Vec<Activation>,
    stopped: Vec<u16>,
    resets: u32,
    refuses: bool,
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap()
    }
}

impl VirtioDevice for Recorder {
    fn id(&self) -> u32 {
        26
    }

    fn features(&self) -> u64 {
        OFFERED
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64, 16]
    }

    fn config(&self) -> &[u8] {
        &[1, 2, 3, 4, 5, 6]
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        if self.record().refuses {
            let source = io::ErrorKind::WouldBlock.into();
            return Err(ActivateError::SpawnWorker { index: 0, source });
        }
        self.record().activations.push(activation);
        Ok(())
    }

    fn stop_queue(&mut self, index: u16) {
        self.record().stopped.push(index);
    }

    fn reset(&mut self) {
        self.record().resets += 1;
    }
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap()
}

fn setup() -> (MmioTransport, Recorder) {
    let device = Recorder::default();
    let transport = MmioTransport::new(memory(), Box::new(device.clone())).unwrap();
    (transport, device)
}

fn queue(base: u64, size: u16) -> DriverQueue {
    DriverQueue::new(&memory(), base, size)
}

fn status(transport: &mut MmioTransport) -> u32 {
    read32(transport, reg::VIRTIO_MMIO_STATUS)
}

#[test]
fn the_device_identifies_itself() {
    let (mut transport, _) = setup();
    assert_eq!(
        read32(&mut transport, reg::VIRTIO_MMIO_MAGIC_VALUE),
        0x7472_6976
    );
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_VERSION), 2);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_DEVICE_ID), 26);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_VENDOR_ID), 0);
    assert_eq!(
        read32(&mut transport, reg::VIRTIO_MMIO_CONFIG_GENERATION),
        0
    );
}

#[test]
fn features_are_read_in_halves() {
    let (mut transport, _) = setup();
    let mut half = |select| {
        write32(&mut transport, reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL, select);
        read32(&mut transport, reg::VIRTIO_MMIO_DEVICE_FEATURES)
    };
    assert_eq!(u64::from(half(0)), OFFERED & 0xffff_ffff);
    assert_eq!(u64::from(half(1)), OFFERED >> 32);
    assert_eq!(half(2), 0);
    assert_eq!(half(u32::MAX), 0);
}

#[test]
fn features_are_taken_only_while_they_are_negotiated() {
    let (mut transport, device) = setup();
    write32(&mut transport, reg::VIRTIO_MMIO_DRIVER_FEATURES, 2);
    negotiate(&mut transport, VERSION_1 | EVENT_IDX);
    write32(&mut transport, reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    write32(&mut transport, reg::VIRTIO_MMIO_DRIVER_FEATURES, 1);
    go_live(&mut transport);
    assert_eq!(
        device.record().activations[0].features,
        VERSION_1 | EVENT_IDX
    );
}

#[test]
fn features_ok_does_not_stick_for_what_was_not_offered() {
    let (mut transport, _) = setup();
    for value in [1, 3] {
        write32(&mut transport, reg::VIRTIO_MMIO_STATUS, value);
    }
    write32(&mut transport, reg::VIRTIO_MMIO_DRIVER_FEATURES, 2);
    write32(&mut transport, reg::VIRTIO_MMIO_STATUS, 0xb);
    assert_eq!(status(&mut transport), 3);
    // Right features, but VERSION_1 is missing.
    write32(&mut transport, reg::VIRTIO_MMIO_DRIVER_FEATURES, 1);
    write32(&mut transport, reg::VIRTIO_MMIO_STATUS, 0xb);
    assert_eq!(status(&mut transport), 3);
    write32(&mut transport, reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    write32(&mut transport, reg::VIRTIO_MMIO_DRIVER_FEATURES, 1);
    write32(&mut transport, reg::VIRTIO_MMIO_STATUS, 0xb);
    assert_eq!(status(&mut transport), 0xb);
}

#[test]
fn queues_that_are_there_have_a_size() {
    let (mut transport, _) = setup();
    let mut max = |select| {
        write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_SEL, select);
        read32(&mut transport, reg::VIRTIO_MMIO_QUEUE_NUM_MAX)
    };
    assert_eq!([max(0), max(1), max(2), max(u32::MAX)], [64, 16, 0, 0]);
}

#[test]
fn a_live_device_gets_the_queues_as_the_driver_set_them_up() {
    let (mut transport, device) = setup();
    negotiate(&mut transport, OFFERED);
    queue(0x1_0000, 32).set_up(&mut transport, 0);
    queue(0x4_0000, 16).set_up(&mut transport, 1);
    assert!(device.record().activations.is_empty());
    go_live(&mut transport);

    assert_eq!(status(&mut transport), 0xf);
    let record = device.record();
    let [activation] = &record.activations[..] else {
        panic!("{:?}", record.activations)
    };
    let [first, second] = &activation.queues[..] else {
        panic!("{activation:?}")
    };
    assert_eq!((first.index, second.index), (0, 1));
    assert_eq!((first.queue.size(), second.queue.size()), (32, 16));
    assert_eq!(first.queue.desc_table(), 0x1_0000);
    assert_eq!(first.queue.avail_ring(), 0x1_8000);
    assert_eq!(second.queue.used_ring(), 0x4_a000);
    assert!(first.queue.event_idx_enabled());
}

#[test]
fn addresses_have_64_bits() {
    let (mut transport, _) = setup();
    negotiate(&mut transport, VERSION_1);
    write32(
        &mut transport,
        reg::VIRTIO_MMIO_QUEUE_DESC_HIGH,
        0x1234_5678,
    );
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x9abc_def0);
    assert_eq!(transport.queues[0].descriptors, 0x1234_5678_9abc_def0);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_DESC_HIGH, 0);
    assert_eq!(transport.queues[0].descriptors, 0x9abc_def0);
}

#[test]
fn a_queue_that_the_driver_does_not_use_is_not_served() {
    let (mut transport, device) = setup();
    negotiate(&mut transport, VERSION_1);
    queue(0x1_0000, 16).set_up(&mut transport, 1);
    go_live(&mut transport);
    let record = device.record();
    let queues = &record.activations[0].queues;
    assert_eq!(queues.iter().map(|q| q.index).collect::<Vec<_>>(), [1]);
    assert!(!queues[0].queue.event_idx_enabled());
}

#[test]
fn queue_registers_are_closed_before_features_and_once_ready() {
    let (mut transport, _) = setup();
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_NUM, 8);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY, 1);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY), 0);

    negotiate(&mut transport, VERSION_1);
    queue(0x1_0000, 16).set_up(&mut transport, 0);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY), 1);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_NUM, 8);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0);
    let queue = transport.queues[0];
    assert_eq!((queue.size, queue.available), (16, 0x1_8000));

    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY), 0);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_NUM, 8);
    assert_eq!(transport.queues[0].size, 8);
}

#[test]
fn zero_to_queue_ready_stops_a_live_queue_for_good() {
    let (mut transport, device) = setup();
    negotiate(&mut transport, VERSION_1);
    queue(0x1_0000, 16).set_up(&mut transport, 1);
    go_live(&mut transport);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY, 0);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(device.record().stopped, [1]);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY, 1);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY), 0);
}

#[test]
fn a_queue_that_cannot_be_makes_the_device_need_a_reset() {
    let (mut transport, device) = setup();
    negotiate(&mut transport, VERSION_1);
    let mut outside = queue(0, 16);
    outside.size = 3;
    outside.set_up(&mut transport, 0);
    go_live(&mut transport);
    assert!(device.record().activations.is_empty());
    assert_eq!(status(&mut transport), 0x4f);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    assert_eq!(transport.irq().read().unwrap(), 1);

    write32(&mut transport, reg::VIRTIO_MMIO_STATUS, 0);
    assert_eq!(status(&mut transport), 0);
}

#[test]
fn a_device_that_cannot_start_needs_a_reset() {
    let (mut transport, device) = setup();
    device.record().refuses = true;
    negotiate(&mut transport, VERSION_1);
    go_live(&mut transport);
    assert_eq!(status(&mut transport), 0x4f);
}

#[test]
fn a_queue_that_is_taken_back_before_it_was_live_is_none_of_the_devices() {
    let (mut transport, device) = setup();
    negotiate(&mut transport, VERSION_1);
    queue(0x1000, 16).set_up(&mut transport, 1);
    write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY), 0);
    assert!(device.record().stopped.is_empty());
    go_live(&mut transport);
    assert!(device.record().activations[0].queues.is_empty());
}

#[test]
fn a_notification_that_comes_here_still_kicks() {
    let (mut transport, _) = setup();
    for index in [1, 1, 0, 2, u32::MAX] {
        write32(&mut transport, reg::VIRTIO_MMIO_QUEUE_NOTIFY, index);
    }
    let kicks: Vec<_> = transport
        .kicks()
        .iter()
        .map(|kick| kick.read().unwrap())
        .collect();
    assert_eq!(kicks, [1, 2]);
}

#[test]
fn interrupt_causes_are_read_and_acknowledged() {
    let (mut transport, _) = setup();
    transport.interrupt.signal_used();
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    write32(&mut transport, reg::VIRTIO_MMIO_INTERRUPT_ACK, 2);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    write32(&mut transport, reg::VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

#[test]
fn without_a_window_the_shared_memory_registers_are_all_ones() {
    let (mut transport, _) = setup();
    for region in [0, 1] {
        write32(&mut transport, reg::VIRTIO_MMIO_SHM_SEL, region);
        for register in [
            reg::VIRTIO_MMIO_SHM_LEN_LOW,
            reg::VIRTIO_MMIO_SHM_LEN_HIGH,
            reg::VIRTIO_MMIO_SHM_BASE_LOW,
            reg::VIRTIO_MMIO_SHM_BASE_HIGH,
        ] {
            assert_eq!(read32(&mut transport, register), u32::MAX);
        }
    }
}

#[test]
fn configuration_is_read_at_any_width_and_is_zero_past_its_end() {
    let (mut transport, _) = setup();
    let mut read = |offset, len| {
        let mut data = vec![0xee; len];
        transport.read(offset, &mut data);
        data
    };
    assert_eq!(read(CONFIG, 1), [1]);
    assert_eq!(read(CONFIG + 1, 2), [2, 3]);
    assert_eq!(read(CONFIG + 3, 4), [4, 5, 6, 0]);
    assert_eq!(read(CONFIG, 8), [1, 2, 3, 4, 5, 6, 0, 0]);
    assert_eq!(read(CONFIG + 6, 4), [0; 4]);
    assert_eq!(read(u64::MAX, 1), [0]);
}

#[test]
fn configuration_cannot_be_written() {
    let (mut transport, _) = setup();
    transport.write(CONFIG, &[9; 4]);
    let mut data = [0; 4];
    transport.read(CONFIG, &mut data);
    assert_eq!(data, [1, 2, 3, 4]);
}

#[test]
fn registers_are_accessed_as_32_bits_or_not_at_all() {
    let (mut transport, _) = setup();
    for len in [0, 1, 2, 3, 8] {
        let mut data = vec![0xee; len];
        transport.read(0, &mut data);
        assert_eq!(data, vec![0; len]);
    }
    transport.write(u64::from(reg::VIRTIO_MMIO_STATUS), &[1]);
    transport.write(
        u64::from(reg::VIRTIO_MMIO_STATUS),
        &[1, 0, 0, 0, 0, 0, 0, 0],
    );
    assert_eq!(status(&mut transport), 0);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_MAGIC_VALUE + 1), 0);
}

#[test]
fn registers_for_the_other_direction_read_as_zero() {
    let (mut transport, _) = setup();
    for register in [
        reg::VIRTIO_MMIO_QUEUE_NOTIFY,
        reg::VIRTIO_MMIO_INTERRUPT_ACK,
        reg::VIRTIO_MMIO_QUEUE_SEL,
        reg::VIRTIO_MMIO_QUEUE_DESC_LOW,
        reg::VIRTIO_MMIO_GUEST_PAGE_SIZE,
        0xc0,
    ] {
        assert_eq!(read32(&mut transport, register), 0);
    }
}

#[test]
fn a_reset_forgets_everything_and_a_second_driver_can_bind() {
    let (mut transport, device) = setup();
    negotiate(&mut transport, OFFERED);
    queue(0x1_0000, 32).set_up(&mut transport, 0);
    go_live(&mut transport);
    transport.interrupt.signal_used();
    let before = device.record().resets;
    write32(&mut transport, reg::VIRTIO_MMIO_STATUS, 0);

    assert_eq!(device.record().resets, before + 1);
    assert_eq!(status(&mut transport), 0);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_eq!(read32(&mut transport, reg::VIRTIO_MMIO_QUEUE_READY), 0);
    assert_eq!(transport.queues[0].descriptors, 0);

    negotiate(&mut transport, VERSION_1);
    queue(0x4_0000, 16).set_up(&mut transport, 0);
    go_live(&mut transport);
    let record = device.record();
    let second = &record.activations[1];
    assert_eq!(second.features, VERSION_1);
    assert_eq!(second.queues[0].queue.desc_table(), 0x4_0000);
}

#[test]
fn a_driver_that_gave_up_can_start_over_only_by_a_reset() {
    let (mut transport, _) = setup();
    negotiate(&mut transport, VERSION_1);
    write32(&mut transport, reg::VIRTIO_MMIO_STATUS, 0x8b);
    go_live(&mut transport);
    assert_eq!(status(&mut transport), 0x8b);
    negotiate(&mut transport, VERSION_1);
}

proptest! {
    /// Any accesses at all, a driver's useful ones among them.
    #[test]
    fn no_sequence_of_accesses_makes_the_transport_panic(
        accesses in prop::collection::vec(
            (
                prop_oneof![(0..0x110_u64), (0..0x40_u64).prop_map(|n| n * 4), any::<u64>()],
                prop_oneof![0..16_u64, 0..0x10_0000_u64, any::<u64>()],
                prop_oneof![9 => Just(4_usize), 1 => 0..16_usize],
                any::<bool>(),
            ),
            0..200,
        ),
        negotiated in any::<bool>(),
    ) {
        let (mut transport, device) = setup();
        if negotiated {
            negotiate(&mut transport, OFFERED);
        }
        for (offset, value, len, write) in accesses {
            let mut data = [0; 16];
            data[..8].copy_from_slice(&value.to_le_bytes());
            if write {
                transport.write(offset, &data[..len]);
            } else {
                transport.read(offset, &mut data[..len]);
            }
            // What is mapped is what an exit would say.
            for offset in (u64::from(RegisterPage::FIRST)..0x110).step_by(4) {
                let mut bytes = [0; 4];
                transport.read(offset, &mut bytes);
                let offset = u32::try_from(offset).unwrap();
                prop_assert_eq!(transport.page().load(offset), u32::from_le_bytes(bytes));
            }
        }
        // Whatever happened, a good driver gets the device to work.
        let before = device.record().activations.len();
        negotiate(&mut transport, OFFERED);
        queue(0x1_0000, 16).set_up(&mut transport, 1);
        go_live(&mut transport);
        prop_assert_eq!(device.record().activations.len(), before + 1);
        prop_assert_eq!(status(&mut transport), 0xf);
    }
}
