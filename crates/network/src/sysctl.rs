//! Kernel settings by /proc/sys/net, which shows the namespace of the thread that opens it.

use crate::{NetworkError, Result};
use std::fs;
use std::io;

/// A setting under `/proc/sys/net/`: where, and its value.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    path: String,
    value: &'static str,
}

impl Setting {
    pub(crate) fn new(path: impl Into<String>, value: &'static str) -> Self {
        Self { path: format!("/proc/sys/net/{}", path.into()), value }
    }

    /// Sets what must hold. A file that cannot be written will do if it says the right thing already.
    pub(crate) fn require(&self) -> Result<()> {
        self.write().map_err(|source| NetworkError::Setting {
            path: self.path.clone(),
            value: self.value.to_owned(),
            source,
        })
    }

    /// Sets what is only better; where /proc/sys is read-only or the kernel lacks it, it says so in the log.
    pub(crate) fn prefer(&self) {
        if let Err(error) = self.write() {
            tracing::debug!(path = self.path, value = self.value, %error, "a kernel setting stays as it is");
        }
    }

    fn write(&self) -> io::Result<()> {
        if fs::read_to_string(&self.path).is_ok_and(|now| now.trim() == self.value) {
            return Ok(());
        }
        fs::write(&self.path, self.value)
    }
}
