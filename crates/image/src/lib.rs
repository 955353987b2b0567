//! Images on one node: a content store like an OCI layout, layers unpacked for overlayfs, and the ways in: archives, root
//! filesystems, registries, other nodes, and the image built into the binary. Knows nothing of containers.

mod archive;
pub mod builtin;
mod compression;
mod digest;
mod error;
mod image;
mod import;
mod keychain;
mod manifest;
mod peer;
mod progress;
mod reference;
mod registry;
#[cfg(test)]
mod samples;
mod store;
mod tar_reader;
mod unpack;

pub use digest::{Digest, DigestError};
pub use error::ImageError;
pub use image::{BlobInfo, Image, ImageSummary, ImportChanges, Removed};
pub use keychain::{Credentials, Keychain, KeychainError};
pub use peer::BlobSource;
pub use progress::{Phase, Progress, ProgressEvent};
pub use reference::{Reference, ReferenceError};
pub use registry::RegistryConfig;
pub use store::ImageStore;
