//! Numbers and columns of text.

/// `64 KiB`, `1 MiB`.
pub(super) fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

/// Bytes in KiB with one digit after the point, rounded.
pub(super) fn kib(bytes: u64) -> String {
    let tenths = (bytes * 10 + 512) / 1024;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// `1 234 567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// What `count` of a call of `bytes` is for each MiB, rounded.
pub(super) fn per_mib(count: u64, bytes: u64) -> u64 {
    let scaled = (u128::from(count) << 20) + u128::from(bytes / 2);
    u64::try_from(scaled / u128::from(bytes.max(1))).unwrap_or(u64::MAX)
}

/// `+ 8.7 %`: how much more `value` is than `base`.
pub(super) fn more(value: u64, base: u64) -> String {
    let tenths = |difference: u64| {
        let tenths = (difference * 1000 + base / 2) / base.max(1);
        format!("{}.{} %", tenths / 10, tenths % 10)
    };
    if value < base {
        format!("- {}", tenths(base - value))
    } else {
        format!("+ {}", tenths(value - base))
    }
}

/// The name of an errno that the driver may return.
pub(super) fn errno(number: i32) -> String {
    let name = match number {
        4 => "EINTR",
        5 => "EIO",
        12 => "ENOMEM",
        22 => "EINVAL",
        28 => "ENOSPC",
        107 => "ENOTCONN",
        _ => return format!("errno {number}"),
    };
    format!("-{name}")
}

/// Rows of a Markdown table: the first is the head; text is put to the left in
/// the first `left` columns, to the right in the others.
pub(super) fn markdown(rows: &[Vec<String>], left: usize) -> String {
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
        if index == 0 {
            let rule: Vec<&str> = (0..row.len())
                .map(|column| if column < left { "---" } else { "---:" })
                .collect();
            text.push_str(&format!("| {} |\n", rule.join(" | ")));
        }
    }
    text
}

/// Rows as plain text: the first column to the left, the others to the right,
/// indented by two.
pub(super) fn plain(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| Some(row.get(column)?.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(&widths) {
            if line.len() > 1 {
                line.push_str(&format!("  {cell:>width$}"));
            } else {
                line.push_str(&format!(" {cell:<width$}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_grouped() {
        assert_eq!(size(64 << 10), "64 KiB");
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(kib(1536), "1.5");
        assert_eq!(kib(1023), "1.0");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(grouped(12), "12");
        assert_eq!(per_mib(10, 64 << 10), 160);
        assert_eq!(per_mib(u64::MAX, 1), u64::MAX);
        assert_eq!(more(1087, 1000), "+ 8.7 %");
        assert_eq!(more(995, 1000), "- 0.5 %");
        assert_eq!(errno(12), "-ENOMEM");
        assert_eq!(errno(99), "errno 99");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["", "read"], ["pages", "7"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(plain(&rows), "         read\n  pages     7\n");
        assert_eq!(
            markdown(&rows, 1),
            "|  | read |\n| --- | ---: |\n| pages | 7 |\n"
        );
    }
}
