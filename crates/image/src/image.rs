//! What the store tells about an image.

use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::reference::Reference;

/// An image that is complete on this node: every layer is unpacked.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name it is known by here.
    pub reference: Reference,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The digest of its configuration, which Docker calls the image's id.
    pub id: Digest,
    /// Entrypoint, command, environment, user, working directory, ports.
    pub config: ImageConfiguration,
    /// Unpacked layers in overlayfs form, lowest first; never empty directories of another image's making: read only.
    pub layers: Vec<PathBuf>,
    /// Bytes of all regular files in the layers.
    pub size: u64,
}

/// A line of `image ls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// The name.
    pub reference: Reference,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The digest of the configuration.
    pub id: Digest,
    /// Bytes of all regular files.
    pub size: u64,
    /// When it was built (RFC 3339), if it says so.
    pub created: Option<String>,
    /// `os/architecture`.
    pub platform: String,
}

/// What `import` writes into the configuration of the image it makes; what is empty is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImportChanges {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// `NAME=VALUE` each.
    pub env: Vec<String>,
    /// Absolute path.
    pub working_dir: Option<String>,
    /// `user[:group]`, by name or number.
    pub user: Option<String>,
    /// `PORT/tcp` or `PORT/udp` each.
    pub exposed_ports: Vec<String>,
    /// When the image was made (RFC 3339).
    pub created: Option<String>,
}

/// What `remove` and `collect_garbage` deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Blobs deleted.
    pub blobs: usize,
    /// Unpacked layers deleted.
    pub layers: usize,
    /// Bytes of blobs deleted.
    pub bytes: u64,
}

/// A blob that a manifest needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as the manifest says; what is added must have it exactly.
    pub size: u64,
}
