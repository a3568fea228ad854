//! `vmm man` and `vmm completions`: the command line for `man` and for shells, from
//! its definition.

use std::io;

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

/// The pages there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Page {
    /// All of vmm
    #[default]
    Vmm,
    VmmRun,
    VmmKconfig,
    VmmMan,
    VmmCompletions,
}

#[derive(Debug, Args)]
pub(crate) struct PageArguments {
    /// The page, in section 1; `vmm man vmm-run | man -l -` shows it
    #[arg(value_enum, default_value_t)]
    page: Page,
}

#[derive(Debug, Args)]
pub(crate) struct ShellArguments {
    /// The shell, whose completions are printed
    #[arg(value_enum)]
    shell: Shell,
}

/// A page, as troff has it.
pub(crate) fn page(arguments: &PageArguments, mut definition: Command) -> io::Result<Vec<u8>> {
    definition.build();
    // It has no page, which that of vmm would name.
    definition = definition.mut_subcommand("help", |help| help.hide(true));
    let task = match arguments.page {
        Page::Vmm => None,
        Page::VmmRun => definition.find_subcommand("run"),
        Page::VmmKconfig => definition.find_subcommand("kconfig"),
        Page::VmmMan => definition.find_subcommand("man"),
        Page::VmmCompletions => definition.find_subcommand("completions"),
    };
    let mut text = Vec::new();
    Man::new(task.unwrap_or(&definition).clone()).render(&mut text)?;
    Ok(with_tables(&String::from_utf8_lossy(&text)).into_bytes())
}

/// Keeps the lines of a table apart, which would be filled as a paragraph is.
fn with_tables(troff: &str) -> String {
    let is_row = |line: &str| !line.starts_with('.') && line.contains("  ");
    let mut text = String::new();
    let mut in_table = false;
    for line in troff.lines() {
        if is_row(line) != in_table {
            in_table = !in_table;
            text.push_str(if in_table { ".nf\n" } else { ".fi\n" });
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// What a shell reads to complete `vmm`'s command lines.
pub(crate) fn completions(arguments: &ShellArguments, mut definition: Command) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut definition, "vmm", &mut text);
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::options::definition;

    fn text(page_of: Page) -> String {
        let arguments = PageArguments { page: page_of };
        String::from_utf8(page(&arguments, definition()).unwrap()).unwrap()
    }

    #[test]
    fn a_page_has_every_option_and_the_statuses() {
        let run = text(Page::VmmRun);
        assert!(run.contains(".TH vmm-run 1"), "{run}");
        let definition = definition();
        let task = definition.find_subcommand("run").unwrap();
        for option in task.get_arguments().filter_map(clap::Arg::get_long) {
            let option = option.replace('-', "\\-");
            assert!(run.contains(&format!("\\-\\-{option}")), "{option}");
        }
        assert!(run.contains("Exit status"), "{run}");
    }

    #[test]
    fn every_page_that_is_named_is_there() {
        let vmm = text(Page::Vmm);
        let named: Vec<_> = (vmm.lines().filter_map(|line| line.strip_suffix("(1)")))
            .map(|name| name.replace('\\', ""))
            .collect();
        assert_eq!(named.len() + 1, Page::value_variants().len(), "{vmm}");
        for page in Page::value_variants() {
            let name = page.to_possible_value().unwrap().get_name().to_owned();
            assert!(text(*page).contains(&format!(".TH {name} 1")), "{name}");
            assert!(*page == Page::Vmm || named.contains(&name), "{name}: {vmm}");
        }
    }

    #[test]
    fn the_rows_of_a_table_stay_apart() {
        let text = with_tables(".TP\nwords\na  one\nb  two\n.SH X\n");
        assert_eq!(text, ".TP\nwords\n.nf\na  one\nb  two\n.fi\n.SH X\n");
    }

    #[test]
    fn a_shell_completes_options_and_tasks() {
        for shell in Shell::value_variants() {
            let arguments = ShellArguments { shell: *shell };
            let text = String::from_utf8(completions(&arguments, definition())).unwrap();
            for word in ["kconfig", "console-log"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }
}
