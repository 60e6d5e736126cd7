//! Flags that are on or off: `--dry-run`, `--dry-run=false`, `DRY_RUN=yes`.

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction};

/// Declares a switch: `#[arg(long, env = "DRY_RUN", switch = false)]` on a `bool` field.
pub(super) trait Switch {
    /// Makes the argument a switch that is `default` when neither the flag nor the variable is set.
    ///
    /// A switch that is on by default is turned off with `--flag=false` or `--flag false`; one that
    /// is off takes a value after `=` only, so that `--dry-run PATH` is not read as a value.
    fn switch(self, default: bool) -> Self;
}

impl Switch for Arg {
    fn switch(self, default: bool) -> Self {
        self.value_name("BOOL")
            .default_value(if default { "true" } else { "false" })
            .num_args(0..=1)
            .default_missing_value("true")
            .require_equals(!default)
            .action(ArgAction::Set)
            .value_parser(BoolishValueParser::new())
    }
}
