//! Garbage collection: what no name needs, no work in progress has pinned and no container has mounted is deleted.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::{Files, Temporary};
use super::names::Names;
use super::pins::Pins;
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::image::Removed;
use crate::manifest::{MAX_MANIFEST, Manifest};

/// Moves garbage under `tmp` while `names` are held, which is quick; what is returned deletes it when dropped. New work
/// pins what it needs before it looks, and lets go only when its name is in `names`: so nothing needed is taken.
pub(crate) fn sweep(
    files: &Files,
    pins: &Pins,
    names: &Names,
    in_use: &dyn Fn(&Path) -> bool,
) -> Result<(Removed, Vec<Temporary>)> {
    let live = live(files, names)?;
    let mut removed = Removed::default();
    let mut trash = Vec::new();
    for (digest, path) in listed(&files.blobs())? {
        if live.contains(&digest) || pins.is_pinned(&digest) {
            continue;
        }
        removed.bytes += fs::metadata(&path).map_or(0, |found| found.len());
        removed.blobs += 1;
        trash.push(discard(files, &path)?);
    }
    for (chain, path) in listed(&files.layers())? {
        if live.contains(&chain) || pins.is_pinned(&chain) || in_use(&files.layer_fs(&chain)) {
            continue;
        }
        removed.layers += 1;
        trash.push(discard(files, &path)?);
    }
    Ok((removed, trash))
}

fn live(files: &Files, names: &Names) -> Result<HashSet<Digest>> {
    let mut live = HashSet::new();
    for image in names.all() {
        if !live.insert(image.digest) {
            continue;
        }
        let manifest =
            Manifest::parse(&files.read_blob(&image.digest, "a stored manifest", MAX_MANIFEST)?)?;
        live.extend(manifest.blobs().iter().map(|blob| blob.digest));
        live.extend(image.layers.iter().filter_map(|fs| digest_of(fs.parent()?)));
    }
    Ok(live)
}

/// What is in a directory of things named by digest; other names are left alone.
fn listed(dir: &Path) -> Result<Vec<(Digest, PathBuf)>> {
    let entries = fs::read_dir(dir).map_err(ImageError::io("list", dir))?;
    let paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(ImageError::io("list", dir))?;
    Ok(paths.into_iter().filter_map(|path| Some((digest_of(&path)?, path))).collect())
}

fn digest_of(path: &Path) -> Option<Digest> {
    format!("sha256:{}", path.file_name()?.to_str()?).parse().ok()
}

fn discard(files: &Files, path: &Path) -> Result<Temporary> {
    let trash = files.temporary();
    fs::rename(path, &trash.path).map_err(ImageError::io("remove", path))?;
    Ok(trash)
}
