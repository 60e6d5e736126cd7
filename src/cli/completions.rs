//! `ecr-sync completions`: scripts for bash, zsh, fish and others.

use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{Arg, Args, Command, CommandFactory};
use clap_complete::Shell;

use super::screen::Screen;

/// Prints a completion script for a shell
///
/// Example for bash: ecr-sync completions bash > /etc/bash_completion.d/ecr-sync
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, screen: &Screen) -> ExitCode {
    let mut command = super::Arguments::command();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, NAME, &mut script);
    let script = String::from_utf8_lossy(&script);

    screen.out(&match arguments.shell {
        Shell::Bash => with_one_label(&script),
        Shell::Fish => script.into_owned() + &positionals(&command),
        _ => script.into_owned(),
    });
    ExitCode::SUCCESS
}

/// The name of the program, whose hyphen the generators do not expect.
const NAME: &str = "ecr-sync";

/// Corrects the labels of the bash script. The generator jumps to `ecr__sync__subcmd__…`, but
/// writes `ecr__subcmd__sync__subcmd__…`, so that nothing is completed after a subcommand
/// (clap-rs/clap#6421).
fn with_one_label(script: &str) -> String {
    script.replace(&NAME.replace('-', "__subcmd__"), &NAME.replace('-', "__"))
}

/// Returns the lines for the values of positional arguments, which the generator for fish leaves
/// out.
fn positionals(command: &Command) -> String {
    let condition = format!("__fish_{}_using_subcommand", NAME.replace('-', "_"));
    let line = |subcommand: &Command| {
        let arguments = subcommand.get_positionals();
        let values: Vec<_> = arguments.flat_map(Arg::get_possible_values).collect();
        let values: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
        let (name, values) = (subcommand.get_name(), values.join(" "));
        let line = format!("complete -c {NAME} -n \"{condition} {name}\" -f -a \"{values}\"\n");
        (!values.is_empty()).then_some(line)
    };
    command.get_subcommands().filter_map(line).collect()
}
