//! One question to our own front, patiently.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use reqwest::Response;

use super::line::Question;

/// How often a question is asked of an upstream that is busy or away.
const TRIES: u32 = 4;
/// The first pause between two tries; doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is kept to.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Asks; `Ok` once the answer was heard to its end.
///
/// # Errors
/// What the last answer was instead.
pub(super) async fn send(
    client: &reqwest::Client,
    to: &str,
    headers: &HeaderMap,
    question: &Question,
) -> Result<(), String> {
    let mut pause = PAUSE;
    for left in (0..TRIES).rev() {
        let request = client
            .post(format!("{to}{}", question.path))
            .headers(headers.clone())
            .body(question.body.clone());
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        let status = answer.status();
        let named = retry_after(&answer);
        let body = answer.bytes().await.map_err(|error| error.without_url().to_string())?;
        if status.is_success() {
            return Ok(());
        }
        if left == 0 || !passes(status) {
            let said = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            return Err(format!("the upstream answers {status}: {said}"));
        }
        tokio::time::sleep(named.unwrap_or(pause).min(PAUSE_MAX)).await;
        pause *= 2;
    }
    Ok(())
}

/// Is it worth asking again?
fn passes(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let value = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.parse().ok().map(Duration::from_secs)
}
