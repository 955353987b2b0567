//! Fetching an image from a node that has it, blob by blob, each verified by its digest.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::io::AsyncRead;

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::image::{BlobInfo, Image};
use crate::manifest::Manifest;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::{ImageStore, Session};

/// Blobs that are fetched at the same time.
pub(crate) const PARALLEL: usize = 4;

/// Where blobs come from: another node's store behind an authenticated connection. What it says is verified.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// The other side's manifest for an image (its `export_manifest`), or `None` if it has no such image.
    async fn manifest(&self, reference: &Reference) -> io::Result<Option<Bytes>>;

    /// The bytes of a blob (its `open_blob`).
    async fn blob(&self, digest: &Digest) -> io::Result<Box<dyn AsyncRead + Send + Unpin>>;
}

pub(crate) async fn fetch(
    store: &ImageStore,
    reference: &Reference,
    source: &dyn BlobSource,
    progress: &Progress,
) -> Result<Arc<Image>> {
    let failed = |source| ImageError::Peer { reference: reference.clone(), source };
    let bytes = source.manifest(reference).await.map_err(failed)?;
    let bytes = bytes.ok_or_else(|| ImageError::NotFound(reference.clone()))?;
    if let Some(expected) = reference.digest() {
        let actual = Digest::of(&bytes);
        if actual != *expected {
            let what = "the manifest";
            return Err(ImageError::DigestMismatch { what, expected: *expected, actual });
        }
    }
    let manifest = Manifest::parse(&bytes)?;
    let mut session = store.inner().pins.session();
    pin_all(&mut session, &manifest);
    let one = |blob: BlobInfo| async move {
        let lock = store.inner().pins.lock_of(&blob.digest);
        let _fetching = lock.lock().await;
        if store.inner().files.has_blob(&blob.digest) {
            return Ok(());
        }
        let reader = source.blob(&blob.digest).await.map_err(failed)?;
        store.receive(&blob, reader, progress).await
    };
    stream::iter(manifest.blobs().into_iter().map(one))
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    finish(store, reference, bytes, session, progress).await
}

pub(crate) fn pin_all(session: &mut Session, manifest: &Manifest) {
    for blob in manifest.blobs() {
        session.pin(blob.digest);
    }
}

pub(crate) async fn finish(
    store: &ImageStore,
    reference: &Reference,
    manifest: Bytes,
    mut session: Session,
    progress: &Progress,
) -> Result<Arc<Image>> {
    let (reference, progress) = (reference.clone(), progress.clone());
    store.blocking(move |inner| inner.finish(&reference, &manifest, &mut session, &progress)).await
}
