//! The device is reset and driven anew without the machine noticing.

use anyhow::{Result, ensure};
use tests::fixtures::Fixtures;

use crate::theme::{PATCHED, Test, Theme};
use crate::vm::{Vm, directory};

pub(crate) fn theme() -> Theme {
    Theme::new(
        "rebind",
        vec![
            Test::new(
                "a_share_comes_back_after_its_driver_was_unbound",
                PATCHED,
                virtio_driver,
            ),
            Test::new(
                "a_share_comes_back_after_its_transport_was_unbound",
                PATCHED,
                transport,
            ),
        ],
    )
}

fn virtio_driver(fixtures: &Fixtures) -> Result<()> {
    rebind(
        fixtures,
        "/sys/bus/virtio/drivers/virtiofs",
        "basename $(readlink -f $device)",
    )
}

fn transport(fixtures: &Fixtures) -> Result<()> {
    rebind(
        fixtures,
        "/sys/bus/platform/drivers/virtio-mmio",
        "basename $(dirname $(readlink -f $device))",
    )
}

/// Sets `device` to that of the share at `/mnt/t`, which shows in its interrupts: there
/// are a `file` in it and no cache.
pub(crate) const FIND_DEVICE: &str = r#"interrupts() {
  awk -v device=$1 '$NF == device { for (i = 2; i < NF - 2; i++) sum += $i } END { print sum + 0 }' /proc/interrupts
}
cd /sys/bus/virtio/drivers/virtiofs || exit 1
for one in virtio*; do eval before_$one=$(interrupts $one); done
for i in $(seq 40); do cat /mnt/t/file > /dev/null; done
for one in virtio*; do
  eval before=\$before_$one
  [ $(($(interrupts $one) - before)) -ge 40 ] && device=$one
done
[ -n "$device" ] || exit 2
device=$PWD/$device
"#;

/// Three rounds, so that what the first leaves behind is met by the next.
fn rebind(fixtures: &Fixtures, driver: &str, name: &str) -> Result<()> {
    let share = directory(&[("file", b"content\n")])?;
    let script = format!(
        "{FIND_DEVICE}
         name=$({name})
         cd /
         umount /mnt/t || exit 3
         for round in 1 2 3; do
           echo $name > {driver}/unbind || exit 4
           mount -t virtiofs t /mnt/t 2> /dev/null && exit 5
           echo $name > {driver}/bind || exit 6
           mount -t virtiofs t /mnt/t || exit 7
           cat /mnt/t/file || exit 8
           echo $round >> /mnt/t/rounds || exit 9
           umount /mnt/t || exit 10
         done"
    );
    let run = Vm::patched(fixtures)?
        .share(share.path(), "tag=t,cache=never")
        .script(&script)
        .run()?
        .expect_success()?;
    ensure!(
        run.text()? == "content\ncontent\ncontent\n",
        "{}",
        run.account()
    );
    ensure!(std::fs::read(share.path().join("rounds"))? == b"1\n2\n3\n");
    Ok(())
}
