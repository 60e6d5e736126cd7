//! Logs to standard error: text for people, JSON for machines.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One readable line.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `level` is a level (`INFO`, `debug`, `WARNING`) or a tracing filter (`info,ecr_sync::registry=debug`).
///
/// # Errors
/// When `level` is neither.
pub fn init<W>(format: Format, level: &str, writer: W, ansi: bool) -> Result<(), String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = if level.eq_ignore_ascii_case("warning") { "warn" } else { level };
    let filter = EnvFilter::try_new(level.to_ascii_lowercase()).map_err(|error| {
        format!("{level:?} is neither a log level (error, warn, info, debug, trace) nor a filter: {error}")
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(ansi);
    // A second start, in a test, keeps the first.
    let _already_started = match format {
        Format::Text => subscriber.try_init(),
        Format::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}
