//! `reprise eval`: what would this cache do with your questions, and how often would it be wrong?
//!
//! Replays a file through the very code that serves: [`crate::cache::verdict::Namespace`] decides,
//! and learns only from what it forwarded. A stream of questions with classes, pairs with a label,
//! or a log of questions with their answers.

mod curve;
mod dataset;
mod fit;
mod knn;
mod pairs;
mod random;
mod replay;
mod report;
mod truth;

pub use curve::svg;
pub use dataset::{Dataset, EvalError, Pair, Truth};
pub use fit::{Provenance, Source, fit_prior, prior_file, read_prior};
pub use knn::{Graph, Vectors};
pub use replay::{Phase, Plan, Progress, Run, evaluate};
pub use report::{Row, advice, json, kinds, markdown, table};
