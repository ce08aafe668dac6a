//! `[prices]`: what models cost.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::units;

/// What models cost.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When they were looked up; shown beside the sum.
    #[serde(deserialize_with = "units::optional")]
    pub date: Option<String>,
    /// By a model's name, or by a beginning of names that ends with `*`.
    pub models: BTreeMap<String, Price>,
}

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of the prompt.
    #[serde(default)]
    pub input: f64,
    /// Of the answer.
    #[serde(default)]
    pub output: f64,
}
