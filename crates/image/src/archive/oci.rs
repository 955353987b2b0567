//! `index.json` of an oci-archive: manifests by digest, named by annotations.

use super::{Archive, Found, nameless};
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::image::BlobInfo;
use crate::manifest::{DOCKER_INDEX_TYPE, INDEX_TYPE, Index, IndexEntry, MAX_MANIFEST, Manifest};
use crate::reference::Reference;
use crate::store::Inner;

const FULL_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const MAX_NESTING: usize = 4;

pub(super) fn images(inner: &Inner, archive: &Archive) -> Result<Vec<Found>> {
    let what = "index.json";
    let bytes = inner.files.read_blob(&archive.need(what)?.digest, what, MAX_MANIFEST)?;
    let index =
        Index::parse(&bytes)?.ok_or_else(|| ImageError::malformed(what, "no `manifests` in it"))?;
    // Images with names are each loaded; without any, the index is one image for several platforms.
    let named: Vec<&IndexEntry> =
        index.manifests.iter().filter(|entry| name(entry).is_some()).collect();
    let wanted = if named.is_empty() { index.select().into_iter().collect() } else { named };
    let found = wanted.into_iter().filter_map(|entry| image(inner, archive, entry).transpose());
    found.collect()
}

/// `None` if it is for other platforms only.
fn image(inner: &Inner, archive: &Archive, entry: &IndexEntry) -> Result<Option<Found>> {
    let Some(manifest) = resolve(inner, archive, entry, MAX_NESTING)? else { return Ok(None) };
    for blob in Manifest::parse(&manifest)?.blobs() {
        check(archive, &blob)?;
    }
    let reference = match name(entry) {
        Some(text) => text.parse::<Reference>()?,
        None => nameless(&Digest::of(&manifest))?,
    };
    Ok(Some(Found { references: vec![reference], manifest }))
}

fn resolve(
    inner: &Inner,
    archive: &Archive,
    entry: &IndexEntry,
    nesting: usize,
) -> Result<Option<Vec<u8>>> {
    check(archive, &BlobInfo { digest: entry.digest, size: entry.size })?;
    let bytes = inner.files.read_blob(&entry.digest, "a manifest", MAX_MANIFEST)?;
    if ![INDEX_TYPE, DOCKER_INDEX_TYPE].contains(&entry.media_type.as_str()) {
        return Ok(Some(bytes));
    }
    let index = Index::parse(&bytes)?
        .ok_or_else(|| ImageError::malformed("index", "no `manifests` in it"))?;
    if nesting == 0 {
        return Err(ImageError::malformed("index", "indexes are nested too deeply"));
    }
    match index.select() {
        Some(chosen) => resolve(inner, archive, chosen, nesting - 1),
        None => Ok(None),
    }
}

/// The file named by a digest must have that digest.
fn check(archive: &Archive, wanted: &BlobInfo) -> Result<()> {
    let got = archive.need(&format!("blobs/sha256/{}", wanted.digest.hex()))?;
    if got.digest != wanted.digest {
        return Err(ImageError::DigestMismatch {
            what: "a blob of the archive",
            expected: wanted.digest,
            actual: got.digest,
        });
    }
    Ok(())
}

fn name(entry: &IndexEntry) -> Option<&str> {
    entry.annotations.get(FULL_NAME).or_else(|| entry.annotations.get(REF_NAME)).map(String::as_str)
}
