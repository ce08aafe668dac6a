//! Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

use http::StatusCode;
use serde_json::{Value, json};

/// One refusal, ready to be sent.
#[derive(Debug)]
pub(crate) struct ApiError {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
}

impl ApiError {
    /// A 400 about no field in particular.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code: None,
            param: None,
            message: message.into(),
        }
    }

    /// A 400: the required field `param` is absent.
    pub(crate) fn missing(param: &str) -> Self {
        Self::invalid(format!("The required parameter '{param}' is missing."))
            .about(param, "missing_required_parameter")
    }

    /// A 400: `param` should have been `expected`, but `found` came.
    pub(crate) fn wrong_type(param: &str, expected: &str, found: &Value) -> Self {
        let found = type_name(found);
        Self::invalid(format!("'{param}' has the wrong type: expected {expected}, got {found}."))
            .about(param, "invalid_type")
    }

    /// A 400: `param` has the right type and a value that it may not have.
    pub(crate) fn bad_value(param: &str, why: &str) -> Self {
        Self::invalid(format!("'{param}' has an invalid value: {why}."))
            .about(param, "invalid_value")
    }

    /// A 401.
    pub(crate) fn unauthorized() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: Some("invalid_api_key"),
            ..Self::invalid("This API key is not valid here.")
        }
    }

    /// A 404: nobody serves `model`.
    pub(crate) fn unknown_model(model: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            ..Self::invalid(format!("There is no model named '{model}'."))
                .about("model", "model_not_found")
        }
    }

    /// A 404 or 405: nothing answers this method at this path.
    pub(crate) fn no_route(status: StatusCode, method: &http::Method, path: &str) -> Self {
        Self {
            status,
            code: Some("unknown_url"),
            ..Self::invalid(format!("Nothing answers {method} {path}."))
        }
    }

    /// A 413.
    pub(crate) fn too_large(bytes_max: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Self::invalid(format!("The body is longer than {bytes_max} bytes."))
        }
    }

    /// A failure that a prompt's `[[fail:STATUS]]` asked for.
    pub(crate) fn provoked(status: StatusCode) -> Self {
        let (kind, code) = match status {
            StatusCode::TOO_MANY_REQUESTS => ("requests", "rate_limit_exceeded"),
            status if status.is_client_error() => ("invalid_request_error", "provoked"),
            _ => ("server_error", "provoked"),
        };
        Self {
            status,
            kind,
            code: Some(code),
            ..Self::invalid("The prompt asked for this failure.")
        }
    }

    /// The JSON body, which is also what an error frame inside a stream holds.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }})
    }

    fn about(mut self, param: &str, code: &'static str) -> Self {
        self.param = Some(param.to_owned());
        self.code = Some(code);
        self
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
