//! `[log]`: what is logged, and how.

use serde::Deserialize;

/// What is logged.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A tracing filter.
    pub level: String,
    /// One record a request.
    pub access: bool,
    /// Prompt text in access records.
    pub prompts: bool,
}

/// For people or for machines.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}
