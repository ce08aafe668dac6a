//! `reprise warm`: answers before anybody asks.

use std::{io::Write as _, path::PathBuf};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    app::warm::{self, Defaults, Rate, Wanted, WarmFault, Warmed},
    config::Config,
};

/// Failed lines that are told of.
const TOLD_MAX: usize = 10;

/// Fill the configured store before anybody asks. Running it again after a kill goes on: what is there
/// already is not asked twice.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Warm {
    /// JSON lines: {prompt}, {prompt, answer}, or {body} with a whole request (also files for OpenAI's
    /// batch API). A line with an answer is kept as if served; any other is asked of the upstream.
    #[arg(value_name = "FILE.jsonl")]
    pub file: PathBuf,
    /// The model of prompts whose line names none.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Where requests go whose line names no path.
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions")]
    pub path: String,
    /// Sent with every request, as its clients will: "Authorization: Bearer KEY", since answers are
    /// shared by who has the same credential (see cache.scope); "x-reprise-tags: faq".
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Questions to the upstream at most, such as 5/s or 300/m.
    #[arg(long, value_name = "N/s", default_value = "5/s")]
    pub rate: Rate,
    /// Lines at a time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
}

/// Why it was not done, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// See [`WarmFault`].
    #[error(transparent)]
    Warm(#[from] WarmFault),
    /// A header that is none.
    #[error("--header `{0}`: expected NAME: VALUE")]
    Header(String),
    /// Some lines have no answer in the store now.
    #[error("{0} lines have no answer in the store; running it again tries those alone")]
    Incomplete(u64),
}

/// Runs it; the bar and the counts go to stderr.
///
/// # Errors
/// What kept it from being done wholly.
pub fn run(asked: &Warm, config: &Config) -> Result<(), Fault> {
    let wanted = Wanted {
        defaults: Defaults { model: asked.model.clone(), path: asked.path.clone() },
        headers: headers(&asked.header)?,
        rate: Some(asked.rate),
        concurrency: asked.concurrency.into(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| WarmFault::Open(error.to_string()))?;
    // Hidden where stderr is no terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}") {
        bar.set_style(style);
    }
    let tell = |at, of| {
        bar.set_length(of);
        bar.set_position(at);
    };
    let warmed = runtime.block_on(warm::warm(config, wanted, &asked.file, tell));
    bar.finish_and_clear();
    told(&warmed?)
}

fn told(warmed: &Warmed) -> Result<(), Fault> {
    let Warmed { asked, given, already, failed, unwritten } = warmed;
    let mut out = std::io::stderr();
    for (number, reason) in failed.iter().take(TOLD_MAX) {
        let _ = writeln!(out, "line {number}: {reason}");
    }
    let _ = writeln!(
        out,
        "{asked} asked, {given} kept as given, {already} there already, {} without an answer, \
         {unwritten} not taken by the store",
        failed.len()
    );
    if warmed.is_whole() {
        return Ok(());
    }
    Err(Fault::Incomplete(failed.len() as u64 + unwritten))
}

fn headers(wanted: &[String]) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    for text in wanted {
        let wrong = || Fault::Header(text.split(':').next().unwrap_or_default().to_owned());
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_a_wrong_one_is_named_without_its_value() {
        let read = headers(&["Authorization: Bearer a:b".into(), "x-a:1".into()]).unwrap();
        assert_eq!(read["authorization"], "Bearer a:b");
        assert_eq!(read["x-a"], "1");
        let error = headers(&["not a name: secret".into()]).unwrap_err().to_string();
        assert!(error.contains("not a name") && !error.contains("secret"), "{error}");
    }
}
