//! The table of options as text.

use serde_json::{Map, Value};

use super::argument::Service;
use super::option::{ShareOption, Takes};
use super::table::OPTIONS;

/// One line of an explanation: how it is written, what it does, and what holds
/// without it.
struct Line {
    written: String,
    help: &'static str,
    default: &'static str,
}

fn lines() -> impl Iterator<Item = Line> {
    OPTIONS.iter().flat_map(|option| {
        let line = |written: String| Line {
            written,
            help: option.help,
            default: option.default,
        };
        match option.takes {
            Takes::Nothing(_) => vec![line(option.name.to_owned())],
            Takes::Value { placeholder, .. } | Takes::Several { placeholder, .. } => {
                vec![line(format!("{}={placeholder}", option.name))]
            }
            Takes::Directory => vec![line(format!("{}=DIR", option.name))],
            Takes::Choice(choices) => choices
                .iter()
                .map(|choice| Line {
                    written: format!("{}={}", option.name, choice.value),
                    help: choice.help,
                    default: if choice.value == option.default {
                        "this one"
                    } else {
                        ""
                    },
                })
                .collect(),
        }
    })
}

/// For `--help`.
pub fn help() -> String {
    let mut text = "Share a host directory with the guest (repeatable): \
                    DIR[,OPTION[=VALUE]]...\n"
        .to_owned();
    let column = lines().map(|line| line.written.len()).max().unwrap_or(0) + 2;
    for line in lines() {
        let default = match line.default {
            "" => String::new(),
            "this one" => " (the default)".to_owned(),
            default => format!(" (default: {default})"),
        };
        let explained = format!("{}{default}", line.help).replace('`', "");
        text.push_str(&format!("\n{:<column$}", line.written));
        text.push_str(&wrapped(&explained, column));
    }
    text
}

/// How wide the explanations in the help are.
const WIDTH: usize = 64;

/// The text in lines that start in `column`.
fn wrapped(text: &str, column: usize) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split(' ') {
        if length > 0 && length + 1 + word.len() > WIDTH {
            lines.push_str(&format!("\n{:column$}", ""));
            length = 0;
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += word.len();
    }
    lines
}

/// For the README.
#[cfg(test)]
pub(super) fn markdown() -> String {
    let mut text = "| option | meaning | default |\n| --- | --- | --- |\n".to_owned();
    for line in lines() {
        let Line {
            written,
            help,
            default,
        } = line;
        let space = if default.is_empty() { "" } else { " " };
        text.push_str(&format!("| `{written}` | {help} | {default}{space}|\n"));
    }
    text
}

/// The names of all options, for the message about an unknown one.
pub(super) fn known() -> String {
    let names: Vec<String> = OPTIONS
        .iter()
        .filter_map(|ShareOption { name, takes, .. }| match takes {
            Takes::Nothing(_) => Some((*name).to_owned()),
            Takes::Choice(_) | Takes::Value { .. } | Takes::Several { .. } => {
                Some(format!("{name}="))
            }
            Takes::Directory => None,
        })
        .collect();
    match names.split_last() {
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// For `--dry-run`.
pub fn shown(service: &Service) -> Map<String, Value> {
    OPTIONS
        .iter()
        .filter_map(|option| option.shown)
        .map(|(name, value)| (name.to_owned(), value(service)))
        .collect()
}
