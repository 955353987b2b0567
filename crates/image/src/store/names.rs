//! The names of images, kept in `images.json`, and the images they stand for.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::Files;
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::image::Image;
use crate::manifest::{MAX_CONFIG, MAX_MANIFEST, Manifest, parse_config};
use crate::reference::Reference;

const FILE: &str = "images.json";

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    images: BTreeMap<Reference, Digest>,
}

/// Complete images by name; every change is on disk before it is seen.
#[derive(Default)]
pub(crate) struct Names {
    images: BTreeMap<Reference, Arc<Image>>,
}

impl Names {
    /// Reads the names; one whose image is no longer complete here is dropped with a warning.
    pub(crate) fn open(files: &Files) -> Result<Self> {
        let path = files.file(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(ImageError::io("read", path)(error)),
        };
        let document = parse(&bytes, &path)?;
        let mut images = BTreeMap::new();
        for (reference, digest) in document.images {
            match assemble(files, &reference, &digest) {
                Ok(image) => drop(images.insert(reference, Arc::new(image))),
                Err(error) => {
                    tracing::warn!(image = %reference, %error, "an image is no longer complete and is forgotten");
                }
            }
        }
        Ok(Self { images })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.images.values()
    }

    /// By the exact name, or for `name@digest` by any tag of that name.
    pub(crate) fn get(&self, reference: &Reference) -> Option<Arc<Image>> {
        if let Some(found) = self.images.get(reference) {
            return Some(found.clone());
        }
        let digest = reference.digest()?;
        let same = |image: &&Arc<Image>| {
            image.digest == *digest && image.reference.name() == reference.name()
        };
        self.images.values().find(same).cloned()
    }

    pub(crate) fn insert(&mut self, files: &Files, image: Arc<Image>) -> Result<()> {
        let previous = self.images.insert(image.reference.clone(), image.clone());
        if previous.as_ref().is_some_and(|previous| previous.digest == image.digest) {
            return Ok(());
        }
        self.write(files).inspect_err(|_| {
            match previous {
                Some(previous) => self.images.insert(image.reference.clone(), previous),
                None => self.images.remove(&image.reference),
            };
        })
    }

    pub(crate) fn remove(&mut self, files: &Files, reference: &Reference) -> Result<()> {
        let not_found = || ImageError::NotFound(reference.clone());
        let removed = self.images.remove(reference).ok_or_else(not_found)?;
        self.write(files).inspect_err(|_| {
            self.images.insert(reference.clone(), removed);
        })
    }

    fn write(&self, files: &Files) -> Result<()> {
        let images = self.images.iter().map(|(name, image)| (name.clone(), image.digest)).collect();
        let document = Document { version: 1, images };
        let bytes = serde_json::to_vec_pretty(&document)
            .map_err(|e| ImageError::malformed("image index", e))?;
        files.write_file(FILE, &bytes)
    }
}

fn parse(bytes: &[u8], path: &Path) -> Result<Document> {
    let damaged = |reason: String| ImageError::DamagedIndex { path: path.to_owned(), reason };
    let document: Document = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    match document.version {
        1 => Ok(document),
        other => Err(damaged(format!("it has version {other}, this program knows version 1"))),
    }
}

/// Puts an image together from its blobs and unpacked layers.
pub(crate) fn assemble(files: &Files, reference: &Reference, digest: &Digest) -> Result<Image> {
    let manifest = Manifest::parse(&files.read_blob(digest, "a stored manifest", MAX_MANIFEST)?)?;
    let config_digest = manifest.config.digest;
    let config = files.read_blob(&config_digest, "a stored configuration", MAX_CONFIG)?;
    let (config, chain) = parse_config(&config, &manifest)?;
    let mut size = 0;
    for layer in &chain {
        let info = files.layer_info(&layer.chain).ok_or(ImageError::BlobNotFound(layer.chain))?;
        size += info.size;
    }
    Ok(Image {
        reference: reference.clone(),
        digest: *digest,
        id: config_digest,
        config,
        layers: chain.iter().map(|layer| files.layer_fs(&layer.chain)).collect(),
        size,
    })
}
