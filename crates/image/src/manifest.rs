//! Manifests, indexes and configurations: parsed within bounds, and the manifest for this machine's platform chosen.

use oci_spec::image::{ImageConfiguration, ImageManifest};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::image::BlobInfo;

/// The largest manifest or index, in bytes.
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// The largest configuration, in bytes.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;
/// The most layers; overlayfs itself takes 500.
const MAX_LAYERS: usize = 256;

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST_TYPE: &str =
    "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX_TYPE: &str =
    "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// The parts of a manifest that the store works with.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) config: BlobInfo,
    pub(crate) layers: Vec<BlobInfo>,
}

impl Manifest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |reason: String| ImageError::malformed("manifest", reason);
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ImageError::TooLarge { what: "a manifest", limit: MAX_MANIFEST });
        }
        let parsed: ImageManifest =
            serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
        let blob = |descriptor: &oci_spec::image::Descriptor| -> Result<BlobInfo> {
            Ok(BlobInfo { digest: descriptor.digest().as_ref().parse()?, size: descriptor.size() })
        };
        let config = blob(parsed.config())?;
        if config.size > MAX_CONFIG {
            return Err(ImageError::TooLarge { what: "a configuration", limit: MAX_CONFIG });
        }
        if parsed.layers().len() > MAX_LAYERS {
            return Err(ImageError::TooLarge {
                what: "the number of layers",
                limit: MAX_LAYERS as u64,
            });
        }
        Ok(Self { config, layers: parsed.layers().iter().map(blob).collect::<Result<_>>()? })
    }

    /// All blobs it needs, each once.
    pub(crate) fn blobs(&self) -> Vec<BlobInfo> {
        let mut out = vec![self.config];
        for layer in &self.layers {
            if !out.iter().any(|known| known.digest == layer.digest) {
                out.push(*layer);
            }
        }
        out
    }

    /// The manifest's text for blobs that came without one. The same blobs give the same text.
    pub(crate) fn build(config: &BlobInfo, layers: &[(BlobInfo, &'static str)]) -> Vec<u8> {
        let document = Written {
            schema_version: 2,
            media_type: MANIFEST_TYPE,
            config: WrittenBlob::new(config, CONFIG_TYPE),
            layers: layers.iter().map(|(blob, kind)| WrittenBlob::new(blob, kind)).collect(),
        };
        serde_json::to_vec(&document).expect("plain strings and numbers always serialise")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: u32,
    media_type: &'static str,
    config: WrittenBlob,
    layers: Vec<WrittenBlob>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenBlob {
    media_type: &'static str,
    digest: Digest,
    size: u64,
}

impl WrittenBlob {
    fn new(blob: &BlobInfo, media_type: &'static str) -> Self {
        Self { media_type, digest: blob.digest, size: blob.size }
    }
}

/// Parses a configuration and checks it against its manifest. Gives the layers' chain ids: the digest of a layer and all
/// below it, lowest first, beside the layers' own digests when not compressed.
pub(crate) fn parse_config(
    bytes: &[u8],
    manifest: &Manifest,
) -> Result<(ImageConfiguration, Vec<ChainLayer>)> {
    let wrong = |reason: String| ImageError::malformed("image configuration", reason);
    let config: ImageConfiguration =
        serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers.len() {
        let (ids, layers) = (diff_ids.len(), manifest.layers.len());
        return Err(wrong(format!("it names {ids} layers, the manifest {layers}")));
    }
    let mut chain: Option<Digest> = None;
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (diff_id, blob) in diff_ids.iter().zip(&manifest.layers) {
        let diff: Digest = diff_id.parse()?;
        let next = chain.map_or(diff, |below| chain_id(&below, &diff));
        layers.push(ChainLayer { blob: *blob, diff, chain: next });
        chain = Some(next);
    }
    Ok((config, layers))
}

/// A layer in its place in an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChainLayer {
    pub(crate) blob: BlobInfo,
    /// The digest of the uncompressed tar.
    pub(crate) diff: Digest,
    /// The digest of this layer and all below.
    pub(crate) chain: Digest,
}

fn chain_id(below: &Digest, diff: &Digest) -> Digest {
    let text = format!("{below} {diff}");
    Digest::of(text.as_bytes())
}

/// An index: manifests by platform.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) manifests: Vec<IndexEntry>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IndexEntry {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Index {
    /// `None` if the document is no index.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Probe {
            manifests: Option<serde::de::IgnoredAny>,
        }
        let wrong = |e: serde_json::Error| ImageError::malformed("index", e);
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ImageError::TooLarge { what: "an index", limit: MAX_MANIFEST });
        }
        let probe: Probe = serde_json::from_slice(bytes).map_err(wrong)?;
        if probe.manifests.is_none() {
            return Ok(None);
        }
        serde_json::from_slice(bytes).map(Some).map_err(wrong)
    }

    /// The manifest for this machine: the plainest variant it can surely run, else one that names no platform.
    pub(crate) fn select(&self) -> Option<&IndexEntry> {
        let fits = |entry: &&IndexEntry| {
            entry.platform.as_ref().is_some_and(|p| {
                p.os == "linux"
                    && p.architecture == architecture()
                    && baseline(p.variant.as_deref())
            })
        };
        let unnamed = || self.manifests.iter().find(|entry| entry.platform.is_none());
        self.manifests.iter().find(fits).or_else(unnamed)
    }

    /// What there is, for an error message.
    pub(crate) fn platforms(&self) -> String {
        let known = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        known.map(|p| format!("{}/{}", p.os, p.architecture)).collect::<Vec<_>>().join(", ")
    }
}

fn baseline(variant: Option<&str>) -> bool {
    matches!(variant, None | Some("" | "v1" | "v8"))
}

/// This machine's architecture by the name images use.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `linux/<architecture>`.
pub(crate) fn platform() -> String {
    format!("linux/{}", architecture())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(os: &str, architecture: &str, variant: &str) -> String {
        let digest = Digest::of(format!("{os}{architecture}{variant}").as_bytes());
        format!(
            r#"{{"digest":"{digest}","size":1,"platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}}}"#
        )
    }

    #[test]
    fn the_manifest_for_this_machine_is_chosen() {
        let mine = entry("linux", architecture(), "");
        let list = [
            entry("unknown", "unknown", ""),
            entry("windows", architecture(), ""),
            entry("linux", "s390x", ""),
            entry("linux", architecture(), "v3"),
            mine,
        ];
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, list.join(","));
        let index = Index::parse(text.as_bytes()).unwrap().unwrap();
        let chosen = index.select().unwrap();
        assert_eq!(chosen.digest, Digest::of(format!("linux{}", architecture()).as_bytes()));

        let foreign = format!(r#"{{"manifests":[{}]}}"#, entry("linux", "s390x", ""));
        let index = Index::parse(foreign.as_bytes()).unwrap().unwrap();
        assert!(index.select().is_none());
        assert_eq!(index.platforms(), "linux/s390x");
    }

    #[test]
    fn documents_are_checked() {
        let blob = BlobInfo { digest: Digest::of(b"c"), size: 1 };
        let bytes = Manifest::build(&blob, &[(blob, "t")]);
        let manifest = Manifest::parse(&bytes).unwrap();
        assert_eq!(manifest.blobs().len(), 1);
        assert!(Index::parse(&bytes).unwrap().is_none());
        assert!(Manifest::parse(b"{}").is_err());
        let huge = BlobInfo { size: MAX_CONFIG + 1, ..blob };
        assert!(Manifest::parse(&Manifest::build(&huge, &[])).is_err());
        assert!(Manifest::parse(&Manifest::build(&blob, &vec![(blob, "t"); 300])).is_err());
        let config =
            br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert!(parse_config(config, &manifest).is_err(), "fewer layers than the manifest");
    }

    #[test]
    fn what_docker_writes_is_understood() {
        let diff = Digest::of(b"x");
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","container":"1","docker_version":"20.10",
            "config":{{"Hostname":"","ExposedPorts":{{"80/tcp":{{}}}},"Volumes":null,"Env":["A=b"],"Cmd":["sh"],"Entrypoint":null,
            "Labels":null,"OnBuild":null,"Healthcheck":{{"Test":["CMD","x"]}}}},"rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
        );
        let blob = BlobInfo { digest: Digest::of(b"c"), size: 1 };
        let manifest = Manifest { config: blob, layers: vec![blob] };
        let (config, layers) = parse_config(config.as_bytes(), &manifest).unwrap();
        let inner = config.config().as_ref().unwrap();
        assert_eq!(inner.exposed_ports().as_ref().unwrap(), &["80/tcp"]);
        assert_eq!(inner.cmd().as_ref().unwrap(), &["sh"]);
        assert_eq!((layers[0].diff, layers[0].chain), (diff, diff));
    }
}
