//! The log: where lines go, in which shape, and which ones.

mod lines;

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

pub use self::lines::{Dropped, Lines};
use crate::config::{Log, LogFormat};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    /// `log.level` cannot be read.
    #[error("log.level: expected error, warn, info, debug, trace or a tracing filter: {0}")]
    Level(String),
    /// The thread that writes could not be started.
    #[error("cannot start the log's thread: {0}")]
    Thread(#[from] io::Error),
    /// Some other code has set up a log of its own.
    #[error("the log is already set up")]
    Twice,
}

/// Sets up the process's log on standard error. Lines are written by a thread of their own, so that
/// a slow reader of the log cannot stop requests; it lives in what is returned: keep it until the
/// end of `main`.
///
/// # Errors
/// A filter that cannot be read, no thread, or a log that is already there.
pub fn init(config: &Log) -> Result<Lines, LogFault> {
    let filter = filter(config)?;
    let lines = Lines::start(io::stderr())?;
    let colours = match (io::stderr().is_terminal(), std::env::var_os("NO_COLOR")) {
        (true, None) => Colours::On,
        _ => Colours::Off,
    };
    subscriber(config.format, colours, filter, lines.writer())
        .try_init()
        .map_err(|_| LogFault::Twice)?;
    Ok(lines)
}

/// Escape codes for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colours {
    On,
    Off,
}

/// What is logged. A plain level is meant for Reprise; libraries then say warnings only, since some
/// of them log headers or texts when asked for more. Who wants that can write a whole filter.
fn filter(config: &Log) -> Result<EnvFilter, LogFault> {
    let level = config.level.trim();
    let plain = !level.contains(['=', ',', '[']);
    let access = if config.access { "audit=info,access=info" } else { "audit=info,access=off" };
    let directives = match level {
        "off" => "off".to_owned(),
        "error" => format!("error,{access}"),
        // Qdrant Edge warns at start of flags that only its server sets.
        _ if plain => format!("warn,qdrant_edge=error,reprise={level},{access}"),
        _ => format!("{level},{access}"),
    };
    EnvFilter::builder().parse(directives).map_err(|error| LogFault::Level(error.to_string()))
}

fn subscriber<W>(
    format: LogFormat,
    colours: Colours,
    filter: EnvFilter,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(colours == Colours::On);
    let layer = match format {
        LogFormat::Pretty => layer.boxed(),
        LogFormat::Json => {
            layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    Registry::default().with(layer.with_filter(filter))
}

#[cfg(test)]
pub(super) mod tests;
