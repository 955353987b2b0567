//! Requests between nodes: HTTP/2 over mutual TLS on the manager port.

pub(crate) mod client;
pub(crate) mod server;

use std::io;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A body of any kind: whole, streamed, or passed through.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The most that a request or an answer read as a whole may hold.
pub(crate) const BODY_BYTES_MAX: usize = 4 << 20;

/// What goes wrong in a request, in words for the person who waits for it.
#[derive(Clone, Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status it is sent with.
    pub status: u16,
    /// What was tried, what is wrong, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal with this status.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status: status.as_u16(), message: message.into() }
    }

    /// The request is wrong.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The state of things does not allow it.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The node that asks was removed from the cluster. Said to nobody else, and only by a manager that is in
    /// contact with the others.
    #[must_use]
    pub fn removed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, message)
    }

    /// Whether the one who asked was removed from the cluster.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.status == StatusCode::GONE.as_u16()
    }

    /// The caller may not do that.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// It cannot be done now; try again.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// Something failed here: the error with all its causes.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, chain(error))
    }

    /// The refusal to leave, with what makes it happen all the same; told once.
    #[must_use]
    pub fn unless_forced(self, effect: &str) -> Self {
        let command = "`pontoon leave --force`";
        if self.message.contains(command) {
            return Self::conflict(self.message);
        }
        Self::conflict(format!("{}; {command} {effect}", self.message))
    }

    /// The refusal as an answer.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(&self);
        *response.status_mut() = status;
        response
    }
}

/// An error and its causes on one line.
#[must_use]
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A value as a JSON answer.
pub(crate) fn json(value: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).expect("plain data becomes JSON");
    let mut response = Response::new(full(bytes));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Reads a whole JSON body of at most [`BODY_BYTES_MAX`].
///
/// # Errors
/// When it is too large, breaks off, or is not what was expected.
pub(crate) async fn read_json<T, B>(body: B) -> Result<T, Refusal>
where
    T: DeserializeOwned,
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bytes = Limited::new(body, BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|e| Refusal::bad_request(format!("read the body: {e}")))?
        .to_bytes();
    let bytes = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
    serde_json::from_slice(&bytes).map_err(|e| Refusal::bad_request(format!("read the body: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_told_once() {
        let plain = Refusal::unavailable("no manager answers").unless_forced("leaves");
        assert_eq!(plain.message, "no manager answers; `pontoon leave --force` leaves");
        let told = plain.clone().unless_forced("leaves all the same");
        assert_eq!(told.message, plain.message);
    }

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("look up the name: refused (by the server)")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("refused"));
        assert_eq!(chain(&error), "look up the name: refused (by the server)");
    }
}
