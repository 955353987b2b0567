//! Fetching an image from a node that has it, blob by blob, each verified by its digest.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::digest::Digest;
use crate::reference::Reference;

/// Where blobs come from: another node's store behind an authenticated connection. What it says is verified.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// The other side's manifest for an image (its `export_manifest`), or `None` if it has no such image.
    async fn manifest(&self, reference: &Reference) -> io::Result<Option<Bytes>>;

    /// The bytes of a blob (its `open_blob`).
    async fn blob(&self, digest: &Digest) -> io::Result<Box<dyn AsyncRead + Send + Unpin>>;
}
