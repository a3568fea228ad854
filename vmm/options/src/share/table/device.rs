//! The options of the device itself: its queues, its window and its features.

use devices::virtio::fs::{MAX_REQUEST_QUEUES, QUEUE_SIZES};
use devices::window::UNIT;

use crate::share::option::{Exclusion, ShareOption, Takes};
use crate::share::value::{number, wrong};
use crate::size::Size;

pub(super) const DAX: ShareOption = ShareOption {
    name: "dax",
    takes: Takes::Value {
        placeholder: "SIZE",
        example: "1G",
        set: |share, value| {
            let size = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok())
                .filter(|size: &Size| size.bytes().is_multiple_of(UNIT));
            let expected = || "a multiple of 2M, such as 256M or 4G; 0 for none".to_owned();
            let size = size.ok_or_else(|| wrong("dax", value, expected()))?;
            share.service.window = Some(size).filter(|size| size.bytes() > 0);
            Ok(())
        },
    },
    help: "the guest maps files and does not copy them (DAX), in a window of this size; with \
           `cache=auto` and `always`",
    default: "0",
    excludes: &[
        Exclusion {
            other: "cache=never",
            mend: "files are not mapped that are asked of the host every time; leave dax out, \
                   or use cache=auto, with which data in the window are never old",
        },
        Exclusion {
            other: "cache=metadata",
            mend: "files are not mapped that are asked of the host every time; leave dax out, \
                   or use cache=auto, with which data in the window are never old",
        },
        // Linux would not hear of the times of changes that go past it.
        Exclusion {
            other: "writeback",
            mend: "what is mapped is written at once and not collected; leave one of them out",
        },
    ],
    needs: None,
    root_only: false,
    shown: Some(("dax_bytes", |service| {
        service.window.map_or(0, Size::bytes).into()
    })),
};

pub(super) const QUEUES: ShareOption = ShareOption {
    name: "queues",
    takes: Takes::Value {
        placeholder: "N",
        example: "2",
        set: |share, value| {
            let queues = number(value).filter(|number| (1..=MAX_REQUEST_QUEUES).contains(number));
            let expected = || format!("a number from 1 to {MAX_REQUEST_QUEUES}");
            share.service.queues.requests =
                queues.ok_or_else(|| wrong("queues", value, expected()))?;
            Ok(())
        },
    },
    help: "request queues, one thread each",
    default: "1",
    excludes: &[],
    needs: None,
    root_only: false,
    shown: Some(("queues", |service| service.queues.requests.into())),
};

pub(super) const QUEUE_SIZE: ShareOption = ShareOption {
    name: "queue-size",
    takes: Takes::Value {
        placeholder: "N",
        example: "256",
        set: |share, value| {
            let size =
                number(value).filter(|size| size.is_power_of_two() && QUEUE_SIZES.contains(size));
            let (least, most) = (QUEUE_SIZES.start(), QUEUE_SIZES.end());
            let expected = || format!("a power of two from {least} to {most}");
            share.service.queues.size =
                size.ok_or_else(|| wrong("queue-size", value, expected()))?;
            Ok(())
        },
    },
    help: "elements of each queue, a power of two from 16 to 1024; limits the length of the \
           guest's requests",
    default: "1024",
    excludes: &[],
    needs: None,
    root_only: false,
    shown: Some(("queue_size", |service| service.queues.size.into())),
};

pub(super) const ACCESS_PLATFORM: ShareOption = ShareOption {
    name: "access-platform",
    takes: Takes::Nothing(|share| share.service.access_platform = true),
    help: "the guest's driver uses its DMA API (`VIRTIO_F_ACCESS_PLATFORM`), so that \
           `--cmdline swiotlb=force` acts on this device: for those who test a driver",
    default: "off",
    excludes: &[],
    needs: None,
    root_only: false,
    shown: Some(("access_platform", |service| service.access_platform.into())),
};
