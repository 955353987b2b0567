//! The services' table in the kernel.

use crate::{NetworkError, Result, ServiceTable, Synced};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The services' table of the namespace in which it was made, whatever thread calls it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tables(Arc<String>);

impl Tables {
    /// Opens the calling thread's namespace; the kernel's table gets this name (1 to 60 letters, digits, `-`).
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self(Arc::new(name.to_owned())))
    }
    /// Makes the kernel do what `wanted` says in one transaction that touches only what changed since the last call; the
    /// first call replaces whatever a predecessor left. Connections in being stay with their backends, but for UDP
    /// and half-open or closed TCP ones of backends that are gone: those are forgotten.
    pub async fn sync(&self, _wanted: Arc<ServiceTable>) -> Result<Synced> {
        Err(NetworkError::Stopped("interim"))
    }
    /// Forgets every tracked connection that services or host ports led to this pod (once it is dead), so that its clients'
    /// next packets find another backend or are refused. Answers how many.
    pub async fn forget(&self, _pod: Ipv4Addr) -> Result<usize> {
        Err(NetworkError::Stopped("interim"))
    }
    /// Removes the table; false: there was none.
    pub async fn remove(&self) -> Result<bool> {
        Err(NetworkError::Stopped("interim"))
    }
}
