//! What is believed before anything was heard.
//!
//! Fitted by `reprise eval --fit-prior`, which replays public question pairs through this very code with
//! every question forwarded and keeps the prior that results; its head line tells from what. It
//! holds for the model it was fitted with only: another encoder's similarities mean something else,
//! so another model starts flat and learns.

use super::posterior::Belief;

/// Name under which the default model is configured.
pub const DEFAULT_MODEL: &str = "all-MiniLM-L6-v2";
/// Share of doubt mixed in, so that no curve is ruled out for ever by what the public pairs did not
/// contain.
const DOUBT: f32 = 0.004;

/// The prior to start a namespace of a model with.
pub fn first_prior(model: &str) -> Belief {
    let fitted = (model == DEFAULT_MODEL).then(|| parse(include_str!("first_prior.json")));
    doubted(fitted.flatten().unwrap_or_else(Belief::flat))
}

/// The prior of a file of this form, as [`first_prior`] would start with it; `None` for another
/// form, or another version's grid.
pub fn read(text: &str) -> Option<Belief> {
    parse(text).map(doubted)
}

fn doubted(mut belief: Belief) -> Belief {
    belief.lean(&Belief::flat(), DOUBT);
    belief
}

fn parse(text: &str) -> Option<Belief> {
    let file: serde_json::Value = serde_json::from_str(text).ok()?;
    let weights = file
        .get("weights")?
        .as_array()?
        .iter()
        .map(|w| w.as_f64().map(|w| w as f32))
        .collect::<Option<Vec<f32>>>()?;
    Belief::from_weights(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::verdict::posterior::Level;

    #[test]
    fn the_shipped_prior_reads_and_differs_from_flat() {
        let fitted = first_prior(DEFAULT_MODEL);
        assert!(fitted.alpha(Level::of(1.4)) > Belief::flat().alpha(Level::of(1.4)));
        assert!(fitted.alpha(Level::of(1.2)) < 0.95, "a doubtful question is not served at first");
        assert!(fitted.alpha(Level::of(1.44)) > 0.99, "a plain paraphrase is");
    }

    #[test]
    fn another_model_starts_flat() {
        assert!(
            (first_prior("other").alpha(Level::of(1.0)) - Belief::flat().alpha(Level::of(1.0)))
                .abs()
                < 1e-5
        );
    }
}
