//! One answer to a prompt, from the checked request to the response that sends it at its pace.

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::{Instant, sleep_until};

use crate::{
    api_error::ApiError,
    ask::{Ask, Delivery},
    completions,
    paced::Paced,
    render::{self, Frame, Head},
    reply,
    responses::{self, Body},
    script::{Content, Ending},
    server::Settings,
    stamp::Stamp,
    stats::{self, Call},
};

/// The two ways to write an answer to a prompt.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// Composes the answer and sends it at its pace. A refusal comes back with the call, which the
/// error's body then ends.
pub(crate) async fn generate(
    ask: &Ask,
    shape: Shape,
    stamp: &Stamp,
    settings: &Settings,
    call: Call,
) -> Result<Response<Body>, (ApiError, Call)> {
    let started = Instant::now();
    if let Some(status) = ask.script.fail {
        return Err((ApiError::provoked(status), call));
    }
    let head = head(&settings.name);
    let choices = reply::compose(ask, stamp, settings.tokens);
    let pace = settings.pace.adjusted(&ask.script);
    if ask.delivery != Delivery::Whole {
        let frames = match shape {
            Shape::Chat => render::frames(ask, &head, stamp, &choices),
            Shape::Text => completions::frames(ask, &head, &choices),
        };
        let frames = with_ending(ask, frames);
        let body = Paced::stream(frames, pace, ask.script.stall, started, call);
        return Ok(streamed(ask, body));
    }
    let body = match shape {
        Shape::Chat => render::whole(ask, &head, stamp, &choices),
        Shape::Text => completions::whole(ask, &head, &choices),
    };
    sleep_until(started + pace.due(render::longest(&choices), ask.script.stall)).await;
    if let Ending::SseError(_) = ask.script.ending {
        return Err((ApiError::provoked(StatusCode::INTERNAL_SERVER_ERROR), call));
    }
    let bytes = match ask.script.content {
        Content::Garbage => Bytes::from_static(b"<<< not json"),
        _ => Bytes::from(body.to_string()),
    };
    let body = match ask.script.ending {
        Ending::Cut(_) => Paced::broken(&bytes, call),
        _ => Paced::whole(bytes, Some(call)),
    };
    Ok(responses::response(StatusCode::OK, "application/json", ask.script.cache_control, body))
}

/// The frames with the ending that the prompt asked for; a cut still needs its break.
fn with_ending(ask: &Ask, mut frames: Vec<Frame>) -> Vec<Frame> {
    if ask.script.content == Content::Garbage {
        frames = vec![Frame { step: 0, bytes: Bytes::from_static(b"data: <<< not json\n\n") }];
    }
    let last = frames.last().map_or(0, |frame| frame.step);
    match ask.script.ending {
        Ending::Complete => frames.push(Frame::done(last)),
        Ending::NoDone => {}
        Ending::Cut(after) => frames.retain(|frame| frame.step < after),
        Ending::SseError(after) => {
            frames.retain(|frame| frame.step < after);
            let error = ApiError::provoked(StatusCode::INTERNAL_SERVER_ERROR);
            frames.push(Frame::event(after.min(last), &error.body()));
        }
    }
    frames
}

fn streamed(ask: &Ask, mut body: Paced) -> Response<Body> {
    if let Ending::Cut(_) = ask.script.ending {
        body = body.then_break();
    }
    // Event streams are sent with `no-cache` by common servers, which must not keep a proxy from
    // storing what it was configured to store.
    let cache_control = ask.script.cache_control.or(Some("no-cache"));
    let kind = "text/event-stream; charset=utf-8";
    responses::response(StatusCode::OK, kind, cache_control, body)
}

fn head(name: &str) -> Head {
    let mut random = [0; 12];
    // Without randomness the id is the clock alone, which is good enough for a simulation.
    let _ = getrandom::fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let now = stats::now();
    Head {
        id: format!("chatcmpl-{random}{:06x}", now.subsec_micros()),
        created: now.as_secs(),
        fingerprint: format!("fp_{name}"),
    }
}
