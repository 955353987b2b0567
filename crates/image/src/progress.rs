//! How long work tells its caller how far it is.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What is being done to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Reading an archive that the caller streams in.
    Reading,
    /// Fetching a blob from a registry or another node.
    Downloading,
    /// Unpacking a layer.
    Unpacking,
    /// The item is complete.
    Done,
}

/// One step: the item (a short digest or a name), and bytes so far of a total where it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressEvent {
    /// A short digest, or the name of what is read.
    pub item: String,
    /// What is being done to it.
    pub phase: Phase,
    /// Bytes done.
    pub current: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
}

/// A callback for steps; it is called from several threads and must not block.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn(ProgressEvent) + Send + Sync>>);

impl Progress {
    /// Calls `report` with every step.
    pub fn new(report: impl Fn(ProgressEvent) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    /// Nobody listens.
    pub fn none() -> Self {
        Self(None)
    }

    pub(crate) fn step(&self, item: &str, phase: Phase, current: u64, total: Option<u64>) {
        if let Some(report) = &self.0 {
            report(ProgressEvent { item: item.to_owned(), phase, current, total });
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Progress").field(&self.0.is_some()).finish()
    }
}
