//! The results as `guest-kernel/comparison.md`.

use super::plan::{Direction, SIZES, Strategy};
use super::plot;
use super::results::{KernelResults, Outcome, Results};
use super::table::{errno, grouped, kib, markdown, more, per_mib, size};

const HEAD: &str = "\
# The bounce strategies, compared

<!-- Written by `make compare` from comparison.json. Do not edit. -->

`make compare` measured this and wrote it. It boots the variant `test` of each
kernel with `vmm run`, mounts a share without a cache (`cache=never`) with each
strategy in turn, and has the guest's kernel read and write a file with one call
on a vmalloc buffer, as module loading does. The bytes of the first of each kind
of call are checked on the host. `README.md` says what the strategies are.

Every guest ran in the lab, whatever the host can do: QEMU emulates the machine
that `vmm` runs on, with one processor whose clock counts instructions (TCG,
`-icount shift=0,sleep=off`), and without ERMS and FSRM. Each step of a `rep movs`
counts as an instruction; `memcpy()` of 6.12 is none there, but a loop.

* **order, allocated, copied, requests** are from the driver's counters
  (`virtiofs/bounce` in debugfs), of the call alone: what opening and closing the
  file count is taken off. Allocated are buffers, scatterlists and descriptor
  tables, as long as the driver asked for them; `kmalloc()` rounds the order up.
  The caller's own buffer is not among them. Bytes are in KiB.
* **guest** is what the guest executed during the call, for each MiB of it: what
  lies between KVM's `kvm_entry` and `kvm_exit` in a trace with the machine's
  cycle counter. The way from there into the guest and back is taken off.
* **machine** is everything executed during the call, for each MiB of it: the
  guest, KVM, `vmm` with its device, and the host's kernel with its file system.
  Single pages cost the other side more than a single piece: each is an element
  of a vector. For writes more than for reads: for each page that Linux 6.12 takes
  of a vector it looks at all the rest of it first, as tmpfs might have a larger
  folio for it.
* **fragmented** is what the same call returns when no two neighbouring pages
  are free (`fragment_memory`), nor can be made free by reclaim or compaction.

Instructions are the least of three calls up to 1 MiB, and of one above that;
what is above the least is mostly interrupts of the clock. Requests, orders and
bytes have to be the same in each call, or there is no result. Nothing is said of a
call that failed.
";

/// The document.
#[must_use]
pub fn document(results: &Results) -> String {
    let mut text = HEAD.to_owned();
    for kernel in &results.kernels {
        text.push_str(&section(kernel));
    }
    text
}

fn section(kernel: &KernelResults) -> String {
    let mut text = format!(
        "\n## Linux {}\n\n`uname -r` is `{}`.\n\n![Instructions of the guest for each MiB]({})\n",
        kernel.version,
        kernel.release,
        plot::file_name(kernel)
    );
    for (direction, title) in [(Direction::Read, "Reads"), (Direction::Write, "Writes")] {
        text.push_str(&format!("\n### {title}\n\n{}", calls(kernel, direction)));
    }
    let (guest, machine) = kernel.spread_per_mille();
    text.push_str(&format!(
        "\nOf the calls that were made three times the most was above the least by at \
         most\n{}.{} % (guest) and {}.{} % (machine).\n",
        guest / 10,
        guest % 10,
        machine / 10,
        machine % 10
    ));
    text.push_str(&attributes(kernel));
    text.push_str(&forms(kernel));
    text.push_str(&stock(kernel));
    text
}

fn calls(kernel: &KernelResults, direction: Direction) -> String {
    let head = [
        "bytes",
        "strategy",
        "result",
        "order",
        "allocated",
        "copied",
        "requests",
        "guest",
        "machine",
        "fragmented",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for bytes in SIZES {
        for strategy in Strategy::ALL {
            let Some(outcome) = kernel.outcome(direction, bytes, strategy) else {
                continue;
            };
            let mut row = vec![size(bytes), strategy.name().to_owned()];
            match outcome {
                Outcome::Done(cost) => row.extend([
                    "right".to_owned(),
                    cost.max_order.to_string(),
                    kib(cost.allocated),
                    kib(cost.copied),
                    cost.requests.to_string(),
                    grouped(per_mib(cost.guest.least, bytes)),
                    grouped(per_mib(cost.machine.least, bytes)),
                ]),
                Outcome::Failed(failure) => {
                    let warned = if failure.warned { ", warns" } else { "" };
                    row.push(format!("{}{warned}", errno(failure.errno)));
                    row.extend(vec![String::new(); 6]);
                }
            }
            row.push(match kernel.fragmented(direction, bytes, strategy) {
                Some(None) => "right".to_owned(),
                Some(Some(number)) => errno(number),
                None => "not measured".to_owned(),
            });
            rows.push(row);
        }
    }
    markdown(&rows, 3)
}

fn attributes(kernel: &KernelResults) -> String {
    let mut rows = vec![
        ["strategy", "order", "fragmented"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for found in &kernel.attributes {
        rows.push(vec![
            found.strategy.name().to_owned(),
            found.max_order.to_string(),
            found.fragmented.map_or_else(|| "right".to_owned(), errno),
        ]);
    }
    format!(
        "\n### Extended attributes\n\n`getxattr()` of 64 KiB, which any user can call in any \
         cache mode:\n\n{}",
        markdown(&rows, 1)
    )
}

fn forms(kernel: &KernelResults) -> String {
    let mut rows = vec![["", "read", "", "write", ""].map(str::to_owned).to_vec()];
    for (name, title) in FORMS {
        let mut row = vec![title.to_owned()];
        for direction in Direction::ALL {
            let (form, flat) = (kernel.form(direction, name), kernel.form(direction, "flat"));
            let (Some(form), Some(flat)) = (form, flat) else {
                return String::new();
            };
            row.push(grouped(form.per_mib()));
            row.push(if name == "flat" {
                String::new()
            } else {
                more(form.instructions, flat.instructions)
            });
        }
        rows.push(row);
    }
    format!(
        "\n### Positioning in the buffer\n\nInstructions to fill and drain the buffer of one \
         request of 252 pages, for each\nMiB, and how much that is above one copy for \
         each arg. All copy with the same\nstring instruction (module `argbuf_forms`, the \
         least of 16 rounds):\n\n{}",
        markdown(&rows, 1)
    )
}

/// The forms of `argbuf_forms` and what they are.
pub(super) const FORMS: [(&str, &str); 4] = [
    ("flat", "flat"),
    ("again", "iterator anew for each arg"),
    ("once", "iterator once per direction"),
    ("index", "index (this series)"),
];

fn stock(kernel: &KernelResults) -> String {
    if kernel.stock.is_empty() {
        return String::new();
    }
    let head = ["module, bytes", "result"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    for load in &kernel.stock {
        let ended = match load.hung_after_seconds {
            Some(seconds) => format!("no end within {seconds} s"),
            None => "loads".to_owned(),
        };
        let warned = if load.warned {
            ", the kernel warns"
        } else {
            ""
        };
        rows.push(vec![grouped(load.bytes), format!("{ended}{warned}")]);
    }
    format!(
        "\n### Without the series\n\n`insmod` from a share with `cache=never`, on the variant \
         `stock`:\n\n{}",
        markdown(&rows, 0)
    )
}
