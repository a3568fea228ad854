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
            traces: console.traces(),
            ..Findings::default()
        };
        text(&console, &findings)
    }

    #[test]
    fn where_it_hangs_follows_the_end() {
        let console = ConsoleLog::new(None, None);
        console.writer().write_all(b"before\n").unwrap();
        console.expect_traces();
        console.writer().write_all(b"a trace\n").unwrap();
        console.add_trace("vCPU 0: rip=0x1");
        console.flush();
        let findings = Findings {
            splats: console.splats(),
            traces: console.traces(),
            ..Findings::default()
        };
        assert_eq!(
            text(&console, &findings),
            "vmm: the end of the guest's console:\n| before\nvmm: where the guest is:\n| a trace\n| vCPU 0: rip=0x1"
        );
        console
            .writer()
            .write_all(&b"flood\n".repeat(1000))
            .unwrap();
        assert_eq!(console.traces().len(), 400);
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
