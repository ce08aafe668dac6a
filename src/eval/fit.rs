//! Fits a first prior: what a namespace would believe after hearing public questions with every one
//! of them forwarded.

use std::sync::Arc;

use serde::Serialize;

use super::dataset::{Dataset, EvalError, Truth};
use super::knn::{Graph, Vectors};
use super::pairs;
use super::replay::{Progress, Run, Stream, embed_all};
use super::truth::Judging;
use crate::cache::guards::Reading;
use crate::cache::verdict::posterior::Belief;
use crate::cache::verdict::{Namespace, Settings, first_prior};

/// Passes over the data; each starts from the prior that the one before left behind, and from no
/// records.
const PASSES: u64 = 12;

/// A file to listen to, with its vectors and its weight beside the others.
#[derive(Debug)]
pub struct Source {
    /// Stream, log or pairs.
    pub dataset: Dataset,
    /// One vector a text.
    vectors: Vectors,
    /// One vector an answer, for a log.
    answers: Vectors,
    /// Share in the mixture, relative to the others; above 0.
    weight: f32,
}

impl Source {
    /// Embeds what there is to compare.
    pub fn embed(
        dataset: Dataset,
        weight: f32,
        mut embed: impl FnMut(&[String]) -> Result<Vectors, EvalError>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Self, EvalError> {
        let vectors = embed_all(&dataset.texts, &mut embed, &mut progress)?;
        let answers = match &dataset.truth {
            Truth::Answers(answers) => embed_all(answers, &mut embed, &mut progress)?,
            Truth::Classes(_) | Truth::Pairs(_) => Vectors::default(),
        };
        Ok(Self { dataset, vectors, answers, weight })
    }
}

/// What one file of a fit was.
#[derive(Clone, Debug, Serialize)]
pub struct Provenance {
    /// Its name, without folders.
    pub file: String,
    /// Labelled rows.
    pub rows: usize,
    /// Hash of its content, 64 hex digits.
    pub blake3: String,
    /// Share in the mixture, relative to the others.
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

/// The file that `first_prior` compiles in: weights with what they were fitted to and from. It
/// holds no text of its sources.
pub fn prior_file(prior: &Belief, model: &str, fitted_on: &[Provenance]) -> String {
    let weights: Vec<f64> =
        prior.weights().iter().map(|w| (f64::from(*w) * 1e7).round() / 1e7).collect();
    let file = serde_json::json!({
        "model": model,
        "fitted_on": fitted_on,
        "fitted_by": format!("reprise eval --fit-prior, {PASSES} passes, every question forwarded"),
        "weights": weights,
    });
    format!("{file}\n")
}

/// The prior of a file that [`prior_file`] wrote, as a namespace would start with it.
pub fn read_prior(text: &str) -> Option<Belief> {
    first_prior::read(text)
}

fn listen(source: &Source) -> Belief {
    let settings = Settings { audit: 1.0, ..Settings::default() };
    let texts = &source.dataset.texts;
    let readings: Vec<_> = texts.iter().map(|t| Arc::new(Reading::of(t))).collect();
    let graph = match &source.dataset.truth {
        Truth::Pairs(_) => Graph::default(),
        Truth::Classes(_) | Truth::Answers(_) => Graph::build(&source.vectors, |_| {}),
    };
    let stream = Stream {
        texts,
        readings: &readings,
        vectors: &source.vectors,
        graph: &graph,
        judging: Judging::of(&source.dataset.truth, &source.answers),
        recorded: false,
    };
    let mut prior = Belief::flat();
    for pass in 0..PASSES {
        let mut space = Namespace::new(settings.clone(), prior.clone());
        let _: Run = match &source.dataset.truth {
            Truth::Pairs(list) => pairs::replay(list, &source.vectors, &readings, &mut space, pass),
            Truth::Classes(_) | Truth::Answers(_) => stream.replay(&mut space, pass),
        };
        prior = space.prior().cloned().unwrap_or(prior);
    }
    prior
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::verdict::posterior::Level;

    /// Two questions of one class point one way, others elsewhere.
    fn source(weight: f32) -> Source {
        let mut rows = String::new();
        for class in 0..6 {
            for phrasing in ["how do I paint walls", "what is the way to paint walls"] {
                rows.push_str(&format!(
                    "{{\"prompt\":\"{phrasing} in colour {class}\",\"class\":{class}}}\n"
                ));
            }
        }
        let embed = |texts: &[String]| {
            let mut flat = vec![0.0; texts.len() * 6];
            for (at, text) in texts.iter().enumerate() {
                let class: usize = text.split(' ').next_back().unwrap().parse().unwrap();
                flat[at * 6 + class] = 1.0;
            }
            Ok(Vectors::new(flat, 6).unwrap())
        };
        Source::embed(Dataset::read(&rows).unwrap(), weight, embed, |_| {}).unwrap()
    }

    #[test]
    fn a_fit_learns_and_its_file_can_be_read() {
        let prior = fit_prior(&[source(1.0), source(3.0)]).unwrap();
        let high = Level::of(1.4);
        assert!(prior.alpha(high) > Belief::flat().alpha(high));
        let origin =
            Provenance { file: "x.jsonl".into(), rows: 12, blake3: "ab".into(), weight: 1.0 };
        let text = prior_file(&prior, "m", &[origin]);
        let back = read_prior(&text).unwrap();
        assert!((back.alpha(high) - prior.alpha(high)).abs() < 0.02);
        assert!(text.contains("\"blake3\":\"ab\"") && !text.contains("walls"));
        assert!(read_prior("{}").is_none());
    }

    #[test]
    fn nothing_to_listen_to_is_an_error() {
        assert!(fit_prior(&[]).is_err());
    }
}
