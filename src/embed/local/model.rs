//! A loaded model: texts in, answers out.

use std::sync::Arc;

use fastembed::TextEmbedding;

use crate::embed::{
    EmbedFault, Embedded, Vector, cosine,
    local::{
        window::{Sight, Window},
        worker::Answer,
    },
};

/// A loaded model with its own ONNX Runtime session: one thread's property.
pub(super) struct Model {
    embedding: TextEmbedding,
    pub(super) window: Window,
    company: Company,
}

/// Whether a text's vector is independent of the batch that it is computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// It is: texts go together.
    Any,
    /// It is not (dynamic quantization): texts go one by one.
    None,
}

// === impl Model ===

impl Model {
    pub(super) fn new(
        embedding: TextEmbedding,
        window: usize,
        company: Company,
    ) -> Result<Self, String> {
        let window = Window::new(embedding.tokenizer.clone(), window).map_err(|e| e.to_string())?;
        Ok(Self { embedding, window, company })
    }

    /// Runs a short text and one that fills the window, so that the first callers do not pay for ONNX
    /// Runtime's first allocations; returns the dimension.
    pub(super) fn warm(&mut self) -> Result<usize, String> {
        let long = "a ".repeat(self.window.tokens());
        let vectors = self.embedding.embed(["warm"], None).map_err(|e| e.to_string())?;
        self.embedding.embed([long], None).map_err(|e| e.to_string())?;
        match vectors.first().map(Vec::len) {
            None | Some(0) => Err("the model gives no vector".to_owned()),
            Some(dimension) => Ok(dimension),
        }
    }

    /// Answers each text, in order. One that fails takes those of its batch along.
    pub(super) fn embed(&mut self, texts: &[Arc<str>]) -> Vec<Answer> {
        let seen: Vec<_> = texts.iter().map(|text| self.window.seen(text)).collect();
        let whole: Vec<&str> = seen
            .iter()
            .filter(|(_, sight)| matches!(sight, Ok(Sight::Whole)))
            .map(|(text, _)| &**text)
            .collect();
        let mut vectors = self.vectors(&whole).into_iter();
        let mut answer = |sight| match sight {
            Ok(Sight::Whole) => vectors.next().unwrap_or(Err(EmbedFault::Failed)),
            Ok(Sight::Beyond { tokens }) => Ok(Embedded::BeyondWindow { tokens }),
            Ok(Sight::Unknown { tokens }) => Ok(Embedded::UnknownWords { unknown: tokens }),
            Err(error) => {
                tracing::warn!(%error, "a text cannot be tokenized");
                Err(EmbedFault::Failed)
            }
        };
        seen.into_iter().map(|(_, sight)| answer(sight)).collect()
    }

    fn vectors(&mut self, texts: &[&str]) -> Vec<Answer> {
        let batch = match self.company {
            Company::Any => texts.len().max(1),
            Company::None => 1,
        };
        texts.chunks(batch).flat_map(|texts| self.run(texts)).collect()
    }

    fn run(&mut self, texts: &[&str]) -> Vec<Answer> {
        match self.embedding.embed(texts, Some(texts.len())) {
            Ok(vectors) => vectors.into_iter().map(|vector| checked(vector.into())).collect(),
            Err(error) => {
                tracing::warn!(%error, texts = texts.len(), "the model failed");
                vec![Err(EmbedFault::Failed); texts.len()]
            }
        }
    }
}

/// A vector that is no unit vector (NaN, all zero) would be near to nothing or to everything.
fn checked(vector: Vector) -> Answer {
    let square = cosine(&vector, &vector);
    if (0.99..1.01).contains(&square) {
        Ok(Embedded::Vector(vector))
    } else {
        tracing::warn!(square, "the model gave a vector without direction");
        Err(EmbedFault::Failed)
    }
}
