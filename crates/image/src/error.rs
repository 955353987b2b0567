//! What can go wrong with images: each says what was tried, and on what.

use std::io;
use std::path::PathBuf;

use crate::builtin;
use crate::digest::{Digest, DigestError};
use crate::manifest::platform;
use crate::reference::{Reference, ReferenceError};

/// A failed operation of the image store. The store itself is unchanged by it.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file operation in the store's directory failed (a full disk is seen here).
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process has this store open.
    #[error("the image store {0} is in use by another process")]
    Locked(PathBuf),
    /// A file of the store cannot be understood.
    #[error("the image index {path} is damaged: {reason}; move it away to start with no images")]
    DamagedIndex {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that is no image name.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A digest that is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The image is not in the store, or the other side does not have it.
    #[error("image `{0}` not found")]
    NotFound(Reference),
    /// The blob is not in the store.
    #[error("blob {0} not found")]
    BlobNotFound(Digest),
    /// Bytes are not what their digest says.
    #[error("{what} is damaged: its digest is {actual}, expected {expected}")]
    DigestMismatch {
        /// Which bytes.
        what: &'static str,
        /// What they should be.
        expected: Digest,
        /// What they are.
        actual: Digest,
    },
    /// Something is over its bound.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its bound, in bytes or in entries as `what` says.
        limit: u64,
    },
    /// A manifest, index or configuration is malformed.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// Which document.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The stream given is no image archive, or is cut off.
    #[error("cannot read the archive: {0}")]
    Archive(io::Error),
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {layer}: entry `{entry}`: {reason}")]
    Unpack {
        /// The layer's blob.
        layer: Digest,
        /// The archive entry.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No manifest in the index is for this machine.
    #[error("`{reference}` has no image for {}; it has: {available}", platform())]
    NoPlatform {
        /// The image.
        reference: Reference,
        /// What there is.
        available: String,
    },
    /// The name has no registry, and no default registry is configured.
    #[error(
        "image `{0}` is not on this node and its name has no registry to pull it from; load it, or write REGISTRY/{0}"
    )]
    NoRegistry(Reference),
    /// The name says that the image is built in, and it is not.
    #[error(
        "image `{0}` is not built in, and {registry} is no registry: only {hello} is there; load others under another name",
        registry = builtin::REGISTRY, hello = builtin::HELLO
    )]
    NotBuiltIn(Reference),
    /// The registry asks for credentials, or for others than it was given.
    #[error("the registry denies `{reference}`: {reason}")]
    Denied {
        /// The image.
        reference: Reference,
        /// What it said, and what was tried.
        reason: String,
    },
    /// The registry answered with an error, or could not be reached.
    #[error("cannot pull `{reference}`: {reason}")]
    Registry {
        /// The image.
        reference: Reference,
        /// What the registry or the network said.
        reason: String,
    },
    /// A node that should have had the image could not give it.
    #[error("cannot fetch `{reference}` from another node: {source}")]
    Peer {
        /// The image.
        reference: Reference,
        /// What went wrong.
        source: io::Error,
    },
    /// The process is shutting down.
    #[error("interrupted by shutdown")]
    Interrupted,
}

impl ImageError {
    /// Whether a registry was asked and said no: there is no such image for whoever asks with these credentials.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::NotFound(_))
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { what, reason: reason.to_string() }
    }
}

/// Shorthand within this crate.
pub(crate) type Result<T, E = ImageError> = std::result::Result<T, E>;
