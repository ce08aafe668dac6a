//! A body that sends each piece when it is due, and reports to the counts how it ended.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame as BodyFrame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    render::Frame,
    script::{Script, Stall},
    stats::Call,
};

/// How long a body waits before it breaks off, so that what it sent before is on the wire: hyper
/// drops what it has not written yet when a body fails.
const BREAK_DELAY: Duration = Duration::from_millis(20);

/// When tokens are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From the request to the first token.
    pub(crate) first_token: Duration,
    /// Tokens a second after it; 0 for no limit.
    pub(crate) token_rate: f64,
}

impl Pace {
    /// This pace as far as `script` does not set its own.
    pub(crate) fn adjusted(self, script: &Script) -> Self {
        Self {
            first_token: script.first_token.unwrap_or(self.first_token),
            token_rate: script.token_rate.unwrap_or(self.token_rate),
        }
    }

    /// When the token after `step` others is due, counted from the request.
    pub(crate) fn due(self, step: usize, stall: Option<Stall>) -> Duration {
        let pause = match stall {
            Some(stall) if step >= stall.after => stall.pause,
            _ => Duration::ZERO,
        };
        let writing = match self.token_rate {
            rate if rate > 0.0 => Duration::from_secs_f64(step as f64 / rate),
            _ => Duration::ZERO,
        };
        self.first_token + writing + pause
    }
}

/// The connection is broken off because the prompt asked for it.
#[derive(Debug)]
pub(crate) struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("broken off as the prompt asked")
    }
}

impl std::error::Error for BrokenOff {}

enum Step {
    Send { due: Instant, bytes: Bytes },
    Break { due: Option<Instant> },
}

/// The body of every answer.
pub(crate) struct Paced {
    steps: VecDeque<Step>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Known for a whole body: what becomes `Content-Length`.
    length: Option<u64>,
    call: Option<Call>,
}

impl Paced {
    /// `bytes`, at once.
    pub(crate) fn whole(bytes: Bytes, call: Option<Call>) -> Self {
        let length = Some(bytes.len() as u64);
        let send = Step::Send { due: Instant::now(), bytes };
        Self { steps: VecDeque::from([send]), sleep: None, length, call }
    }

    /// Promises all of `bytes` and breaks off in the middle.
    pub(crate) fn broken(bytes: &Bytes, call: Call) -> Self {
        let mut body = Self::whole(bytes.slice(..bytes.len() / 2), Some(call));
        body.length = Some(bytes.len() as u64);
        body.steps.push_back(Step::Break { due: None });
        body
    }

    /// `frames`, each when `pace` has it due.
    pub(crate) fn stream(
        frames: Vec<Frame>,
        pace: Pace,
        stall: Option<Stall>,
        started: Instant,
        call: Call,
    ) -> Self {
        let send = |frame: Frame| Step::Send {
            due: started + pace.due(frame.step, stall),
            bytes: frame.bytes,
        };
        let steps = frames.into_iter().map(send).collect();
        Self { steps, sleep: None, length: None, call: Some(call) }
    }

    /// The same body, broken off after its last frame.
    pub(crate) fn then_break(mut self) -> Self {
        self.steps.push_back(Step::Break { due: None });
        self
    }

    /// Waits until `due`, which may be past already.
    fn poll_due(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        if due <= Instant::now() {
            self.sleep = None;
            return Poll::Ready(());
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(context)
    }

    fn ended(&mut self) {
        if let Some(call) = self.call.take() {
            call.complete();
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let due = match this.steps.front_mut() {
            None => {
                this.ended();
                return Poll::Ready(None);
            }
            Some(Step::Send { due, .. }) => *due,
            Some(Step::Break { due }) => *due.get_or_insert_with(|| Instant::now() + BREAK_DELAY),
        };
        ready!(this.poll_due(due, context));
        match this.steps.pop_front() {
            Some(Step::Send { bytes, .. }) => {
                if let Some(call) = &this.call {
                    call.sent(bytes.len());
                }
                if this.steps.is_empty() {
                    this.ended();
                }
                Poll::Ready(Some(Ok(BodyFrame::data(bytes))))
            }
            _ => {
                this.ended();
                Poll::Ready(Some(Err(BrokenOff)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}
