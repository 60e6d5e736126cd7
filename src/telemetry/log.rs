//! Logs to standard error: text for people, JSON for machines. The log level (`--log-level`).

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Readable lines.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging. `level` is a level (`INFO`, `debug`, `WARNING`) or a tracing filter
/// (`info,ecr_sync::registry=debug`).
///
/// # Errors
/// When `level` is not valid.
pub fn init<W>(format: Format, level: &str, writer: W, ansi: bool) -> Result<(), String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(level)?;
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(ansi);

    // A second start, in a test, keeps the first.
    let _already_started = match format {
        Format::Text => subscriber.try_init(),
        Format::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    let wrong = |why: &str| {
        format!(
            "{level:?} is neither a log level (error, warning, info, debug, trace, off) nor a \
             filter like info,ecr_sync=debug{why}"
        )
    };
    let lower = level.trim().to_ascii_lowercase();
    let directives = lower.split(',').map(|directive| match directive {
        "warning" => Ok("warn"),
        // The highest level of Python's logging, and so of the older tool.
        "critical" => Ok("error"),
        // The library takes any other word for a module, and would then log nothing.
        word if !word.contains(['=', ':', '['])
            && word.parse::<LevelFilter>().is_err()
            && !word.starts_with("ecr_sync") =>
        {
            Err(wrong(""))
        }
        directive => Ok(directive),
    });

    let directives = directives.collect::<Result<Vec<_>, _>>()?.join(",");
    EnvFilter::try_new(directives).map_err(|error| wrong(&format!(": {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_the_older_tool_wrote_them_and_a_typing_error_is_refused() {
        for (level, filtered) in [
            ("INFO", "info"),
            ("WARNING", "warn"),
            ("Critical", "error"),
            ("off", "off"),
            ("warning,ecr_sync=debug", "ecr_sync=debug,warn"),
        ] {
            assert_eq!(
                filter(level).map(|filter| filter.to_string()),
                Ok(filtered.to_owned()),
                "{level}"
            );
        }

        for wrong in ["chatty", "INFOO", "info,debugg", "info,ecr_sync=loud"] {
            let problem = filter(wrong).expect_err(wrong);
            assert!(problem.contains("nor a filter like info,ecr_sync=debug"), "{problem}");
        }
    }
}
