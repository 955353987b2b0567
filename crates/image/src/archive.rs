//! Loading image archives: what `docker save` writes, and OCI layouts in a tar. Every file of the archive becomes a blob
//! first, in one pass; then its index says which blobs are images.

mod docker;
mod oci;

use std::collections::HashMap;
use std::io::Read;

use serde::de::DeserializeOwned;

use crate::compression::{Compression, decompress};
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::image::BlobInfo;
use crate::manifest::{MAX_MANIFEST, Manifest};
use crate::progress::{Phase, Progress};
use crate::reference::Reference;
use crate::store::{Expect, Inner, Session};
use crate::tar_reader::{Kind, TarReader};

/// The most files in an archive.
const MAX_FILES: u64 = 100_000;
/// How many links are followed from a name in the archive to its file.
const MAX_LINKS: usize = 8;

/// Reads an archive and makes its images. Blocking.
pub(crate) fn load(
    inner: &Inner,
    reader: impl Read,
    progress: &Progress,
) -> Result<Vec<Reference>> {
    let mut session = inner.pins.session();
    let archive = Archive::read(inner, reader, &mut session, progress)?;
    let images = if archive.find("manifest.json").is_some() {
        docker::images(inner, &archive)?
    } else if archive.find("index.json").is_some() {
        oci::images(inner, &archive)?
    } else {
        return Err(ImageError::malformed(
            "archive",
            "it holds neither manifest.json (docker-archive) nor index.json (oci-archive); for a root filesystem use import",
        ));
    };
    if images.is_empty() {
        return Err(ImageError::malformed("archive", "it holds no image for this machine"));
    }
    let mut loaded = Vec::new();
    for image in images {
        for reference in &image.references {
            inner.finish(reference, &image.manifest, &mut session, progress)?;
            loaded.push(reference.clone());
        }
    }
    Ok(loaded)
}

/// An image found in an archive.
struct Found {
    references: Vec<Reference>,
    manifest: Vec<u8>,
}

/// The files of an archive, as blobs by name.
struct Archive {
    files: HashMap<String, Stored>,
}

enum Stored {
    Blob(BlobInfo),
    Link(String),
}

impl Archive {
    fn read(
        inner: &Inner,
        reader: impl Read,
        session: &mut Session,
        progress: &Progress,
    ) -> Result<Self> {
        let plain = decompress(reader, inner.limits.bytes).map_err(ImageError::Archive)?;
        let mut tar = TarReader::new(plain, MAX_FILES);
        let mut files = HashMap::new();
        let mut total = 0;
        while let Some(entry) = tar.next_entry().map_err(ImageError::Archive)? {
            let name = clean(&String::from_utf8_lossy(&entry.path));
            let link = || String::from_utf8_lossy(&entry.link).into_owned();
            let stored = match entry.kind {
                Kind::File => {
                    let blob = inner.files.add_blob(
                        &mut tar,
                        Expect::AtMost(inner.limits.bytes),
                        session,
                        |_| {},
                    )?;
                    total += blob.size;
                    progress.step("archive", Phase::Reading, total, None);
                    Stored::Blob(blob)
                }
                Kind::Hardlink => Stored::Link(clean(&link())),
                Kind::Symlink => Stored::Link(beside(&name, &link())),
                _ => continue,
            };
            files.insert(name, stored);
        }
        Ok(Self { files })
    }

    fn find(&self, name: &str) -> Option<BlobInfo> {
        let mut name = clean(name);
        for _ in 0..MAX_LINKS {
            match self.files.get(&name)? {
                Stored::Blob(blob) => return Some(*blob),
                Stored::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    fn need(&self, name: &str) -> Result<BlobInfo> {
        let missing = || {
            ImageError::malformed(
                "archive",
                format!("`{name}` is missing in it: it is cut off or incomplete"),
            )
        };
        self.find(name).ok_or_else(missing)
    }

    fn json<T: DeserializeOwned>(&self, inner: &Inner, name: &'static str) -> Result<T> {
        let bytes = inner.files.read_blob(&self.need(name)?.digest, name, MAX_MANIFEST)?;
        serde_json::from_slice(&bytes).map_err(|e| ImageError::malformed(name, e))
    }
}

/// A name within the archive, without `./`; `..` is resolved, for links only ever lead to other files of the archive.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn beside(name: &str, target: &str) -> String {
    let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
    clean(&format!("{parent}/{target}"))
}

/// A manifest for blobs that have none, each layer's type told by its first bytes.
fn manifest_of(inner: &Inner, config: &BlobInfo, layers: &[BlobInfo]) -> Result<Vec<u8>> {
    let typed = layers
        .iter()
        .map(|layer| Ok((*layer, compression(inner, &layer.digest)?.layer_media_type())));
    Ok(Manifest::build(config, &typed.collect::<Result<Vec<_>>>()?))
}

pub(crate) fn compression(inner: &Inner, digest: &Digest) -> Result<Compression> {
    let path = inner.files.blob(digest);
    let mut head = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(4).read_to_end(&mut head))
        .map_err(ImageError::io("read", path))?;
    Ok(Compression::detect(&head))
}

/// The name of an image that an archive gives no name.
fn nameless(digest: &Digest) -> Result<Reference> {
    Ok(format!("loaded:{}", digest.short()).parse()?)
}
