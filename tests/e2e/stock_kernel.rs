//! Debian's own kernels, with what they need as modules and no share of ours in
//! their configuration.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::fixtures::Fixtures;
use tests::kernels::{Kernel, LARGE_MODULE, Stock};

use crate::theme::{Test, Theme};
use crate::vm::{Vm, below, directory};
use crate::{insmod, shares};

pub(crate) fn themes() -> Vec<Theme> {
    let host = Kernel::Debian(Stock::Host);
    let mut themes = vec![Theme::new(
        "stock_kernel",
        [Test::new(
            "of_debian_boots_and_mounts_a_share",
            [host],
            move |fixtures| boots_and_mounts(fixtures, host),
        )],
    )];
    for (name, stock, has_request_timeout) in [
        ("stock_kernel_6_12", Stock::V6_12, false),
        ("stock_kernel_6_18", Stock::V6_18, true),
        ("stock_kernel_newest", Stock::Newest, true),
    ] {
        let kernel = Kernel::Debian(stock);
        let mut tests = vec![
            Test::new(
                "of_debian_boots_and_mounts_a_share",
                [kernel],
                move |fixtures| boots_and_mounts(fixtures, kernel),
            ),
            Test::new(
                "module_over_8_mib_loads_with_cache_never",
                [kernel],
                move |fixtures| large_module_loads(fixtures, kernel),
            ),
        ];
        tests.extend(shares::tests(kernel));
        if stock == Stock::V6_12 {
            tests.push(Test::new(
                "nfs_server_exports_a_share",
                [kernel],
                move |fixtures| exported_by_nfs(fixtures, kernel),
            ));
        }
        if has_request_timeout {
            tests.push(Test::new(
                "session_outlives_the_request_timeout_of_the_system",
                [kernel],
                move |fixtures| session_outlives_timeout(fixtures, kernel),
            ));
        }
        themes.push(Theme::new(name, tests));
    }
    themes
}

fn boots_and_mounts(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[("file", b"from the host\n")])?;
    let release = fs::read_to_string(fixtures.kernel(kernel)?.join("kernelrelease"))?;
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=t")
        .patience(Duration::from_secs(30))
        .script("cat /mnt/t/file && uname -r && echo from the guest > /mnt/t/answer")
        .run()?
        .expect_success()?;
    ensure!(
        run.text()? == format!("from the host\n{release}"),
        "{}",
        run.account()
    );
    ensure!(release.ends_with("-cloud-amd64\n"), "{release}");
    ensure!(fs::read(below(&share, "answer"))? == b"from the guest\n");
    Ok(())
}

/// The kernel reads the module by itself, and finds its tables, which lie behind
/// 9 MiB.
fn large_module_loads(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let module = fixtures.kernel(kernel)?.join(LARGE_MODULE);
    let module = fs::read(&module).with_context(|| module.display().to_string())?;
    let size = module.len() as u64;
    ensure!(size > 8 << 20, "the module has only {size} bytes");
    let share = directory(&[("module.ko", &module)])?;
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=modules,ro,cache=never")
        .patience(Duration::from_secs(30))
        .script("insmod /mnt/modules/module.ko && grep -c '^dummy .* Live ' /proc/modules")
        .run()?
        .expect_success()?;
    ensure!(run.text()? == "1\n", "{}", run.account());
    insmod::read_by_the_kernel(&run, size)
}

/// The guest's NFS server finds what its client asks for by handle after the guest
/// has forgotten it. What programs of nfs-utils tell the server is told here.
fn exported_by_nfs(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    let share = directory(&[])?;
    fs::create_dir(below(&share, "d"))?;
    fs::write(below(&share, "d/file"), "from the host\n")?;
    let run = Vm::booting(fixtures, kernel)?
        .share(share.path(), "tag=t,export")
        .option("--memory", "1G")
        .patience(Duration::from_secs(60))
        .script(
            "set -e
             modprobe nfsd; modprobe nfsv4; ip link set lo up
             mount -t nfsd none /proc/fs/nfsd
             echo '-3 +4 +4.2' >/proc/fs/nfsd/versions
             # Who it is, what they may have (any port, root, no check of the path,
             # with the number 0), and what has that number.
             cd /proc/net/rpc; never=4000000000
             echo nfsd 127.0.0.1 $never here >auth.unix.ip/channel
             echo here /mnt/t $never $((0x2 | 0x400 | 0x2000)) 0 0 0 >nfsd.export/channel
             echo 'here 1 \\x00000000' $never /mnt/t >nfsd.fh/channel
             echo tcp 2049 >/proc/fs/nfsd/portlist
             echo 2 >/proc/fs/nfsd/threads
             mkdir /tmp/n
             mount -i -t nfs4 -o addr=127.0.0.1,clientaddr=127.0.0.1,vers=4.2 127.0.0.1:/ /tmp/n
             # The client knows the directory by its handle, the guest forgets it.
             cd /tmp/n/d; echo 2 >/proc/sys/vm/drop_caches
             cat file; mkdir made; cd made; echo 2 >/proc/sys/vm/drop_caches
             ls -a .. | tail -n 2",
        )
        .run()?
        .expect_success()?;
    ensure!(
        run.text()? == "from the host\nfile\nmade\n",
        "{}",
        run.account()
    );
    ensure!(below(&share, "d/made").is_dir());
    let forgotten = &run.metrics["shares"]["t"]["operations"]["FORGET"]["count"];
    ensure!(
        forgotten.as_u64() >= Some(2),
        "{forgotten}: {}",
        run.metrics
    );
    Ok(())
}

/// With a default timeout the kernel aborts a connection one of whose requests has
/// waited for longer. A read of standard input waits for as long as nobody writes.
fn session_outlives_timeout(fixtures: &Fixtures, kernel: Kernel) -> Result<()> {
    // In effect before the init mounts anything. The kernel looks every 15 s.
    let timeout = "sysctl.fs.fuse.default_request_timeout=5";
    let mut running = Vm::booting(fixtures, kernel)?
        .option("--cmdline", timeout)
        // A guest without its session can say nothing any more.
        .option("--timeout", "300s")
        .patience(Duration::from_secs(120))
        .script(
            "cat /proc/sys/fs/fuse/default_request_timeout
             sleep 45 && echo waited &
             cat && wait",
        )
        .start(Stdio::piped())?;
    let mut stdin = running.stdin()?;
    let mut lines = Vec::new();
    // The guest says itself that it has waited for long enough.
    for _ in 0..2 {
        match running.read_line() {
            Ok(line) => lines.push(line),
            Err(error) => {
                drop(stdin);
                let run = running.finish()?;
                return Err(error).with_context(|| run.account());
            }
        }
    }
    ensure!(lines == ["5", "waited"], "{lines:?}");
    stdin.write_all(b"late\n")?;
    drop(stdin);
    let run = running.finish()?.expect_success()?;
    ensure!(run.text()? == "late\n", "{}", run.account());
    Ok(())
}
