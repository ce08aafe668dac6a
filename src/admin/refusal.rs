//! Errors of the admin API: a status and a JSON body in the shape of the front's own errors.

use std::borrow::Cow;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::store::StoreFault;

/// Why an admin request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// A stable name.
    pub(super) code: &'static str,
    /// What happened and what to do, for a person.
    pub(super) message: Cow<'static, str>,
}

impl Refusal {
    pub(super) const NOT_FOUND: Self = Self::fixed(
        StatusCode::NOT_FOUND,
        "not_found",
        "nothing is here: see /metrics, /livez, /readyz, /api/v1/stats",
    );
    pub(super) const STARTING: Self = Self::fixed(
        StatusCode::SERVICE_UNAVAILABLE,
        "starting",
        "the model is loading and the store is opening: see /readyz?verbose",
    );
    pub(super) const METHOD_NOT_ALLOWED: Self = Self::fixed(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path is here, but not for this method: see the header `allow`",
    );
    pub(super) const TOO_SLOW: Self = Self::fixed(
        StatusCode::GATEWAY_TIMEOUT,
        "too_slow",
        "the answer took too long and was given up",
    );
    pub(super) const NO_ENTRY: Self =
        Self::fixed(StatusCode::NOT_FOUND, "no_entry", "no entry has this id (any more)");
    pub(super) const TOKEN_NEEDED: Self = Self::fixed(
        StatusCode::UNAUTHORIZED,
        "token_needed",
        "send `authorization: Bearer TOKEN` with the token of admin.token",
    );
    pub(super) const TOKEN_WRONG: Self = Self::fixed(
        StatusCode::UNAUTHORIZED,
        "token_wrong",
        "this is not the token of admin.token",
    );
    pub(super) const NOT_LOCAL: Self = Self::fixed(
        StatusCode::FORBIDDEN,
        "not_local",
        "without admin.token only this machine may write: set one to write from elsewhere",
    );
    pub(super) const CROSS_SITE: Self = Self::fixed(
        StatusCode::FORBIDDEN,
        "cross_site",
        "a web page of another site sent this: writes come from this page or from a program",
    );

    pub(super) const TOO_MANY_WATCHERS: Self = Self::fixed(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_watchers",
        "too many dashboards are open at once: close one",
    );

    const fn fixed(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message: Cow::Borrowed(message) }
    }

    /// The request cannot be understood.
    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "bad_request", message: message.into() }
    }

    /// We cannot do it, and it is not the caller's fault.
    pub(super) fn broken(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "internal",
            message: message.into(),
        }
    }
}

impl From<StoreFault> for Refusal {
    fn from(fault: StoreFault) -> Self {
        let status = match fault {
            StoreFault::Busy | StoreFault::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreFault::Full(_) | StoreFault::TooLarge => StatusCode::INSUFFICIENT_STORAGE,
            StoreFault::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, code: fault.name(), message: fault.to_string().into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"error": {"message": self.message, "code": self.code}});
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
