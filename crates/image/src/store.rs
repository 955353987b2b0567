//! The image store of a node: names, blobs and unpacked layers in one directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::digest::Digest;
use crate::error::Result;
use crate::image::{BlobInfo, Image, ImageSummary, ImportChanges, Removed};
use crate::peer::BlobSource;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::RegistryConfig;

/// The image store; clones share it. One process has it open at a time.
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
}

impl ImageStore {
    /// Opens or makes the store in `dir` (mode 0700), and removes what a crash left half done. Blocking: small files only.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self { inner: Arc::new(Inner { dir: dir.into() }) })
    }

    /// All images by name.
    pub fn list(&self) -> Vec<ImageSummary> {
        todo!("{:?}", self.inner.dir)
    }

    /// The image of this name, if it is complete here. `name@digest` is found under any tag of that name.
    pub fn get(&self, reference: &Reference) -> Option<Arc<Image>> {
        todo!("{reference}")
    }

    /// Loads a docker-archive or oci-archive (plain, gzip or zstd; detected). Gives the names it has now.
    pub async fn load<R>(&self, reader: R, progress: Progress) -> Result<Vec<Reference>>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let _ = (reader, progress);
        todo!()
    }

    /// Makes an image of one layer from a root filesystem tar (plain, gzip or zstd; detected).
    pub async fn import<R>(
        &self,
        reader: R,
        reference: &Reference,
        changes: ImportChanges,
        progress: Progress,
    ) -> Result<Arc<Image>>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let _ = (reader, reference, changes, progress);
        todo!()
    }

    /// Pulls an image from its registry; what is here already is not fetched again, and concurrent pulls share the work.
    pub async fn pull(
        &self,
        reference: &Reference,
        config: &RegistryConfig,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        let _ = (reference, config, progress);
        todo!()
    }

    /// Fetches an image from another node. `NotFound` if that node does not have it.
    pub async fn fetch(
        &self,
        reference: &Reference,
        source: &dyn BlobSource,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        let _ = (reference, source, progress);
        todo!()
    }

    /// Gives an image one more name.
    pub async fn tag(&self, from: &Reference, to: &Reference) -> Result<Arc<Image>> {
        let _ = (from, to);
        todo!()
    }

    /// Removes a name, and then what no name needs any more, except layers that `in_use` says are mounted.
    pub async fn remove<F>(&self, reference: &Reference, in_use: F) -> Result<Removed>
    where
        F: Fn(&Path) -> bool + Send + 'static,
    {
        let _ = (reference, in_use);
        todo!()
    }

    /// Deletes what no name needs, except layers that `in_use` says are mounted. To be called now and then.
    pub async fn collect_garbage<F>(&self, in_use: F) -> Result<Removed>
    where
        F: Fn(&Path) -> bool + Send + 'static,
    {
        let _ = in_use;
        todo!()
    }

    /// The manifest of an image, for another node.
    pub async fn export_manifest(&self, reference: &Reference) -> Result<Bytes> {
        let _ = reference;
        todo!()
    }

    /// The blobs a manifest needs that are not here.
    pub fn missing_blobs(&self, manifest: &[u8]) -> Result<Vec<BlobInfo>> {
        let _ = manifest;
        todo!()
    }

    /// A blob's bytes and their number.
    pub async fn open_blob(&self, digest: &Digest) -> Result<(tokio::fs::File, u64)> {
        let _ = digest;
        todo!()
    }

    /// Adds a blob; refused unless it has exactly this digest and size.
    pub async fn add_blob<R>(&self, blob: &BlobInfo, reader: R) -> Result<()>
    where
        R: AsyncRead + Send + Unpin,
    {
        let _ = (blob, reader);
        todo!()
    }

    /// Makes an image of a manifest whose blobs are all here: unpacks the layers and gives it the name.
    pub async fn finish(&self, reference: &Reference, manifest: &[u8]) -> Result<Arc<Image>> {
        let _ = (reference, manifest);
        todo!()
    }
}
