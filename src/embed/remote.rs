//! An embedding server: anything with OpenAI's `/v1/embeddings`, or Hugging Face's text-embeddings-
//! inference (`/embed`).
//!
//! Each text has a deadline. After one that is not answered the server is left alone, at first for a
//! second, then ever longer, and one text at a time tries again: the others go on without a vector.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{EmbedFault, Embedded, Embedder, Identity, Vector, cosine};

const CONNECT_TIME: Duration = Duration::from_secs(2);

/// How long an unanswered server is left alone.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// Questions to find the dimension with: a server that starts beside us gets a little time.
const OPENING_TRIES: u32 = 5;

/// No vector of a known model is longer; no more is read of an answer.
const DIMENSION_MAX: usize = 65_536;

/// Which API.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// OpenAI's, at `/v1/embeddings`.
    #[default]
    OpenAi,
    /// text-embeddings-inference, at `/embed`.
    Tei,
}

/// Where texts are embedded.
#[derive(Clone)]
pub struct RemoteOptions {
    /// Which API.
    pub api: Api,
    /// The server's base URL: `https://api.openai.com`, `http://127.0.0.1:8081`.
    pub url: String,
    /// The model's name there; part of the collection's name.
    pub model: String,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// For one text.
    pub timeout: Duration,
    /// Texts on their way at a time; one more is [`EmbedFault::Busy`].
    pub in_flight: usize,
    /// Tokens that the model sees, for reports; the server itself refuses longer texts.
    pub window_tokens: usize,
}

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Not a client that can be built, such as without system roots.
    #[error("no HTTP client for embed.url: {0}")]
    Client(reqwest::Error),
    /// It gives no vector.
    #[error("the embedding server at {url} gives no vector: {reason}")]
    NoVector {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
}

/// An embedding server.
pub struct Remote {
    client: reqwest::Client,
    endpoint: String,
    options: RemoteOptions,
    identity: Identity,
    in_flight: AtomicUsize,
    rest: Mutex<Rest>,
}

/// Until when the server is left alone.
#[derive(Default)]
struct Rest {
    until: Option<Instant>,
    pause: Duration,
}

/// What the server said of one text.
enum Said {
    Vector(Vec<f32>),
    /// More than its window.
    TooLong,
}

#[derive(Deserialize)]
struct OpenAiAnswer {
    data: Vec<OpenAiVector>,
}

#[derive(Deserialize)]
struct OpenAiVector {
    embedding: Vec<f32>,
}

impl Remote {
    /// Asks for one vector to learn the dimension.
    ///
    /// # Errors
    /// Where there is none after a few tries.
    pub async fn open(options: RemoteOptions) -> Result<Self, RemoteError> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            .timeout(options.timeout.max(CONNECT_TIME))
            .build()
            .map_err(RemoteError::Client)?;
        let path = match options.api {
            Api::OpenAi => "/v1/embeddings",
            Api::Tei => "/embed",
        };
        let base = options.url.trim_end_matches('/').trim_end_matches("/v1");
        // A model that changes its vectors changes its name: the address is no part of it, so that
        // replicas behind different ones share a collection.
        let digest = blake3::hash(format!("remote {}", options.model).as_bytes()).to_hex();
        let mut remote = Self {
            client,
            endpoint: format!("{base}{path}"),
            identity: Identity {
                name: options.model.clone(),
                digest: digest[..16].to_owned(),
                dimension: 0,
                window_tokens: options.window_tokens,
            },
            options,
            in_flight: AtomicUsize::new(0),
            rest: Mutex::default(),
        };
        remote.identity.dimension = remote.dimension().await?;
        Ok(remote)
    }

    async fn dimension(&self) -> Result<usize, RemoteError> {
        let mut reason = String::new();
        for _ in 0..OPENING_TRIES {
            match self.ask("dimension").await {
                Ok(Said::Vector(vector)) if (1..=DIMENSION_MAX).contains(&vector.len()) => {
                    return Ok(vector.len());
                }
                Ok(Said::Vector(vector)) => reason = format!("one of {} numbers", vector.len()),
                Ok(Said::TooLong) => reason = "it refuses the shortest text".to_owned(),
                Err(error) => reason = error,
            }
            sleep(FIRST_PAUSE).await;
        }
        Err(RemoteError::NoVector { url: self.endpoint.clone(), reason })
    }

    /// One question; the error is for people.
    async fn ask(&self, text: &str) -> Result<Said, String> {
        let body = match self.options.api {
            Api::OpenAi => {
                json!({"model": self.options.model, "input": [text], "encoding_format": "float"})
            }
            // A text that is cut would have the vector of its beginning.
            Api::Tei => json!({"inputs": [text], "normalize": true, "truncate": false}),
        };
        let mut request = self.client.post(&self.endpoint).json(&body);
        if let Some(key) = &self.options.api_key {
            request = request.bearer_auth(key);
        }
        // The client's own errors name the URL, which may hold a credential; ours do not.
        let told = |error: reqwest::Error| error.without_url().to_string();
        let answer = request.send().await.map_err(told)?;
        let status = answer.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE || status == StatusCode::BAD_REQUEST {
            return Ok(Said::TooLong);
        }
        if !status.is_success() {
            return Err(format!("it answers with status {status}"));
        }
        let bytes = answer.bytes().await.map_err(told)?;
        let vector = match self.options.api {
            Api::OpenAi => {
                let answer: Result<OpenAiAnswer, _> = serde_json::from_slice(&bytes);
                answer.map(|answer| answer.data.into_iter().next().map(|one| one.embedding))
            }
            Api::Tei => {
                let answer: Result<Vec<Vec<f32>>, _> = serde_json::from_slice(&bytes);
                answer.map(|answer| answer.into_iter().next())
            }
        };
        match vector {
            Ok(Some(vector)) => Ok(Said::Vector(vector)),
            Ok(None) => Err("an answer without a vector".to_owned()),
            Err(error) => {
                let kind = serde_json::from_slice::<Value>(&bytes).map_or("no JSON", |_| "JSON");
                Err(format!("an answer of another shape ({kind}): {error}"))
            }
        }
    }

    /// May it be asked? Whoever comes first after its rest is the trial, and prolongs it for the rest.
    fn pass(&self) -> Result<(), EmbedFault> {
        let mut rest = self.rest.lock();
        let now = Instant::now();
        match rest.until {
            Some(until) if now < until => Err(EmbedFault::Dead),
            Some(_) => {
                rest.until = Some(now + self.options.timeout.max(rest.pause));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn failed(&self, reason: &str) {
        let mut rest = self.rest.lock();
        if rest.until.is_none() {
            tracing::warn!(reason, url = self.endpoint, "the embedding server is left alone");
        }
        rest.pause = (rest.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        rest.until = Some(Instant::now() + rest.pause);
    }

    fn answered(&self) {
        let mut rest = self.rest.lock();
        if rest.until.is_some() {
            tracing::info!(url = self.endpoint, "the embedding server answers");
        }
        *rest = Rest::default();
    }

    async fn embed_one(&self, text: Arc<str>) -> Result<Embedded, EmbedFault> {
        let _seat = self.seat()?;
        self.pass()?;
        // A caller that gives up says as much of the server as a deadline does.
        let mut trial = Trial { remote: self, begun: Instant::now(), over: false };
        let asked = tokio::time::timeout(self.options.timeout, self.ask(&text)).await;
        trial.over = true;
        match asked.unwrap_or_else(|_| Err(format!("no answer in {:?}", self.options.timeout))) {
            Ok(said) => {
                self.answered();
                self.judged(said)
            }
            Err(reason) => {
                self.failed(&reason);
                Err(EmbedFault::Dead)
            }
        }
    }

    fn judged(&self, said: Said) -> Result<Embedded, EmbedFault> {
        let Said::Vector(vector) = said else {
            return Ok(Embedded::BeyondWindow { tokens: self.identity.window_tokens + 1 });
        };
        let norm = cosine(&vector, &vector).sqrt();
        if vector.len() != self.identity.dimension || !norm.is_normal() {
            tracing::warn!(
                numbers = vector.len(),
                expected = self.identity.dimension,
                "the embedding server gave another vector than at the start: is it another model?"
            );
            return Err(EmbedFault::Failed);
        }
        let unit: Vector = vector.into_iter().map(|number| number / norm).collect();
        Ok(Embedded::Vector(unit))
    }

    fn seat(&self) -> Result<Seat<'_>, EmbedFault> {
        let seat = Seat(&self.in_flight);
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.options.in_flight {
            return Err(EmbedFault::Busy);
        }
        Ok(seat)
    }
}

/// One text's place; given back however it ends.
struct Seat<'r>(&'r AtomicUsize);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One question on its way.
struct Trial<'r> {
    remote: &'r Remote,
    begun: Instant,
    over: bool,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        // Given up within a moment it says nothing: a client that left.
        const MOMENT: Duration = Duration::from_millis(20);
        if !self.over && self.begun.elapsed() >= MOMENT {
            self.remote.failed("given up by the lookup's deadline");
        }
    }
}

impl Embedder for Remote {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn embed(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>> {
        Box::pin(self.embed_one(text))
    }

    fn workload(&self) -> super::Workload {
        super::Workload { threads: 0, queued: self.in_flight.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests;
