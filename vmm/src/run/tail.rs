//! What is shown of the guest's console after an abnormal end: what went
//! wrong first, and where it hangs, else the end.

use super::records::Findings;
use crate::console::log::ConsoleLog;
use crate::outcome::line;

/// Lines from the first splat on, at most.
const FROM_SPLAT: usize = 120;
/// Lines of where the guest hangs, at most.
const TRACES: usize = 120;
/// Lines of the end, where there is no splat.
const FROM_END: usize = 40;

pub(super) fn show(console: &ConsoleLog, findings: &Findings) {
    line::tell(&text(console, findings));
}

/// What is shown.
pub(super) fn text(console: &ConsoleLog, findings: &Findings) -> String {
    let splats = findings.splats.excerpt(FROM_SPLAT).join("\n| ");
    let traces: Vec<_> = (findings.traces.iter().map(String::as_str))
        .take(TRACES)
        .collect();
    let traces = traces.join("\n| ");
    let end = if splats.is_empty() {
        console.tail(FROM_END).join("\n| ")
    } else {
        String::new()
    };
    let parts: Vec<String> = [
        ("the guest's console from the first splat on", splats),
        ("the end of the guest's console", end),
        ("where the guest is", traces),
    ]
    .into_iter()
    .filter(|(_, lines)| !lines.is_empty())
    .map(|(title, lines)| format!("vmm: {title}:\n| {lines}"))
    .collect();
    if parts.is_empty() {
        return "vmm: the guest's console is empty".to_owned();
    }
    parts.join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    fn shown(said: &str) -> String {
        let console = ConsoleLog::new(None, None);
        console.writer().write_all(said.as_bytes()).unwrap();
        console.flush();
        let findings = Findings {
            splats: console.splats(),
            traces: console.traces().all(),
            ..Findings::default()
        };
        text(&console, &findings)
    }

    #[test]
    fn where_it_hangs_follows_the_end() {
        let console = ConsoleLog::new(None, None);
        let say = |text: &str| console.writer().write_all(text.as_bytes()).unwrap();
        say("before\nafter ");
        console.expect_traces("Show", true);
        say("the key\n");
        say("sysrq: Show\na trace\n");
        console.add_registers("vCPU 0: rip=0x1");
        console.flush();
        let findings = Findings {
            splats: console.splats(),
            traces: console.traces().all(),
            ..Findings::default()
        };
        assert_eq!(
            text(&console, &findings),
            "vmm: the end of the guest's console:\n| before\n| after the key\nvmm: where the guest \
             is:\n| vCPU 0: rip=0x1\n| sysrq: Show\n| a trace"
        );
    }

    #[test]
    fn a_flood_does_not_hide_where_it_hangs() {
        let console = ConsoleLog::new(None, None);
        let flood = || {
            console
                .writer()
                .write_all(&b"flood\n".repeat(1000))
                .unwrap();
        };
        console.expect_traces("Show", true);
        flood();
        console.take_all_for_traces();
        flood();
        console.add_registers("vCPU 0: rip=0x1");
        let findings = Findings {
            traces: console.traces().all(),
            ..Findings::default()
        };
        let shown = text(&console, &findings);
        assert!(shown.contains("is:\n| vCPU 0: rip=0x1\n"), "{shown}");
        assert_eq!(shown.lines().count(), 1 + FROM_END + 1 + TRACES);
    }

    #[test]
    fn the_cause_is_shown_or_else_the_end() {
        assert_eq!(shown(""), "vmm: the guest's console is empty");
        let quiet = "a line\n".repeat(100);
        assert_eq!(shown(&quiet).lines().count(), 1 + FROM_END);
        let splat = format!("{quiet}[    1.0] BUG: broken\n{quiet}{quiet}");
        let shown = shown(&splat);
        assert_eq!(shown.lines().nth(1), Some("| [    1.0] BUG: broken"));
        assert_eq!(shown.lines().count(), 1 + FROM_SPLAT);
    }
}
