//! Fits a first prior: what a namespace would believe after hearing public questions with every one
//! of them forwarded.

use super::dataset::{Dataset, EvalError, Truth};
use super::knn::{Graph, Vectors};
use super::pairs;
use super::replay::{Run, Stream};
use crate::cache::guards::Reading;
use crate::cache::verdict::posterior::Belief;
use crate::cache::verdict::{Namespace, Settings};

/// Passes over the data; each starts from the prior that the one before left behind, and from no
/// records.
const PASSES: u64 = 12;

/// A file to listen to, with its vectors and its weight beside the others.
#[derive(Debug)]
pub struct Source {
    /// Stream, log or pairs.
    pub dataset: Dataset,
    /// One vector a text.
    pub vectors: Vectors,
    /// Share in the mixture, relative to the others; above 0.
    pub weight: f32,
}

/// The mixture of what each source teaches under an audit share of one: nothing is served, so every
/// outcome is heard and the fit is free of the selection that serving brings.
///
/// Sources are fitted apart and mixed afterwards. One after the other in one namespace, the last
/// would drown the first.
pub fn fit_prior(sources: &[Source]) -> Result<Belief, EvalError> {
    let mut mixture: Option<Belief> = None;
    let mut weight = 0.0;
    for source in sources {
        let learned = listen(source);
        weight += source.weight;
        match &mut mixture {
            Some(mixture) => mixture.lean(&learned, source.weight / weight),
            None => mixture = Some(learned),
        }
    }
    mixture.ok_or(EvalError::Empty)
}

/// The file that `first_prior` compiles in: weights with what they were fitted to and from.
pub fn prior_file(prior: &Belief, model: &str, fitted_on: &str) -> String {
    let weights: Vec<f64> =
        prior.weights().iter().map(|w| (f64::from(*w) * 1e7).round() / 1e7).collect();
    serde_json::json!({ "model": model, "fitted_on": fitted_on, "weights": weights }).to_string()
}

fn listen(source: &Source) -> Belief {
    let settings = Settings { audit: 1.0, ..Settings::default() };
    let texts = &source.dataset.texts;
    let readings: Vec<Reading> = texts.iter().map(|t| Reading::of(t)).collect();
    let classes = source.dataset.classes();
    let graph =
        if classes.is_empty() { Graph::default() } else { Graph::build(&source.vectors, |_| {}) };
    let stream = Stream {
        texts,
        readings: &readings,
        vectors: &source.vectors,
        graph: &graph,
        classes: &classes,
    };
    let mut prior = Belief::flat();
    for pass in 0..PASSES {
        let mut space = Namespace::new(settings.clone(), prior.clone());
        let _: Run = match &source.dataset.truth {
            Truth::Pairs(list) => {
                pairs::replay(list, texts, &source.vectors, &readings, &mut space, pass)
            }
            Truth::Classes(_) | Truth::Answers(_) => stream.replay(&mut space, pass),
        };
        prior = space.prior().cloned().unwrap_or(prior);
    }
    prior
}
