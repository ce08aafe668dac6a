//! The verdict: may this stored answer be given to that question?
//!
//! One [`Namespace`] decides for all questions whose labels may be pooled: one tenant, or one
//! shared scope, and one model. It holds no vectors and no answers. A lookup hands it the nearest
//! keys of the question's partition and gets a [`Decision`]; when a question was forwarded all the
//! same, [`Namespace::learn`] hears which of the near answers the fresh one agreed with, and says
//! how to store it. What it knows is serialisable and survives a restart.
//!
//! Three policies stand behind one enum: [`verified`] learns and states its error, [`threshold`]
//! compares with a number, [`vcache`] follows the published rule of that name.

pub mod burst;
pub mod controller;
pub mod families;
pub mod feature;
pub mod first_prior;
pub mod namespace;
pub mod posterior;
pub mod threshold;
pub mod vcache;
pub mod verified;
pub mod witness;

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::cache::guards::{GuardSet, Reading};
use crate::cache::readings::Readings;
use crate::embed::pictographs;
pub use crate::front::tenant::Principal;
pub use namespace::{Label, Lesson, Namespace, NamespaceReport, Settings};

/// Names a stored answer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct AnswerId(pub u128);

/// A key near the question, as the vector search found it in the question's partition.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour<'a> {
    /// The answer that the key belongs to.
    pub answer: AnswerId,
    /// Cosine similarity to the question, -1..=1.
    pub similarity: f32,
    /// The question that the key was stored under.
    pub text: Wording<'a>,
}

/// What a stored question says.
#[derive(Clone, Copy, Debug)]
pub enum Wording<'a> {
    /// Its text, to be read when it is needed.
    Text(&'a str, &'a Readings),
    /// Read already.
    Read(&'a Arc<Reading>),
}

impl<'a> Wording<'a> {
    /// As the guards see it.
    pub fn reading(self) -> Arc<Reading> {
        match self {
            Self::Text(text, readings) => readings.of(text),
            Self::Read(reading) => Arc::clone(reading),
        }
    }

    /// Its pictographs, without reading the rest.
    pub fn pictographs(self) -> Cow<'a, str> {
        match self {
            Self::Text(text, _) => Cow::Owned(pictographs(text)),
            Self::Read(reading) => Cow::Borrowed(&reading.pictographs),
        }
    }
}

/// How a namespace decides.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Learned per answer, audited, with a bound on wrong answers per hit.
    Verified,
    /// At least so similar.
    Threshold,
    /// The published vCache rule: a bound on wrong answers per request.
    Vcache,
    /// Exact matches only.
    Off,
}

impl Policy {
    /// Stable name for configuration and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Threshold => "threshold",
            Self::Vcache => "vcache",
            Self::Off => "off",
        }
    }

    /// From its stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Verified, Self::Threshold, Self::Vcache, Self::Off]
            .into_iter()
            .find(|p| p.name() == name)
    }
}

/// What is to happen to the question, and why.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// Serve the chosen answer.
    Serve,
    /// It would be served, but is forwarded to see whether it would have been right.
    Audit,
    /// It would be served, but the policy wants a label of this answer.
    Explore,
    /// It would be served, but this namespace serves exact matches only until its error is back in
    /// bounds.
    Suspended,
    /// It would be served, but too few others have confirmed the answer for it to be shared.
    Unconfirmed,
    /// Similar, but not surely the same question.
    Doubtful,
    /// A guard found a difference that similarity cannot see.
    Guarded,
    /// Nothing in the partition to compare with.
    NoNeighbour,
    /// Semantic matching is off.
    Off,
}

impl Ruling {
    /// All, for metrics that list every label value from the start.
    pub const ALL: [Self; 9] = [
        Self::Serve,
        Self::Audit,
        Self::Explore,
        Self::Suspended,
        Self::Unconfirmed,
        Self::Doubtful,
        Self::Guarded,
        Self::NoNeighbour,
        Self::Off,
    ];

    /// All names, in the same order.
    pub const NAMES: [&'static str; 9] = [
        "serve",
        "audit",
        "explore",
        "suspended",
        "unconfirmed",
        "doubtful",
        "guarded",
        "no_neighbour",
        "off",
    ];

    /// Stable name for metrics, headers and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Audit => "audit",
            Self::Explore => "explore",
            Self::Suspended => "suspended",
            Self::Unconfirmed => "unconfirmed",
            Self::Doubtful => "doubtful",
            Self::Guarded => "guarded",
            Self::NoNeighbour => "no_neighbour",
            Self::Off => "off",
        }
    }

    /// Whether the answer would have been served but for the wish to check it: such labels are
    /// unbiased.
    pub fn would_serve(self) -> bool {
        matches!(self, Self::Serve | Self::Audit | Self::Explore | Self::Suspended)
    }
}

/// What was decided about one question. Owns its data, so that it can wait for the fresh answer in
/// another task.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The outcome.
    pub ruling: Ruling,
    /// Index of the key, in the neighbour list given, whose answer is or would be served.
    pub chosen: Option<usize>,
    /// Family of that answer: where outcomes are recorded.
    pub family: Option<AnswerId>,
    /// Cosine similarity of that key, 0 without neighbours.
    pub similarity: f32,
    /// Best cosine similarity of any other family, 0 if there is none.
    pub rival: f32,
    /// What the policy judged by: a soft margin for `verified`, else the similarity.
    pub feature: f32,
    /// Believed probability that the answer is right, 0..=1; for `threshold` 1 or 0.
    pub alpha: f64,
    /// Differences found in the nearest key of the winning family.
    pub guards: GuardSet,
    /// Whether its outcome says something about similarity. What a guard stopped does not: it would
    /// never be served.
    pub teaches: bool,
    /// One answer of each family near the question, nearest first: those to compare a fresh answer
    /// with.
    pub contenders: Vec<Contender>,
}

/// An answer that a fresh one should be compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contender {
    /// The answer that owns the nearest key of its family.
    pub answer: AnswerId,
    /// Cosine similarity of that key.
    pub similarity: f32,
}

/// Whether a fresh answer says the same as a stored one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Agreement {
    /// It does.
    Same,
    /// It does not.
    Different,
}

/// How to store the fresh answer of a forwarded question. The exact tier stores it under its own
/// text in every case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Placement {
    /// Add the question's vector as one more key of this answer.
    Alias(AnswerId),
    /// Store a new answer with its own key, then call [`Namespace::join`] with this elder and the
    /// new answer's name: it says the same, but the elder's keys are full.
    Kin(AnswerId),
    /// Store a new answer with its own key.
    Own,
    /// No new key: one of this answer lies so close that it would add nothing.
    Redundant(AnswerId),
}
