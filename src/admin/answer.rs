//! Answers of the API that are errors: `{"error": "..."}` with a status.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::inventory::store::StoreError;
use crate::journal::AppendError;
use crate::journal::operator::OperatorError;

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    message: String,
}

impl Fault {
    /// The request is wrong.
    pub(super) fn request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// There is no such thing.
    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: message.into() }
    }

    /// Something this needs does not answer.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message: message.into() }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!(%error, "cannot read the journal");
        Self::unavailable("the journal cannot be read")
    }
}

impl From<OperatorError> for Fault {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Read(error) => error.into(),
            OperatorError::Write(error) => error.into(),
        }
    }
}

impl From<AppendError> for Fault {
    fn from(error: AppendError) -> Self {
        Self::unavailable(format!(
            "{error}; it is in force now, and is written down when the journal recovers"
        ))
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<QueryRejection> for Fault {
    fn from(rejection: QueryRejection) -> Self {
        Self::request(rejection.body_text())
    }
}

impl From<JsonRejection> for Fault {
    fn from(rejection: JsonRejection) -> Self {
        Self { status: rejection.status(), message: rejection.body_text() }
    }
}
