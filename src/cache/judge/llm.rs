//! A language model as judge, for what the offline judges leave open: any OpenAI-compatible endpoint.
//!
//! It works off the path, under a deadline and a bound on both what runs and what waits. It is never
//! taken at its word: its first words are an entrance examination on pairs whose truth is known, and
//! such probes go on for ever after ([`Standing`]). While it fails them, or does not answer, nothing it
//! says is heard and nothing near is served.

mod probes;
mod reply;
mod standing;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;

pub use self::{
    probes::{PROBES, Probe},
    standing::{Standing, State},
};
use super::JudgeError;
use crate::{cache::verdict::Agreement, config};

/// What the judge is told to do.
const PROMPT: &str = include_str!("llm/prompt.txt");
/// Of each text, at most so many bytes of its beginning and of its end: enough for any answer that is
/// worth sharing, and a bound on what one judgement costs.
const SIDE_BYTES: usize = 3000;
/// One word is wanted; models that think aloud need room to get there.
const MAX_TOKENS: u32 = 512;
/// A longer reply is not one to us.
const REPLY_BYTES_MAX: usize = 256 << 10;

/// Two answers to be compared, and what was asked.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The question that the fresh answer was given to.
    pub question: &'a str,
    /// The fresh answer.
    pub fresh: &'a str,
    /// The stored answer that would be served in its place.
    pub stored: &'a str,
}

/// How judging goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LlmReport {
    /// Judgements that were heard.
    pub judged: u64,
    /// Cases that found the queue full.
    pub dropped: u64,
    /// Requests without a usable reply: late, refused, neither yes nor no.
    pub unanswered: u64,
    /// Cases that were not asked, or not heard, since the judge is on probation, unsound or silent.
    pub unheard: u64,
}

#[derive(Debug, Default)]
struct Counts {
    judged: AtomicU64,
    dropped: AtomicU64,
    unanswered: AtomicU64,
    unheard: AtomicU64,
}

/// The judge's near end.
#[derive(Debug)]
pub struct LlmJudge {
    client: reqwest::Client,
    endpoint: String,
    model: String,
    api_key: Option<String>,
    deadline: Duration,
    /// Places for those who are asked about now, and for those who wait as well.
    running: Semaphore,
    places: Semaphore,
    standing: Mutex<Standing>,
    probing: tokio::sync::Mutex<()>,
    counts: Counts,
}

impl LlmJudge {
    /// The configured judge; `None` where none is.
    ///
    /// # Errors
    /// No TLS roots can be read.
    pub fn open(config: &config::Judge) -> Result<Option<Self>, reqwest::Error> {
        let Some(url) = &config.url else { return Ok(None) };
        let deadline = config.deadline.get();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(deadline)
            .timeout(deadline)
            .pool_max_idle_per_host(config.concurrency)
            .build()?;
        Ok(Some(Self {
            client,
            endpoint: format!("{}/chat/completions", url.trim_end_matches('/')),
            model: config.model.clone(),
            api_key: config.api_key.clone(),
            deadline,
            running: Semaphore::new(config.concurrency),
            places: Semaphore::new(config.concurrency + config.queue),
            standing: Mutex::new(Standing::default()),
            probing: tokio::sync::Mutex::new(()),
            counts: Counts::default(),
        }))
    }

    /// Do the two say the same? `None` when the judge is late, full, unclear or not to be believed.
    pub async fn compare(&self, case: Case<'_>) -> Option<Agreement> {
        let Ok(_place) = self.places.try_acquire() else {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.probe().await;
        if self.state() != State::Sound {
            self.counts.unheard.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let said = self.ask(case).await;
        let mut standing = self.standing.lock();
        standing.judged(said);
        // It may have been found out while this was under way.
        let heard = said.filter(|_| standing.state() == State::Sound);
        match (said, heard) {
            (_, Some(_)) => self.counts.judged.fetch_add(1, Ordering::Relaxed),
            (Some(_), None) => self.counts.unheard.fetch_add(1, Ordering::Relaxed),
            (None, None) => 0, // counted as unanswered
        };
        heard
    }

    /// Asks the probes that are due. One case does so at a time; others go by what is known.
    async fn probe(&self) {
        let Ok(_probing) = self.probing.try_lock() else { return };
        let due = self.standing.lock().due();
        for _ in 0..due {
            let probe = self.standing.lock().next_probe();
            let Probe { question, fresh, stored, truth } = *probe;
            let said = self.ask(Case { question, fresh, stored }).await;
            self.standing.lock().probed(truth, said);
            if said.is_none() {
                break; // who is slow should not be waited for eight times
            }
        }
    }

    /// Asks, waiting included, within the deadline.
    async fn ask(&self, case: Case<'_>) -> Option<Agreement> {
        let asked = async {
            let _running = self.running.acquire().await.ok()?;
            self.send(case).await
        };
        let said = tokio::time::timeout(self.deadline, asked).await.ok().flatten();
        if said.is_none() {
            self.counts.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        said
    }

    async fn send(&self, case: Case<'_>) -> Option<Agreement> {
        let texts = json!({
            "question": clipped(case.question),
            "answer_1": clipped(case.stored),
            "answer_2": clipped(case.fresh),
        });
        let body = json!({
            "model": self.model,
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
            "messages": [
                {"role": "system", "content": PROMPT},
                // As JSON: what stands in an answer cannot pass for an instruction's end.
                {"role": "user", "content": texts.to_string()},
            ],
        });
        let mut request = self.client.post(&self.endpoint).json(&body);
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key);
        }
        let mut response =
            request.send().await.and_then(reqwest::Response::error_for_status).ok()?;
        let mut whole = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            whole.extend_from_slice(&chunk);
            if whole.len() > REPLY_BYTES_MAX {
                return None;
            }
        }
        reply::agreement(&whole)
    }

    /// Whether it is believed.
    pub fn state(&self) -> State {
        self.standing.lock().state()
    }

    /// How often it errs, by its probes.
    pub fn error(&self) -> JudgeError {
        self.standing.lock().error()
    }

    /// Counts for metrics.
    pub fn report(&self) -> LlmReport {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LlmReport {
            judged: read(&self.counts.judged),
            dropped: read(&self.counts.dropped),
            unanswered: read(&self.counts.unanswered),
            unheard: read(&self.counts.unheard),
        }
    }
}

/// A text's beginning and end.
fn clipped(text: &str) -> String {
    if text.len() <= 2 * SIDE_BYTES {
        return text.to_owned();
    }
    let (head, tail) =
        (text.floor_char_boundary(SIDE_BYTES), text.ceil_char_boundary(text.len() - SIDE_BYTES));
    format!("{} [...] {}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests;
