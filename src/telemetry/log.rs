//! Logs to standard error: text for people, JSON for machines. The log level (`--log-level`).

use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

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
    let filter = filter(level)?.and(filter_fn(is_safe));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    let layer = match format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };

    // A second start, in a test, keeps the first.
    let _already_started =
        tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Ok(())
}

/// Whether a log line of this kind holds no credential, whatever level the user asks for.
///
/// The AWS SDK logs whole answers at trace level, the password of ECR among them; hyper, h2 and
/// rustls log headers and bytes. The level of a crate that is not listed here is INFO, so that a
/// new dependency logs no credential either.
fn is_safe(line: &Metadata<'_>) -> bool {
    let of = |crates: &[&str]| {
        let name = line.target().split("::").next().unwrap_or_default();
        crates.contains(&name)
    };
    let most = match line.target() {
        _ if of(&["ecr_sync"]) => LevelFilter::TRACE,
        // Of an answer that it cannot decode, which may be a Secret, it logs the body as a warning.
        "kube_client::client" => LevelFilter::ERROR,
        // At trace level it logs the headers of answers.
        _ if of(&["kube_client", "kube_runtime"]) => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    };
    *line.level() <= most
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

    let mut directives = directives.collect::<Result<Vec<_>, _>>()?.join(",");
    // It warns of credentials that cannot be loaded each time that they are asked for; our own
    // error says so in one line.
    if !directives.contains("aws_config") && directives != "off" {
        directives.push_str(",aws_config=error");
    }
    EnvFilter::try_new(directives).map_err(|error| wrong(&format!(": {error}")))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_level_makes_another_crate_log_what_it_sends() {
        for level in ["trace", "info,aws_smithy_runtime=trace,h2=trace"] {
            let lines = Lines::default();
            let writer = {
                let lines = lines.clone();
                move || lines.clone()
            };
            let filter = EnvFilter::try_new(level).expect("a filter").and(filter_fn(is_safe));
            let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_filter(filter);
            let subscriber = tracing_subscriber::registry().with(layer);

            tracing::subscriber::with_default(subscriber, || {
                tracing::trace!(target: "aws_smithy_runtime::client", "secret");
                tracing::debug!(target: "hyper::proto", "secret");
                tracing::debug!(target: "h2", "secret");
                tracing::debug!(target: "a_new_dependency", "secret");
                tracing::warn!(target: "kube_client::client", "secret");
                tracing::debug!(target: "ecr_sync_but_another", "secret");
                tracing::info!(target: "hyper", "shown");
            });
            let text = String::from_utf8(lines.0.lock().clone()).expect("text");
            assert!(!text.contains("secret") && text.contains("shown"), "{level}: {text}");
        }
    }

    #[test]
    fn levels_are_read_as_the_older_tool_wrote_them_and_a_typing_error_is_refused() {
        for (level, filtered) in [
            ("INFO", "aws_config=error,info"),
            ("WARNING", "aws_config=error,warn"),
            ("Critical", "aws_config=error,error"),
            ("off", "off"),
            ("warning,ecr_sync=debug", "aws_config=error,ecr_sync=debug,warn"),
            ("info,aws_config=warn", "aws_config=warn,info"),
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
