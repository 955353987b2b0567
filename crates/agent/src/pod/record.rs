//! What is kept of a pod on disk, so that a new daemon finds it again: the pod as it was wanted and its state.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::spec::{PodId, is_plain};
use super::state::PodState;

const FILE: &str = "record.json";
/// A record larger than this is none: the API takes no pod of half that size.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// A pod as the last daemon knew it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub pod: Arc<Pod>,
    pub state: PodState,
}

impl Record {
    /// The record in the pod's data directory; `None` if there is none that can be read.
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        let path = directory.join(FILE);
        if std::fs::metadata(&path).ok()?.len() > MOST_BYTES {
            return None;
        }
        let read = std::fs::read(&path).map(|bytes| serde_json::from_slice(&bytes));
        match read {
            Ok(Ok(record)) => Some(record),
            Ok(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "a pod's record cannot be read");
                None
            }
            Err(_) => None,
        }
    }

    /// All records below the data directory, by uid. Directories without one are passed over.
    pub(crate) fn read_all(data_dir: &Path) -> Vec<(PodId, Self)> {
        let entries = std::fs::read_dir(data_dir.join("pods"));
        let entries = entries.into_iter().flatten().flatten();
        let record = |entry: std::fs::DirEntry| {
            let record = Self::read(&entry.path())?;
            let id = PodId::of(&record.pod)?;
            (entry.file_name().to_str() == Some(&id.uid)).then_some((id, record))
        };
        entries.filter_map(record).collect()
    }

    /// The layers that any record below the data directory names; an error if one cannot be read.
    pub(crate) fn layers(data_dir: &Path) -> io::Result<HashSet<PathBuf>> {
        let entries = match std::fs::read_dir(data_dir.join("pods")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
            entries => entries?,
        };
        let mut layers = HashSet::new();
        for entry in entries {
            let path = entry?.path().join(FILE);
            let wrong = |error: &dyn std::fmt::Display| {
                io::Error::other(format!("{}: {error}", path.display()))
            };
            let file = match std::fs::File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(|error| wrong(&error))?,
            };
            let mut bytes = Vec::new();
            file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
            let record: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
            layers.extend(record.state.images.into_values().flat_map(|image| image.layers));
        }
        Ok(layers)
    }

    /// The record's bytes.
    pub(crate) fn encode(pod: &Arc<Pod>, state: &PodState) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Self { pod: pod.clone(), state: state.clone() })
    }

    /// Replaces the record. Not forced to disk: after a power-off nothing of the pod lives, and the record of a moment
    /// before is as good.
    pub(crate) fn write(directory: &Path, bytes: &[u8]) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let new = directory.join("record.json.new");
        std::fs::write(&new, bytes)?;
        std::fs::rename(new, directory.join(FILE))
    }
}

/// Splits a container's id in its sandbox, `name.restarts`.
pub(crate) fn parse_container_id(id: &str) -> Option<(&str, u32)> {
    let (name, restarts) = id.rsplit_once('.')?;
    is_plain(name).then_some(())?;
    Some((name, restarts.parse().ok()?))
}

/// The id in its sandbox of one run of a container.
pub(crate) fn container_id(name: &str, restarts: u32) -> String {
    format!("{name}.{restarts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u-1"}, "spec": {"containers": []}}))
        .unwrap();
        let mut state = PodState::default();
        state.container_mut("a").restarts = 3;
        let pods = dir.path().join("pods");
        Record::write(&pods.join("u-1"), &Record::encode(&Arc::new(pod), &state).unwrap()).unwrap();
        std::fs::create_dir_all(pods.join("u-2")).unwrap();
        std::fs::write(pods.join("u-2").join(FILE), "{").unwrap();
        let error = Record::layers(dir.path()).unwrap_err();
        assert!(error.to_string().contains("u-2/record.json"), "{error}");
        let found = Record::read_all(dir.path());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.uid.as_str(), &found[0].1.state), ("u-1", &state));
    }

    #[test]
    fn layers_of_all_records() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Record::layers(dir.path()).unwrap().is_empty());
        for (uid, layer) in [("u-1", "/l/1"), ("u-2", "/l/2")] {
            let mut state = PodState::default();
            let image =
                crate::images::ImageHere { layers: vec![layer.into()], ..Default::default() };
            state.images.insert("a".to_owned(), image);
            let bytes = Record::encode(&Arc::default(), &state).unwrap();
            Record::write(&dir.path().join("pods").join(uid), &bytes).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("pods/u-3")).unwrap();
        let layers = Record::layers(dir.path()).unwrap();
        assert_eq!(layers, HashSet::from(["/l/1".into(), "/l/2".into()]));
    }

    #[test]
    fn container_ids() {
        assert_eq!(parse_container_id(&container_id("web", 12)), Some(("web", 12)));
        for wrong in ["web", "web.x", ".1", "a/b.1", ""] {
            assert_eq!(parse_container_id(wrong), None, "{wrong}");
        }
    }
}
