//! Unpacked layers: directories named by chain id, complete from the moment they have that name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{Files, Temporary};
use super::pins::Pins;
use crate::compression::decompress;
use crate::digest::{Digest, Hashing};
use crate::error::{ImageError, Result};
use crate::manifest::ChainLayer;
use crate::progress::{Phase, Progress};
use crate::tar_reader::TarReader;
use crate::unpack;

/// Bounds on what comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of one blob, and of one layer or archive when decompressed.
    pub(crate) bytes: u64,
    /// Entries of one tar.
    pub(crate) entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 4_000_000 }
    }
}

/// What is remembered of an unpacked layer, in `layer.json` beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerInfo {
    pub(crate) diff: Digest,
    /// Bytes of all regular files.
    pub(crate) size: u64,
}

impl Files {
    /// `None` if the layer is not unpacked here.
    pub(crate) fn layer_info(&self, chain: &Digest) -> Option<LayerInfo> {
        let bytes = fs::read(self.layer(chain).join("layer.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Gives a directory made under `tmp` (`fs` filled) the layer's name.
    pub(crate) fn persist_layer(
        &self,
        made: Temporary,
        chain: &Digest,
        info: LayerInfo,
    ) -> Result<()> {
        let path = made.path.join("layer.json");
        let bytes = serde_json::to_vec(&info).map_err(|e| ImageError::malformed("layer", e))?;
        fs::write(&path, bytes).map_err(ImageError::io("write", path))?;
        self.sync_all()?;
        let target = self.layer(chain);
        if target.exists() {
            // Without a readable `layer.json`: somebody meddled with it.
            fs::remove_dir_all(&target).map_err(ImageError::io("remove", &target))?;
        }
        made.persist(&target)
    }
}

/// What unpacking a layer needs.
pub(crate) struct Unpacking<'a> {
    pub(crate) files: &'a Files,
    pub(crate) pins: &'a Pins,
    pub(crate) limits: Limits,
    pub(crate) progress: &'a Progress,
}

impl Unpacking<'_> {
    /// Unpacks a layer whose blob is here, unless it is unpacked already. Blocking.
    pub(crate) fn layer(&self, layer: &ChainLayer, lower: &[PathBuf]) -> Result<LayerInfo> {
        let lock = self.pins.lock_of(&layer.chain);
        let _making = lock.blocking_lock();
        if let Some(info) = self.files.layer_info(&layer.chain) {
            return Ok(info);
        }
        let made = self.files.temporary();
        let root = made.path.join("fs");
        fs::create_dir_all(&root).map_err(ImageError::io("create directory", &root))?;
        let size = self.fill(layer, &root, lower).map_err(|error| self.blame(layer, error))?;
        let info = LayerInfo { diff: layer.diff, size };
        self.files.persist_layer(made, &layer.chain, info)?;
        Ok(info)
    }

    fn fill(&self, layer: &ChainLayer, root: &std::path::Path, lower: &[PathBuf]) -> Result<u64> {
        let digest = &layer.blob.digest;
        let path = self.files.blob(digest);
        let blob = match File::open(&path) {
            Ok(blob) => blob,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::BlobNotFound(*digest));
            }
            Err(error) => return Err(ImageError::io("open", path)(error)),
        };
        let unpack_error = |error: unpack::UnpackError| ImageError::Unpack {
            layer: *digest,
            entry: error.entry,
            reason: error.source.to_string(),
        };
        let broken = |source| unpack_error(unpack::UnpackError { entry: String::new(), source });
        let watched = Watched { inner: blob, layer, read: 0, progress: self.progress };
        let plain = decompress(watched, self.limits.bytes).map_err(broken)?;
        let mut reader = TarReader::new(Hashing::new(plain), self.limits.entries);
        let size = unpack::unpack(&mut reader, root, lower).map_err(unpack_error)?;
        let (_, actual, _) = reader.drain().map_err(broken)?.finish();
        if actual != layer.diff {
            let what = "a layer's content";
            return Err(ImageError::DigestMismatch { what, expected: layer.diff, actual });
        }
        self.progress.step(&digest.short(), Phase::Done, layer.blob.size, Some(layer.blob.size));
        Ok(size)
    }

    /// A layer that does not unpack may be a blob that rotted on this disk: then it is thrown away, to be fetched again.
    fn blame(&self, layer: &ChainLayer, error: ImageError) -> ImageError {
        if !matches!(error, ImageError::Unpack { .. } | ImageError::DigestMismatch { .. }) {
            return error;
        }
        let Ok(blob) = File::open(self.files.blob(&layer.blob.digest)) else { return error };
        let mut hashing = Hashing::new(blob);
        if io::copy(&mut hashing, &mut io::sink()).is_err() {
            return error;
        }
        let (_, actual, _) = hashing.finish();
        if actual == layer.blob.digest {
            return error;
        }
        self.files.discard_blob(&layer.blob.digest);
        ImageError::DigestMismatch { what: "a stored layer", expected: layer.blob.digest, actual }
    }
}

/// Reports how far into its blob a layer's unpacking is, about a hundred times in all.
struct Watched<'a, R> {
    inner: R,
    layer: &'a ChainLayer,
    read: u64,
    progress: &'a Progress,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        let total = self.layer.blob.size;
        let step = (total / 100).max(1);
        let before = self.read;
        self.read += read as u64;
        if before / step != self.read / step {
            let item = self.layer.blob.digest.short();
            self.progress.step(&item, Phase::Unpacking, self.read, Some(total));
        }
        Ok(read)
    }
}
