//! Pulling from registries over HTTPS, and over plain HTTP from those that are listed.

use std::collections::BTreeMap;
use std::fmt;

/// How registries are reached. A registry is named by `host[:port]`, as in image names.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Registries spoken to over plain HTTP.
    pub plain_http: Vec<String>,
    /// User and password by registry.
    pub auth: BTreeMap<String, Credentials>,
    /// PEM certificates trusted beside the system's.
    pub ca_pem: Vec<Vec<u8>>,
    /// `HOST[:PORT][/PATH]` for names that have no registry; `PATH` is put before names of a single part. Without it such
    /// names are not pulled.
    pub default_registry: Option<String>,
}

/// A registry's user and password; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password or access token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}
