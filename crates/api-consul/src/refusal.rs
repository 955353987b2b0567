//! Why a request failed: an HTTP status and Consul's words, which some clients compare.

use http::StatusCode;
use pontoon_store::{ReadError, WriteError};

use crate::permit::PermitError;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// The token is not allowed to do this.
    #[error("Permission denied")]
    Denied,
    /// The same, with more words.
    #[error("Permission denied: {0}")]
    DeniedBecause(String),
    /// Tokens are asked about while nobody needs one.
    #[error("ACL support disabled")]
    AclOff,
    /// The token does not exist.
    #[error("ACL not found")]
    UnknownToken,
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The path is served, but not this method of it.
    #[error("method {method} not allowed")]
    Method { method: String, allowed: String },
    /// The path is not in its canonical form.
    #[error("the canonical form of this path is {0}")]
    Moved(String),
    /// A body or URL is too large.
    #[error("{0}")]
    TooLarge(String),
    /// The request may succeed later.
    #[error("{0}")]
    Busy(String),
    /// An endpoint of Consul that is not served here.
    #[error("{0} is not served by Pontoon; `docs/consul.md` lists what is")]
    NotServed(String),
    /// What Consul answers with status 500, be the client to blame or the server.
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    pub(crate) fn bad_request(words: impl Into<String>) -> Refusal {
        Refusal::BadRequest(words.into())
    }

    pub(crate) fn failed(words: impl Into<String>) -> Refusal {
        Refusal::Failed(words.into())
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Refusal::BadRequest(_) => StatusCode::BAD_REQUEST,
            Refusal::Denied | Refusal::DeniedBecause(_) | Refusal::UnknownToken => {
                StatusCode::FORBIDDEN
            }
            Refusal::AclOff => StatusCode::UNAUTHORIZED,
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Moved(_) => StatusCode::MOVED_PERMANENTLY,
            Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::NotServed(_) => StatusCode::NOT_IMPLEMENTED,
            Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Refusal {
        match error {
            WriteError::NoLeader { .. } | WriteError::NotInCluster => no_leader(),
            WriteError::TooLarge { .. } => Refusal::TooLarge(error.to_string()),
            WriteError::Overloaded { .. } => Refusal::Busy(error.to_string()),
            error => Refusal::Failed(error.to_string()),
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Refusal {
        match error {
            ReadError::NoLeader { .. } | ReadError::NotInCluster => no_leader(),
            error => Refusal::Failed(error.to_string()),
        }
    }
}

impl From<PermitError> for Refusal {
    fn from(error: PermitError) -> Refusal {
        match error {
            PermitError::UnknownToken => Refusal::UnknownToken,
            PermitError::Unreadable(_) => Refusal::Failed(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Refusal {
        Refusal::Failed(error.to_string())
    }
}

fn no_leader() -> Refusal {
    Refusal::failed("No cluster leader")
}
