//! Making an image of one layer from a root filesystem.

use std::io::{self, Read};
use std::sync::Arc;

use serde::Serialize;

use crate::archive::compression;
use crate::compression::decompress;
use crate::digest::{Digest, Hashing};
use crate::error::{ImageError, Result};
use crate::image::{BlobInfo, Image, ImportChanges};
use crate::manifest::{MAX_CONFIG, Manifest, architecture};
use crate::progress::{Phase, Progress};
use crate::reference::Reference;
use crate::store::{Expect, Inner};
use crate::tar_reader::TarReader;

/// Stores the tar as it comes, checks that it is whole, and names the image. Blocking.
pub(crate) fn import(
    inner: &Inner,
    reader: impl Read,
    reference: &Reference,
    changes: &ImportChanges,
    progress: &Progress,
) -> Result<Arc<Image>> {
    check(changes)?;
    let mut session = inner.pins.session();
    let limit = Expect::AtMost(inner.limits.bytes);
    let layer = inner.files.add_blob(reader, limit, &mut session, |read| {
        progress.step("archive", Phase::Reading, read, None);
    })?;
    let diff = whole_tar(inner, &layer)?;
    let config = config(changes, &diff)?;
    let config =
        inner.files.add_blob(&config[..], Expect::AtMost(MAX_CONFIG), &mut session, |_| {})?;
    let kind = compression(inner, &layer.digest)?.layer_media_type();
    inner.finish(reference, &Manifest::build(&config, &[(layer, kind)]), &mut session, progress)
}

/// Nothing vouches for this tar, so it must have its end mark. Gives the digest of the plain tar.
fn whole_tar(inner: &Inner, layer: &BlobInfo) -> Result<Digest> {
    let path = inner.files.blob(&layer.digest);
    let file = std::fs::File::open(&path).map_err(ImageError::io("open", path))?;
    let scan = || -> io::Result<Digest> {
        let plain = decompress(file, inner.limits.bytes)?;
        let mut tar = TarReader::new(Hashing::new(plain), inner.limits.entries);
        let mut packed = Packed::default();
        while let Some(entry) = tar.next_entry()? {
            packed.see(&entry.path);
        }
        packed.check()?;
        if !tar.ended() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive is cut off: its end mark is missing",
            ));
        }
        let (_, digest, _) = tar.drain()?.finish();
        Ok(digest)
    };
    scan().map_err(ImageError::Archive)
}

/// What tells an archive of images from a root filesystem.
#[derive(Default)]
struct Packed {
    docker: bool,
    oci: bool,
    layers: bool,
    /// It has a directory that root filesystems have and archives of images do not.
    root: bool,
}

impl Packed {
    fn see(&mut self, path: &[u8]) {
        let path = path.strip_prefix(b"./").unwrap_or(path);
        self.docker |= path == b"manifest.json";
        self.oci |= path == b"oci-layout";
        self.layers |= path.starts_with(b"blobs/sha256/") || is_layer(path);
        let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
        self.root |= matches!(first, b"bin" | b"etc" | b"lib" | b"usr" | b"sbin" | b"var");
    }

    fn check(&self) -> io::Result<()> {
        let kind = match (self.layers && !self.root, self.oci, self.docker) {
            (true, true, _) => "an oci-archive",
            (true, false, true) => "a docker-archive",
            _ => return Ok(()),
        };
        let words = format!("this is {kind}, no root filesystem: use `pontoon image load`");
        Err(io::Error::new(io::ErrorKind::InvalidData, words))
    }
}

/// Whether a docker-archive has a layer under such a name: `NAME.tar`, or `NAME/layer.tar` as older ones do.
fn is_layer(path: &[u8]) -> bool {
    match path.iter().position(|&byte| byte == b'/') {
        None => path.ends_with(b".tar"),
        Some(at) => &path[at..] == b"/layer.tar",
    }
}

fn check(changes: &ImportChanges) -> Result<()> {
    let wrong = |reason: String| Err(ImageError::malformed("image configuration", reason));
    if let Some(bad) = changes.env.iter().find(|env| env.find('=').is_none_or(|at| at == 0)) {
        return wrong(format!("environment `{bad}` is not NAME=VALUE"));
    }
    if let Some(dir) = changes.working_dir.as_ref().filter(|dir| !dir.starts_with('/')) {
        return wrong(format!("working directory `{dir}` is not absolute"));
    }
    let port = |text: &&String| {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        !number.parse::<u16>().is_ok_and(|n| n > 0) || !matches!(protocol, "tcp" | "udp" | "sctp")
    };
    match changes.exposed_ports.iter().find(port) {
        Some(bad) => wrong(format!("exposed port `{bad}` is not PORT or PORT/PROTOCOL")),
        None => Ok(()),
    }
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'a str>,
    architecture: &'static str,
    os: &'static str,
    config: WrittenConfig<'a>,
    rootfs: WrittenRoot<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    env: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entrypoint: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cmd: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'a str>,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    exposed_ports: std::collections::BTreeMap<&'a str, Empty>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct WrittenRoot<'a> {
    r#type: &'static str,
    diff_ids: [&'a Digest; 1],
}

/// The configuration's text; the same changes and layer give the same text.
pub(crate) fn config(changes: &ImportChanges, diff: &Digest) -> Result<Vec<u8>> {
    let document = Written {
        created: changes.created.as_deref(),
        architecture: architecture(),
        os: "linux",
        config: WrittenConfig {
            user: changes.user.as_deref(),
            env: &changes.env,
            entrypoint: &changes.entrypoint,
            cmd: &changes.cmd,
            working_dir: changes.working_dir.as_deref(),
            exposed_ports: changes
                .exposed_ports
                .iter()
                .map(|port| (port.as_str(), Empty {}))
                .collect(),
        },
        rootfs: WrittenRoot { r#type: "layers", diff_ids: [diff] },
    };
    serde_json::to_vec(&document).map_err(|e| ImageError::malformed("image configuration", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_of_images_are_told_from_root_filesystems() {
        let told = |paths: &[&str]| {
            let mut packed = Packed::default();
            paths.iter().for_each(|path| packed.see(path.as_bytes()));
            packed.check().err().map(|error| error.to_string())
        };
        for paths in [
            &["manifest.json", "0123.tar"][..],
            &["./0123/", "./0123/layer.tar", "./manifest.json"],
            &["blobs/sha256/0123", "manifest.json"],
        ] {
            assert!(told(paths).unwrap().contains("a docker-archive"), "{paths:?}");
        }
        let oci = told(&["oci-layout", "index.json", "blobs/sha256/0123"]).unwrap();
        assert!(oci.contains("an oci-archive"), "{oci}");
        for paths in [
            &["etc/passwd", "manifest.json", "backup.tar"][..],
            &["./bin/sh", "./manifest.json", "./blobs/sha256/0123"],
            &["app", "manifest.json", "data/files.tar"],
            &["oci-layout", "app"],
        ] {
            assert_eq!(told(paths), None, "{paths:?}");
        }
    }
}
