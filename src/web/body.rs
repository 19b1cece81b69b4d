//! Reads what requests carry.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use hyper::body::{Frame, SizeHint};
use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, task};

use super::{Interface, error::ApiError};

/// A body of JSON, in its type.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Interface> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, interface: &Interface) -> Result<Self, ApiError> {
        if media_type(request.headers()) != JSON {
            return Err(media_type_refused("send this as application/json"));
        }
        let body = Bytes::from_request(request, interface).await?;
        let read = |body: &[u8]| serde_json::from_slice(body).map_err(ApiError::malformed);
        interface.readers.read(body, read).await?.map(Self)
    }
}

pub(super) const JSON: &str = "application/json";
pub(super) const NDJSON: &str = "application/x-ndjson";

/// What the body is said to be, without parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok());
    let value = value.unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

pub(super) fn media_type_refused(what_to_do: &str) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", what_to_do)
}

/// A body, and whoever wants to know whether it is being read.
struct Watched {
    body: Body,
    _reading: Arc<()>,
}

/// Whether the body of a request is still being read.
pub(super) struct Reading(Weak<()>);

impl Reading {
    pub(super) fn watch(request: Request) -> (Request, Self) {
        let reading = Arc::new(());
        let watch = Self(Arc::downgrade(&reading));
        let watched = |body| {
            Body::new(Watched {
                body,
                _reading: reading,
            })
        };
        (request.map(watched), watch)
    }

    /// It has neither been read to its end nor been left unread.
    pub(super) fn goes_on(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads large bodies beside the runtime, a few at a time: each takes a worker for a tenth of a second and, decoded, a
/// multiple of its length in memory.
#[derive(Debug, Clone)]
pub(super) struct Readers(Arc<Semaphore>);

impl Readers {
    /// Bodies up to this length are read at once: that takes less than a millisecond.
    const SMALL_BYTES: usize = 64 << 10;
    /// How many large bodies are read at the same time.
    const LARGE_AT_ONCE: usize = 4;

    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(Self::LARGE_AT_ONCE)))
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        body: Bytes,
        read: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        if body.len() <= Self::SMALL_BYTES {
            return Ok(read(&body));
        }
        let stopping = || ApiError::unavailable("the node is stopping; retry when it is back");
        let place = Arc::clone(&self.0).acquire_owned().await;
        let place = place.map_err(|_| stopping())?;
        let reading = task::spawn_blocking(move || {
            let _place = place;
            read(&body)
        });
        reading.await.map_err(|_| stopping())
    }
}
