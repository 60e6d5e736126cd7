//! `docs/cli.md` is what clap knows of the command line.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};
use ecr_sync::cli;

const PATH: &str = "docs/cli.md";

const HEAD: &str = "\
# The command line

<!-- Made by `make docs` from src/cli. -->

`ecr-sync` is one program: the operator (`ecr-sync controller`), and commands for a terminal or a pipeline. A flag goes before
its environment variable. Results go to standard output, log lines, bars and problems to standard error; `NO_COLOR` is honoured.
";

fn reference() -> String {
    let mut command = cli::Arguments::command();
    command.build();
    let mut text = HEAD.to_owned();
    text.push_str("\n| command | |\n|---|---|\n");
    for sub in shown(&command) {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "| [`{0}`](#ecr-sync-{0}) | {about} |", sub.get_name());
    }
    for sub in shown(&command) {
        section(sub, &mut text);
    }
    text
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| sub.get_name() != "help")
}

fn section(command: &Command, text: &mut String) {
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(text, "\n## ecr-sync {}\n", command.get_name());
    let about = command
        .get_long_about()
        .or_else(|| command.get_about())
        .map(ToString::to_string)
        .unwrap_or_default();
    // What is indented is an example, and a block in Markdown too.
    let _ = writeln!(text, "{}\n", escaped(&about.replace("\n  ", "\n      ")));
    let _ = writeln!(text, "```text\n{}\n```", usage.trim_start_matches("Usage: "));
    if let Some(after) = command.get_after_help() {
        let _ = writeln!(text, "\n```text\n{after}\n```");
    }
    let _ = writeln!(text, "\n| argument | environment | default | |\n|---|---|---|---|");
    for argument in command.get_arguments().filter(|a| !a.is_hide_set() && a.get_id() != "help") {
        row(argument, text);
    }
}

fn row(argument: &Arg, text: &mut String) {
    let value = argument.get_value_names().unwrap_or_default().first().map(ToString::to_string);
    let takes = argument.get_action().takes_values();
    let value = value.filter(|_| takes).unwrap_or_default();
    let name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long} {value}"),
        (None, Some(long)) => format!("`--{long} {value}"),
        (Some(short), None) => format!("`-{short} {value}"),
        (None, None) => format!("`{value}"),
    };
    let variable =
        argument.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let defaults: Vec<_> = argument
        .get_default_values()
        .iter()
        .filter(|_| takes)
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    let help = argument
        .get_long_help()
        .or_else(|| argument.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    let values: Vec<_> =
        argument.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
    let values =
        if values.is_empty() || !takes || help.contains("true or false") || values.len() > 6 {
            String::new()
        } else {
            format!(" One of {}.", values.join(", "))
        };
    let mut help = escaped(&help.replace("\n\n", ". ").replace('\n', " "));
    if !help.ends_with('.') {
        help.push('.');
    }
    let _ = writeln!(
        text,
        "| {}` | {variable} | {} | {help}{values} |",
        name.trim_end(),
        defaults.join(", ")
    );
}

/// Outside of code, `<HOST>` would be a tag of HTML, and a bar ends a cell.
fn escaped(text: &str) -> String {
    text.replace('<', "\\<").replace('|', "\\|")
}

#[test]
fn the_page_of_the_command_line_is_generated() {
    let path = super::root().join(PATH);
    let text = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{PATH} is not what src/cli says: run `make docs` and commit the result"
    );
}

#[test]
fn every_command_and_flag_is_explained() {
    let mut command = cli::Arguments::command();
    command.build();
    for sub in shown(&command) {
        assert!(sub.get_about().is_some(), "{}", sub.get_name());
        for argument in sub.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", sub.get_name(), argument.get_id());
        }
    }
    command.debug_assert();
}
