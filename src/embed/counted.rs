//! What became of the texts that were given to an embedder, whichever one it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use futures_util::future::BoxFuture;

use super::{EmbedFault, Embedded, Embedder, Identity};

/// How a text was answered, in the order of [`Counted::results`].
const RESULTS: [&str; 6] =
    ["vector", "beyond_window", "unknown_words", "embed_busy", "embed_dead", "embed_failed"];

/// An embedder that keeps count.
pub struct Counted {
    inner: Arc<dyn Embedder>,
    results: [AtomicU64; RESULTS.len()],
    micros: AtomicU64,
    /// The last answer was that nobody is there to answer.
    dead: AtomicBool,
}

impl Counted {
    /// Counts from zero.
    pub fn new(inner: Arc<dyn Embedder>) -> Self {
        Self {
            inner,
            results: Default::default(),
            micros: AtomicU64::new(0),
            dead: AtomicBool::new(false),
        }
    }

    /// Texts by what became of them; a text whose caller left is none of them.
    pub fn results(&self) -> Vec<(&'static str, u64)> {
        let counts = self.results.iter().map(|count| count.load(Ordering::Relaxed));
        RESULTS.into_iter().zip(counts).collect()
    }

    /// Seconds that answers took, queueing included.
    pub fn seconds(&self) -> f64 {
        self.micros.load(Ordering::Relaxed) as f64 / 1e6
    }

    async fn count(
        &self,
        answered: BoxFuture<'_, Result<Embedded, EmbedFault>>,
    ) -> Result<Embedded, EmbedFault> {
        let begun = Instant::now();
        let answer = answered.await;
        let result = match &answer {
            Ok(Embedded::Vector(_)) => 0,
            Ok(Embedded::BeyondWindow { .. }) => 1,
            Ok(Embedded::UnknownWords { .. }) => 2,
            Err(EmbedFault::Busy) => 3,
            Err(EmbedFault::Dead) => 4,
            Err(EmbedFault::Failed) => 5,
        };
        self.results[result].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.dead.store(matches!(answer, Err(EmbedFault::Dead)), Ordering::Relaxed);
        answer
    }

    /// What is wrong while something is.
    pub fn trouble(&self) -> Option<String> {
        let dead = self.dead.load(Ordering::Relaxed);
        dead.then(|| "the embedder does not answer: exact repeats only".to_owned())
    }
}

impl Embedder for Counted {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn embed(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>> {
        Box::pin(self.count(self.inner.embed(text)))
    }

    fn embed_later(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>> {
        Box::pin(self.count(self.inner.embed_later(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scripted(Identity);

    impl Embedder for Scripted {
        fn identity(&self) -> &Identity {
            &self.0
        }

        fn embed(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>> {
            let answer = match &*text {
                "dead" => Err(EmbedFault::Dead),
                "busy" => Err(EmbedFault::Busy),
                _ => Ok(Embedded::Vector(Arc::from([1.0]))),
            };
            Box::pin(std::future::ready(answer))
        }
    }

    #[tokio::test]
    async fn every_answer_is_counted_and_death_is_said_until_it_lives() {
        let identity =
            Identity { name: "m".into(), digest: "0".into(), dimension: 1, window_tokens: 9 };
        let counted = Counted::new(Arc::new(Scripted(identity)));
        for text in ["one", "busy", "dead"] {
            let _ = counted.embed(text.into()).await;
        }
        let count = |name| counted.results().into_iter().find(|(one, _)| *one == name).unwrap().1;
        assert_eq!(["vector", "embed_busy", "embed_dead"].map(count), [1, 1, 1]);
        assert!(counted.trouble().is_some());
        let _ = counted.embed_later("two".into()).await;
        assert_eq!(counted.trouble(), None);
        assert_eq!(count("vector"), 2);
    }
}
