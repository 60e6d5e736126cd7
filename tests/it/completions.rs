//! Completion scripts in the shells themselves: bash is everywhere; zsh and fish where they are
//! installed.

use std::path::Path;
use std::process::{Command, Stdio};

/// Command lines, the last word of which is completed, with some of the completions.
const LINES: [(&str, &[&str]); 6] = [
    ("ecr-sync ", &["sync", "iam-policy", "completions"]),
    ("ecr-sync sync --dr", &["--dry-run"]),
    ("ecr-sync sync --output ", &["text", "json"]),
    ("ecr-sync iam-policy --", &["--all-features", "--service-account"]),
    ("ecr-sync completions ", &["bash", "zsh", "fish"]),
    ("ecr-sync import --reg", &["--region"]),
];

/// Completes the word before the cursor as bash does, and prints the completions.
const BASH: &str = r#"
source "$1"
function=$(complete -p ecr-sync | sed 's/.* -F \([^ ]*\) .*/\1/')
read -r -a COMP_WORDS <<< "$2"
[[ $2 == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
"$function" ecr-sync "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// Types the line and Tab twice into a terminal, and prints what it shows, until it has shown all
/// words that are expected or a minute is over.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell 'PS1= zsh -f -i'
until_shown() {
  local text= chunk word
  for word in "$@"; do
    until [[ $text == *$word* ]] || (( SECONDS > 60 )); do
      zpty -r -t shell chunk 2>/dev/null && text+=$chunk || sleep 0.02
    done
  done
  print -r -- "$text"
}
zpty -w shell "autoload -U compinit; compinit -u -D; source ${(q)1}; print prepared\$((1))"
until_shown prepared1 > /dev/null
zpty -w -n shell "$2"$'\t\t'
until_shown "${@:3}"
zpty -d shell
"#;

const FISH: &str = "source $argv[1]; complete -C $argv[2]";

fn is_installed(shell: &str) -> bool {
    Command::new(shell).arg("--version").stdout(Stdio::null()).status().is_ok()
}

/// Returns the output of a shell program for a completion script, a line and its completions.
fn shown(program: &[&str], script: &Path, (line, completions): (&str, &[&str])) -> String {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(script).arg(line).args(completions);
    let output = command.output().expect("the shell runs");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn assert_completes(program: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecr-sync"));
    let printed = command.args(["completions", program[0]]).output().expect("it runs");
    std::fs::write(&script, printed.stdout).expect("written");

    for (line, completions) in LINES {
        let shown = shown(program, &script, (line, completions));
        for completion in completions {
            assert!(shown.contains(completion), "{line:?} has no {completion}: {shown}");
        }
    }
}

#[test]
fn bash_completes_below_the_first_word() {
    assert_completes(&["bash", "--norc", "-c", BASH, "bash"]);
}

#[test]
fn zsh_completes_below_the_first_word_where_it_is_installed() {
    if is_installed("zsh") {
        assert_completes(&["zsh", "-f", "-c", ZSH, "zsh"]);
    }
}

#[test]
fn fish_completes_below_the_first_word_where_it_is_installed() {
    if is_installed("fish") {
        assert_completes(&["fish", "--no-config", "-c", FISH]);
    }
}
