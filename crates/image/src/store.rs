//! The image store of a node: names, blobs and unpacked layers in one directory.

mod blobs;
mod files;
mod garbage;
mod layers;
mod names;
mod pins;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use crate::archive;
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::image::{BlobInfo, Image, ImageSummary, ImportChanges, Removed};
use crate::import;
use crate::manifest::{MAX_CONFIG, MAX_MANIFEST, Manifest, parse_config, platform};
use crate::peer::{self, BlobSource};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{self, RegistryConfig};

pub(crate) use self::blobs::Expect;
pub(crate) use self::files::Files;
use self::layers::Unpacking;
pub(crate) use self::layers::{LayerInfo, Limits};
use self::names::{Names, assemble};
pub(crate) use self::pins::{Pins, Session};

/// The image store; clones share it. One process has it open at a time.
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

/// What the clones share, for work on blocking threads.
pub(crate) struct Inner {
    pub(crate) files: Files,
    pub(crate) pins: Arc<Pins>,
    pub(crate) limits: Limits,
    names: Mutex<Names>,
    /// Pins of blobs that were added one by one, until `finish`.
    loose: Mutex<Vec<(Digest, Session)>>,
}

/// The most blobs added one by one that are kept waiting for `finish`.
const MAX_LOOSE: usize = 4096;

impl ImageStore {
    /// Opens or makes the store in `dir` (mode 0700), and removes what a crash left half done. Blocking: small files only.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(dir.into(), Limits::default())
    }

    pub(crate) fn open_with(dir: PathBuf, limits: Limits) -> Result<Self> {
        let files = Files::open(dir)?;
        let names = Mutex::new(Names::open(&files)?);
        let (pins, loose) = (Arc::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { files, pins, limits, names, loose }) })
    }

    /// All images by name.
    pub fn list(&self) -> Vec<ImageSummary> {
        self.inner.names().all().map(|image| summary(image)).collect()
    }

    /// The image of this name, if it is complete here. `name@digest` is found under any tag of that name.
    pub fn get(&self, reference: &Reference) -> Option<Arc<Image>> {
        self.inner.names().get(reference)
    }

    /// Loads a docker-archive or oci-archive (plain, gzip or zstd; detected). Gives the names it has now.
    pub async fn load<R>(&self, reader: R, progress: Progress) -> Result<Vec<Reference>>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let reader = SyncIoBridge::new(reader);
        let loaded = self.blocking(move |inner| archive::load(inner, reader, &progress)).await;
        // The archive's own index files and, after a failure, all of it: nothing names them.
        self.collect_garbage(|_| true).await?;
        loaded
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
        let (reader, reference) = (SyncIoBridge::new(reader), reference.clone());
        self.blocking(move |inner| import::import(inner, reader, &reference, &changes, &progress))
            .await
    }

    /// Pulls an image from its registry; what is here already is not fetched again, and concurrent pulls share the work.
    pub async fn pull(
        &self,
        reference: &Reference,
        config: &RegistryConfig,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        registry::pull(self, reference, config, &progress).await
    }

    /// Fetches an image from another node. `NotFound` if that node does not have it.
    pub async fn fetch(
        &self,
        reference: &Reference,
        source: &dyn BlobSource,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        peer::fetch(self, reference, source, &progress).await
    }

    /// Gives an image one more name.
    pub async fn tag(&self, from: &Reference, to: &Reference) -> Result<Arc<Image>> {
        let (from, to) = (from.clone(), to.clone());
        self.blocking(move |inner| {
            let mut names = inner.names();
            let found = names.get(&from).ok_or(ImageError::NotFound(from))?;
            let image = Arc::new(Image { reference: to, ..(*found).clone() });
            names.insert(&inner.files, image.clone())?;
            Ok(image)
        })
        .await
    }

    /// Removes a name, and then what no name needs any more, except layers that `in_use` says are mounted.
    pub async fn remove<F>(&self, reference: &Reference, in_use: F) -> Result<Removed>
    where
        F: Fn(&Path) -> bool + Send + 'static,
    {
        let reference = reference.clone();
        self.blocking(move |inner| {
            inner.names().remove(&inner.files, &reference)?;
            inner.sweep(&in_use)
        })
        .await
    }

    /// Deletes what no name needs, except layers that `in_use` says are mounted. To be called now and then.
    pub async fn collect_garbage<F>(&self, in_use: F) -> Result<Removed>
    where
        F: Fn(&Path) -> bool + Send + 'static,
    {
        self.blocking(move |inner| inner.sweep(&in_use)).await
    }

    /// The manifest of an image, for another node. The built-in image is not given away: every node has its own.
    pub async fn export_manifest(&self, reference: &Reference) -> Result<Bytes> {
        let not_found = || ImageError::NotFound(reference.clone());
        let image = self.get(reference).ok_or_else(not_found)?;
        let manifest = self
            .blocking(move |inner| {
                inner.files.read_blob(&image.digest, "a stored manifest", MAX_MANIFEST)
            })
            .await?;
        // An image whose blobs were never here (the built-in one) cannot be given away.
        let missing = self.missing_blobs(&manifest)?;
        if missing.is_empty() { Ok(manifest.into()) } else { Err(not_found()) }
    }

    /// The blobs a manifest needs that are not here.
    pub fn missing_blobs(&self, manifest: &[u8]) -> Result<Vec<BlobInfo>> {
        let mut blobs = Manifest::parse(manifest)?.blobs();
        blobs.retain(|blob| !self.inner.files.has_blob(&blob.digest));
        Ok(blobs)
    }

    /// A blob's bytes and their number.
    pub async fn open_blob(&self, digest: &Digest) -> Result<(tokio::fs::File, u64)> {
        let path = self.inner.files.blob(digest);
        let file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ImageError::BlobNotFound(*digest));
            }
            Err(error) => return Err(ImageError::io("open", path)(error)),
        };
        let size = file.metadata().await.map_err(ImageError::io("read", path))?.len();
        Ok((file, size))
    }

    /// Adds a blob; refused unless it has exactly this digest and size. It is kept until `finish`, or the next start.
    pub async fn add_blob<R>(&self, blob: &BlobInfo, reader: R) -> Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let mut session = self.inner.pins.session();
        session.pin(blob.digest);
        self.receive(blob, reader, &Progress::none()).await?;
        let mut loose = self.inner.loose.lock().unwrap_or_else(PoisonError::into_inner);
        if loose.len() >= MAX_LOOSE {
            loose.remove(0);
        }
        loose.push((blob.digest, session));
        Ok(())
    }

    /// Makes an image of a manifest whose blobs are all here: unpacks the layers and gives it the name.
    pub async fn finish(&self, reference: &Reference, manifest: &[u8]) -> Result<Arc<Image>> {
        let blobs = Manifest::parse(manifest)?.blobs();
        let (reference, manifest) = (reference.clone(), manifest.to_vec());
        let image = self
            .blocking(move |inner| {
                let mut session = inner.pins.session();
                inner.finish(&reference, &manifest, &mut session, &Progress::none())
            })
            .await?;
        let mut loose = self.inner.loose.lock().unwrap_or_else(PoisonError::into_inner);
        loose.retain(|(digest, _)| !blobs.iter().any(|blob| blob.digest == *digest));
        Ok(image)
    }

    /// Stores a verified blob from a stream, once however many ask for it at the same time.
    pub(crate) async fn receive<R>(
        &self,
        blob: &BlobInfo,
        reader: R,
        progress: &Progress,
    ) -> Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let (blob, progress) = (*blob, progress.clone());
        let reader = SyncIoBridge::new(reader);
        self.blocking(move |inner| inner.receive(&blob, reader, &progress)).await
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Runs work on files away from the threads that serve connections.
    pub(crate) async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T> + Send + 'static,
    {
        let inner = self.inner.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(ImageError::Interrupted),
        }
    }
}

impl Inner {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self, in_use: &dyn Fn(&Path) -> bool) -> Result<Removed> {
        let names = self.names();
        let (removed, trash) = garbage::sweep(&self.files, &self.pins, &names, in_use)?;
        drop(names);
        drop(trash);
        Ok(removed)
    }

    fn receive(&self, blob: &BlobInfo, reader: impl Read, progress: &Progress) -> Result<()> {
        if blob.size > self.limits.bytes {
            return Err(ImageError::TooLarge { what: "a blob", limit: self.limits.bytes });
        }
        let item = blob.digest.short();
        let step = (blob.size / 100).max(1);
        let mut session = self.pins.session();
        let reported = std::cell::Cell::new(0);
        self.files.add_blob(reader, Expect::Exactly(*blob), &mut session, |read| {
            if read / step != reported.get() / step {
                reported.set(read);
                progress.step(&item, crate::Phase::Downloading, read, Some(blob.size));
            }
        })?;
        Ok(())
    }

    /// Stores the manifest, unpacks the layers lowest first, and gives the image its name.
    pub(crate) fn finish(
        &self,
        reference: &Reference,
        manifest_bytes: &[u8],
        session: &mut Session,
        progress: &Progress,
    ) -> Result<Arc<Image>> {
        let manifest = Manifest::parse(manifest_bytes)?;
        for blob in manifest.blobs() {
            session.pin(blob.digest);
        }
        let config =
            self.files.read_blob(&manifest.config.digest, "a configuration", MAX_CONFIG)?;
        let (_, chain) = parse_config(&config, &manifest)?;
        let unpacking =
            Unpacking { files: &self.files, pins: &self.pins, limits: self.limits, progress };
        let mut lower = Vec::with_capacity(chain.len());
        for layer in &chain {
            session.pin(layer.chain);
            unpacking.layer(layer, &lower)?;
            lower.push(self.files.layer_fs(&layer.chain));
        }
        self.name(reference, manifest_bytes, session)
    }

    /// Stores a manifest whose configuration is stored and whose layers are unpacked, and gives the image its name.
    pub(crate) fn name(
        &self,
        reference: &Reference,
        manifest: &[u8],
        session: &mut Session,
    ) -> Result<Arc<Image>> {
        let stored =
            self.files.add_blob(manifest, Expect::AtMost(MAX_MANIFEST), session, |_| {})?;
        let image = Arc::new(assemble(&self.files, reference, &stored.digest)?);
        self.names().insert(&self.files, image.clone())?;
        Ok(image)
    }
}

fn summary(image: &Image) -> ImageSummary {
    ImageSummary {
        reference: image.reference.clone(),
        digest: image.digest,
        id: image.id,
        size: image.size,
        created: image.config.created().clone(),
        platform: platform(),
    }
}

#[cfg(test)]
mod tests;
