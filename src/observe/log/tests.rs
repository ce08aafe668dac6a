use std::{io::Write, sync::Arc};

use parking_lot::Mutex;

use super::*;
use crate::config::Log;

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(in crate::observe) fn config(format: LogFormat, level: &str, access: bool) -> Log {
    Log { format, level: level.into(), access, prompts: false }
}

/// What the log holds after `say`.
pub(in crate::observe) fn written(config: &Log, say: impl FnOnce()) -> String {
    let page = Page::default();
    let theirs = page.clone();
    let writer = move || theirs.clone();
    let subscriber = subscriber(config.format, Colours::Off, filter(config).unwrap(), writer);
    tracing::subscriber::with_default(subscriber, say);
    let bytes = page.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

fn everybody_speaks() {
    tracing::info!(target: "access", outcome = "miss", "");
    tracing::info!(target: "reprise::front", "ours");
    tracing::debug!(target: "reprise::front", "ours in detail");
    tracing::info!(target: "h2", "theirs");
    tracing::warn!(target: "h2", "theirs, worried");
}

#[test]
fn a_plain_level_is_ours_and_libraries_only_warn() {
    let log = written(&config(LogFormat::Pretty, "info", true), everybody_speaks);
    assert!(log.contains("ours") && log.contains("outcome=\"miss\""), "{log}");
    assert!(log.contains("theirs, worried"), "{log}");
    assert!(!log.contains("detail") && !log.contains("theirs\n"), "{log}");
}

#[test]
fn trace_stays_ours_too() {
    let log = written(&config(LogFormat::Pretty, "trace", true), everybody_speaks);
    assert!(log.contains("in detail") && !log.contains("theirs\n"), "{log}");
}

#[test]
fn a_whole_filter_is_taken_as_it_stands() {
    let log = written(&config(LogFormat::Pretty, "error,h2=info", true), everybody_speaks);
    assert!(log.contains("theirs\n") && !log.contains("ours"), "{log}");
}

#[test]
fn access_records_can_be_silenced_and_survive_a_high_level() {
    let silent = written(&config(LogFormat::Pretty, "info", false), everybody_speaks);
    assert!(!silent.contains("outcome"), "{silent}");
    let only = written(&config(LogFormat::Pretty, "error", true), everybody_speaks);
    assert!(only.contains("outcome") && !only.contains("worried"), "{only}");
}

#[test]
fn a_filter_that_is_none_is_an_error_that_says_so() {
    let fault = filter(&config(LogFormat::Pretty, "loud", true)).unwrap_err();
    assert!(fault.to_string().starts_with("log.level: expected error, warn"), "{fault}");
}

#[test]
fn json_is_one_flat_object_a_line() {
    let log = written(&config(LogFormat::Json, "info", true), || {
        tracing::info!(target: "access", outcome = "miss", bytes = 7_u64, text = "a\n\u{1b}[31mb");
    });
    assert_eq!(log.lines().count(), 1, "{log}");
    let line: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!(line["target"], "access");
    assert_eq!(line["outcome"], "miss");
    assert_eq!(line["bytes"], 7);
    assert_eq!(line["text"], "a\n\u{1b}[31mb");
}

#[test]
fn a_clients_text_cannot_forge_lines_or_colours() {
    let log = written(&config(LogFormat::Pretty, "info", true), || {
        tracing::info!(target: "access", model = "gpt\nERROR forged\u{1b}[31m");
    });
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
}
