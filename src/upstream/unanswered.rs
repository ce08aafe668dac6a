//! What became of a request that got no answer.

use http::Request;
use hyper::client::conn::TrySendError;

use super::outgoing::Upload;

/// How much the upstream can have seen, which decides what may be done next.
pub(super) enum Unanswered {
    /// Nothing was written; here it is.
    Unwritten(Box<Request<Upload>>, hyper::Error),
    /// The upstream says that it did nothing.
    Refused(hyper::Error),
    /// Anything may have happened.
    Broken(hyper::Error),
    /// No head in time.
    Late,
}

impl Unanswered {
    /// The connection ended; no answer was begun that we could not read.
    pub(super) fn is_loss(&self) -> bool {
        matches!(self, Self::Broken(error) if !error.is_parse() && !error.is_user())
    }
}

impl From<TrySendError<Request<Upload>>> for Unanswered {
    fn from(mut error: TrySendError<Request<Upload>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unwritten(Box::new(request), error.into_error()),
            None => Self::Broken(error.into_error()),
        }
    }
}
