//! Errors as answers.

use axum::{
    Json,
    extract::rejection::{BytesRejection, PathRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// An error as the interface tells it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The place in a batch that it is about.
    index: Option<usize>,
    /// Two lines: what was sent, and a mark below the place in it.
    pointer: Option<String>,
}

impl ApiError {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "an error comes as `map_err` hands it over"
    )]
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        Self {
            status,
            code,
            message: message.to_string(),
            index: None,
            pointer: None,
        }
    }

    /// The request is not what the interface takes; the same again will fail again.
    pub(super) fn malformed(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    pub(super) fn forbidden(message: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn too_large(message: impl ToString) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn not_found(message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// A part of the node is down or busy; a retry may work.
    pub(super) fn unavailable(message: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    pub(super) fn pointing(mut self, pointer: &str) -> Self {
        self.pointer = Some(pointer.to_owned());
        self
    }

    pub(super) fn at(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }
}

/// What axum itself refuses, in the interface's own form.
impl From<BytesRejection> for ApiError {
    fn from(refused: BytesRejection) -> Self {
        match refused.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(
                "the body is larger than a request may be, 16 MiB; send it in several",
            ),
            status => Self::new(status, "malformed", refused.body_text()),
        }
    }
}

impl From<PathRejection> for ApiError {
    fn from(refused: PathRejection) -> Self {
        Self::malformed(refused.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(refused: QueryRejection) -> Self {
        Self::malformed(refused.body_text())
    }
}

/// An answer that breaks off in the middle says so by breaking off: its head has been sent.
impl From<ApiError> for axum::BoxError {
    fn from(error: ApiError) -> Self {
        error.message.into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(index) = self.index {
            error["index"] = index.into();
        }
        if let Some(pointer) = self.pointer {
            error["pointer"] = pointer.into();
        }
        (self.status, Json(json!({ "version": 1, "error": error }))).into_response()
    }
}
