//! What an attempt says about its replica.

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use tokio::time::Duration;

use crate::fault::{Fault, Kind};

/// OpenAI's and Azure's `Retry-After`, in milliseconds.
const RETRY_AFTER_MS: &str = "retry-after-ms";

/// `529 Overloaded`, which Anthropic's API answers.
const OVERLOADED: u16 = 529;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It works; the time to its head is a fair sample.
    Served,
    /// It works and has too much to do; when it says so, until when.
    Overloaded(Option<Duration>),
    /// It works, but its quick error is no sample of its speed.
    Erred,
    /// It is down, or something in front of it says so.
    Failed,
    /// Nothing: the client's side failed.
    Unjudged,
}

impl Verdict {
    /// From a response head.
    pub(super) fn of_head(head: &http::response::Parts) -> Self {
        match head.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Self::Overloaded(retry_after(&head.headers))
            }
            status if status.as_u16() == OVERLOADED => Self::Overloaded(retry_after(&head.headers)),
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Self::Failed,
            // Not a failure of the replica: one poisonous prompt, sent again and again, would eject
            // them all.
            status if status.is_server_error() => Self::Erred,
            _ => Self::Served,
        }
    }

    /// From what came instead of a response head.
    pub(super) fn of_fault(fault: &Fault) -> Self {
        match fault.kind {
            Kind::Connect
            | Kind::ConnectTimeout
            | Kind::Reset
            | Kind::FirstByteTimeout
            | Kind::LifetimeTimeout => Self::Failed,
            _ => Self::Unjudged,
        }
    }
}

/// A wait in seconds or milliseconds. Dates are not read: no model server sends them, and they
/// would depend on two clocks.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok();
    let millis = number(RETRY_AFTER_MS).map(Duration::from_millis);
    millis.or_else(|| number(RETRY_AFTER.as_str()).map(Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn verdict(status: u16, headers: &[(&str, &str)]) -> Verdict {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Verdict::of_head(&response.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn statuses() {
        for status in [200, 204, 304, 400, 401, 404] {
            assert_eq!(verdict(status, &[]), Verdict::Served, "{status}");
        }
        for status in [429, 503, 529] {
            assert_eq!(verdict(status, &[]), Verdict::Overloaded(None), "{status}");
        }
        assert_eq!(verdict(500, &[]), Verdict::Erred);
        assert_eq!(verdict(502, &[]), Verdict::Failed);
        assert_eq!(verdict(504, &[]), Verdict::Failed);
    }

    #[test]
    fn waits() {
        let wait = |headers| match verdict(429, headers) {
            Verdict::Overloaded(wait) => wait,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        let both = [("retry-after", "7"), ("retry-after-ms", "250")];
        assert_eq!(wait(&both), Some(Duration::from_millis(250)));
        for odd in ["", "-1", "1.5", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(verdict(429, &[("retry-after", odd)]), Verdict::Overloaded(None), "{odd}");
        }
    }
}
