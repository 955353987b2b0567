//! How registries are reached, as the daemon was told.

use std::path::{Path, PathBuf};

use pontoon_image::{Reference, RegistryConfig};

use crate::config::Config;
use crate::identity::certificate::certificates;

/// A certificate file larger than this is none, in bytes.
const CERTIFICATES_MAX: u64 = 4 << 20;

/// Why what was told of registries cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    #[error(
        "--default-registry {0:?} is no HOST[:PORT][/PATH], such as registry.example.org/library"
    )]
    Default(String),
    #[error("--registry-ca {path}: {reason}; it must be a file of PEM certificates")]
    Certificates { path: String, reason: String },
}

/// The registries' settings.
///
/// # Errors
/// When the default registry cannot be one, or a file has no certificates.
pub(crate) fn read(config: &Config) -> Result<RegistryConfig, RegistriesError> {
    check(config.default_registry.as_deref(), &[])?;
    let default_registry = config.default_registry.clone();
    let ca_pem = config.registry_ca.iter().map(|path| pem(path)).collect::<Result<_, _>>()?;
    let plain_http = config.insecure_registries.clone();
    Ok(RegistryConfig { plain_http, ca_pem, default_registry, ..RegistryConfig::default() })
}

/// Looks at registries' settings before a daemon is started with them.
///
/// # Errors
/// As the daemon's.
pub fn check(default: Option<&str>, ca: &[PathBuf]) -> Result<(), RegistriesError> {
    if let Some(text) = default.filter(|text| !is_registry(text)) {
        return Err(RegistriesError::Default(text.to_owned()));
    }
    ca.iter().try_for_each(|path| pem(path).map(drop))
}

/// Whether an image may have such a name.
///
/// # Errors
/// When it may not, in words.
pub fn check_image(name: &str) -> Result<(), String> {
    name.parse::<Reference>().map(drop).map_err(|error| error.to_string())
}

/// Whether an image's name may follow it.
fn is_registry(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default();
    let name = format!("{text}/image").parse::<Reference>();
    name.is_ok_and(|name| name.registry() == Some(host))
}

fn pem(path: &Path) -> Result<Vec<u8>, RegistriesError> {
    let wrong =
        |reason: String| RegistriesError::Certificates { path: path.display().to_string(), reason };
    let size = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
    if size > CERTIFICATES_MAX {
        return Err(wrong(format!("it has {size} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    let found = certificates(&text).map_err(|e| wrong(e.to_string()))?;
    if found.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::authority::Authority;

    fn config(default: Option<&str>, ca: &[&Path]) -> Config {
        Config {
            data_dir: "/d".into(),
            run_dir: "/r".into(),
            node_name: "n".to_owned(),
            cgroup_parent: "p".to_owned(),
            insecure_registries: vec!["plain.example:5000".to_owned()],
            default_registry: default.map(str::to_owned),
            registry_ca: ca.iter().map(|path| (*path).to_owned()).collect(),
            labels: Vec::new(),
            etcd: None,
            consul: None,
            consul_dns: None,
        }
    }

    #[test]
    fn what_is_told_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, &Authority::create("c").unwrap().certificate_pem).unwrap();
        let read = read(&config(Some("registry.example:5000/library"), &[&ca])).unwrap();
        assert_eq!(read.default_registry.as_deref(), Some("registry.example:5000/library"));
        assert_eq!((read.ca_pem.len(), read.plain_http.len()), (1, 1));
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        for path in [empty.as_path(), &dir.path().join("none"), dir.path()] {
            let error = read(&config(None, &[path])).unwrap_err().to_string();
            assert!(error.contains("--registry-ca"), "{error}");
        }
        for text in ["", "library", "https://registry.example", "registry.example/", "a b.c"] {
            let error = read(&config(Some(text), &[])).unwrap_err().to_string();
            assert!(error.contains("--default-registry"), "{text}: {error}");
        }
    }
}
