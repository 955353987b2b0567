//! Images as the agent needs them: the one here, or the one that can be had.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use pontoon_image::{Image, ImageError, ImageStore, Keychain, Reference, builtin};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::container::program::ImageDefaults;

/// Brings images to this node: from another node that has them or from a registry.
#[async_trait]
pub trait ImageSource: Send + Sync + 'static {
    /// Puts the image into the node's store and returns it. `fresh` asks for the newest of that name although one
    /// may be here already, and for the registry's leave to use it. The registry is shown `keychain`.
    async fn fetch(
        &self,
        reference: &Reference,
        fresh: bool,
        keychain: &Keychain,
    ) -> Result<Arc<Image>, ImageError>;
}

/// An image that is complete here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageHere {
    /// Its name and digest, for the status.
    pub id: String,
    /// Lowest first.
    pub layers: Vec<PathBuf>,
    pub defaults: ImageDefaults,
    pub stop_signal: Option<String>,
}

/// Why there is no image to run; `reason` is Kubernetes' word.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{message}")]
pub(crate) struct NoImage {
    pub reason: &'static str,
    pub message: String,
}

/// When an image is asked for although one is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The container's policy; nothing said means `IfNotPresent`, since the API fills it in.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            _ => Self::IfNotPresent,
        }
    }
}

/// An image and how it came to be here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ensured {
    pub image: ImageHere,
    /// It was fetched just now.
    pub fetched: bool,
    /// It is an older one: the newest was asked for and could not be had for this reason.
    pub stale: Option<String>,
}

/// Finds and fetches images.
#[async_trait]
pub(crate) trait Images: Send + Sync + 'static {
    /// Whether the image is here, so that `ensure` will not fetch it.
    fn is_here(&self, name: &str, policy: PullPolicy) -> bool;
    /// The image of this name; a registry is shown `keychain`.
    async fn ensure(
        &self,
        name: &str,
        policy: PullPolicy,
        keychain: &Keychain,
    ) -> Result<Ensured, NoImage>;
}

/// The node's store with a source behind it.
pub(crate) struct NodeImages {
    pub store: ImageStore,
    pub source: Arc<dyn ImageSource>,
}

impl NodeImages {
    /// Whether nobody else has the image, and it is made from this binary when it is not there.
    fn is_built_in(reference: &Reference) -> bool {
        reference.registry() == Some(builtin::REGISTRY)
    }

    /// Whether a newer image of that name could be anywhere.
    fn is_refreshed(reference: &Reference, policy: PullPolicy) -> bool {
        policy == PullPolicy::Always
            && reference.registry().is_some()
            && !Self::is_built_in(reference)
            && reference.digest().is_none()
    }
}

#[async_trait]
impl Images for NodeImages {
    fn is_here(&self, name: &str, policy: PullPolicy) -> bool {
        name.parse::<Reference>().is_ok_and(|reference| {
            !Self::is_refreshed(&reference, policy) && self.store.get(&reference).is_some()
        })
    }

    async fn ensure(
        &self,
        name: &str,
        policy: PullPolicy,
        keychain: &Keychain,
    ) -> Result<Ensured, NoImage> {
        let reference: Reference = name.parse().map_err(|error| NoImage {
            reason: "InvalidImageName",
            message: format!("Failed to apply default image tag \"{name}\": {error}"),
        })?;
        let here = self.store.get(&reference);
        let fresh = Self::is_refreshed(&reference, policy);
        match (here, policy) {
            (Some(image), _) if !fresh => {
                Ok(Ensured { image: read(&image), fetched: false, stale: None })
            }
            (None, PullPolicy::Never) if !Self::is_built_in(&reference) => Err(NoImage {
                reason: "ErrImageNeverPull",
                message: format!(
                    "Container image \"{name}\" is not present with pull policy of Never"
                ),
            }),
            (here, _) => match (self.source.fetch(&reference, fresh, keychain).await, here) {
                (Ok(image), _) => Ok(Ensured { image: read(&image), fetched: true, stale: None }),
                // Rather the one that was loaded by hand than none: many clusters have no way to a registry. But one
                // that a registry keeps from this pod was perhaps fetched with the credentials of another.
                (Err(error), Some(image)) if !error.is_refusal() => Ok(Ensured {
                    image: read(&image),
                    fetched: false,
                    stale: Some(error.to_string()),
                }),
                (Err(error), _) => {
                    Err(NoImage { reason: "ErrImagePull", message: error.to_string() })
                }
            },
        }
    }
}

fn read(image: &Image) -> ImageHere {
    let config = image.config.config().clone().unwrap_or_default();
    ImageHere {
        id: format!("{}@{}", image.reference.name(), image.digest),
        layers: image.layers.clone(),
        defaults: ImageDefaults {
            entrypoint: config.entrypoint().clone().unwrap_or_default(),
            command: config.cmd().clone().unwrap_or_default(),
            environment: config.env().clone().unwrap_or_default(),
            working_dir: config.working_dir().clone().unwrap_or_default(),
            user: config.user().clone().unwrap_or_default(),
        },
        stop_signal: config.stop_signal().clone(),
    }
}

#[cfg(test)]
mod tests;
