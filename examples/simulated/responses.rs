//! Responses of every kind that the routes give.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use serde_json::Value;

use crate::{api_error::ApiError, paced::Paced, stats::Call};

/// Any response's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The request's body as it comes, with its type: what a proxy must not touch.
pub(crate) fn echo(headers: &HeaderMap, body: Incoming, call: Call) -> Response<Body> {
    call.complete();
    let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}

/// 200, text.
pub(crate) fn text(text: String, call: Call) -> Response<Body> {
    let body = Paced::whole(Bytes::from(text), Some(call));
    response(StatusCode::OK, "text/plain; version=0.0.4", None, body)
}

/// 200, JSON; without a call where the request is not counted.
pub(crate) fn json(value: &Value, call: Option<Call>) -> Response<Body> {
    let body = Paced::whole(Bytes::from(value.to_string()), call);
    response(StatusCode::OK, "application/json", None, body)
}

/// The error's status and body.
pub(crate) fn refusal(error: &ApiError, call: Call) -> Response<Body> {
    let body = Paced::whole(Bytes::from(error.body().to_string()), Some(call));
    let mut response = response(error.status, "application/json", None, body);
    if error.status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// `body` with its status and headers.
pub(crate) fn response(
    status: StatusCode,
    kind: &'static str,
    cache_control: Option<&'static str>,
    body: Paced,
) -> Response<Body> {
    let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(value) = cache_control {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
    }
    response
}
