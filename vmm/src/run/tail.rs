//! What is shown of the guest's console after an abnormal end: what went
//! wrong first, else the end.

use crate::console::log::ConsoleLog;
use crate::outcome::line;
use crate::splats::Splats;

/// Lines from the first splat on, at most.
const FROM_SPLAT: usize = 120;
/// Lines of the end, where there is no splat.
const FROM_END: usize = 40;

pub(super) fn show(console: &ConsoleLog, splats: &Splats) {
    line::tell(&text(console, splats));
}

fn text(console: &ConsoleLog, splats: &Splats) -> String {
    let cause = splats.excerpt(FROM_SPLAT);
    if !cause.is_empty() {
        let lines = cause.join("\n| ");
        return format!("vmm: the guest's console from the first splat on:\n| {lines}");
    }
    let lines = console.tail(FROM_END);
    if lines.is_empty() {
        return "vmm: the guest's console is empty".to_owned();
    }
    let lines = lines.join("\n| ");
    format!("vmm: the end of the guest's console:\n| {lines}")
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
        text(&console, &console.splats())
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
