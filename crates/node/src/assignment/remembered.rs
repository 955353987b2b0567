//! What a node last heard of services, endpoints and nodes, on its disk: with that a daemon that starts while no
//! manager answers keeps names and services. No Secret, ConfigMap or pod is in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pontoon_agent::Assignments;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::membership::write_private;

/// So long, and so much longer the more there is, is waited after a write: the disk is given at most
/// [`BYTES_A_SECOND`].
const PAUSE: Duration = Duration::from_secs(1);
const BYTES_A_SECOND: usize = 512 << 10;
/// More than any cluster that this is for has; a file above it is neither written nor read.
const BYTES_MAX: usize = 256 << 20;

#[derive(Serialize, Deserialize)]
struct Remembered {
    nodes: Vec<Arc<Node>>,
    services: Vec<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
}

impl Remembered {
    /// What there is to remember: of a node where it is, of the others who they are and what they lead to.
    fn of(all: &Assignments) -> Self {
        let service = |service: &Arc<Service>| Service {
            metadata: name(&service.metadata),
            spec: service.spec.clone(),
            status: None,
        };
        let slice = |slice: &Arc<EndpointSlice>| EndpointSlice {
            metadata: ObjectMeta { labels: slice.metadata.labels.clone(), ..name(&slice.metadata) },
            ..EndpointSlice::clone(slice)
        };
        Self {
            nodes: all.nodes.values().map(|one| Arc::new(place(one))).collect(),
            services: all.services.values().map(|one| Arc::new(service(one))).collect(),
            slices: all.slices.values().map(|one| Arc::new(slice(one))).collect(),
        }
    }

    /// Not complete: nothing is begun or ended because of it.
    fn into_assignments(self, own: &str) -> Assignments {
        let nodes: BTreeMap<String, Arc<Node>> = self
            .nodes
            .into_iter()
            .map(|node| (node.metadata.name.clone().unwrap_or_default(), node))
            .collect();
        let key = |meta: &ObjectMeta| {
            (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
        };
        Assignments {
            remembered: true,
            node: nodes.get(own).cloned(),
            nodes,
            services: self.services.into_iter().map(|one| (key(&one.metadata), one)).collect(),
            slices: self.slices.into_iter().map(|one| (key(&one.metadata), one)).collect(),
            ..Assignments::default()
        }
    }
}

fn name(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        ..ObjectMeta::default()
    }
}

fn place(node: &Node) -> Node {
    let spec = node.spec.as_ref().map(|spec| NodeSpec {
        pod_cidr: spec.pod_cidr.clone(),
        pod_cidrs: spec.pod_cidrs.clone(),
        ..NodeSpec::default()
    });
    let status = node
        .status
        .as_ref()
        .map(|status| NodeStatus { addresses: status.addresses.clone(), ..NodeStatus::default() });
    Node { metadata: name(&node.metadata), spec, status }
}

/// What this node heard last, if it heard anything. A file that cannot be used is as good as none.
pub(crate) fn load(path: &Path, own: &str) -> Option<Assignments> {
    let read = || -> io::Result<Remembered> {
        if fs::metadata(path)?.len() > BYTES_MAX as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    };
    match read() {
        Ok(remembered) => Some(remembered.into_assignments(own)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "what this node heard last cannot be read");
            None
        }
    }
}

/// Keeps the file the newest, at a bounded rate, until the token ends it; then once more. Each write is durable
/// and whole.
pub(crate) async fn keep(
    path: PathBuf,
    mut assignments: watch::Receiver<Arc<Assignments>>,
    stop: CancellationToken,
) {
    let mut written = Written::default();
    loop {
        let all = assignments.borrow_and_update().clone();
        if all.complete {
            let path = path.clone();
            let work = tokio::task::spawn_blocking(move || write(&path, &all, written));
            written = work.await.unwrap_or_default();
        }
        if stop.is_cancelled() {
            return;
        }
        let seconds = (written.bytes / BYTES_A_SECOND) as u64;
        let quiet = async {
            tokio::time::sleep(PAUSE + Duration::from_secs(seconds)).await;
            // The sender lives as long as the member, which ends this.
            drop(assignments.changed().await);
        };
        tokio::select! {
            () = quiet => {}
            () = stop.cancelled() => {}
        }
    }
}

/// What is in the file, by its size and digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Written {
    bytes: usize,
    digest: [u8; 32],
}

/// Writes what is not in the file already; answers what is in it then.
fn write(path: &Path, all: &Assignments, written: Written) -> Written {
    let bytes = serde_json::to_vec(&Remembered::of(all)).expect("plain data becomes JSON");
    let new = Written { bytes: bytes.len(), digest: Sha256::digest(&bytes).into() };
    if new == written {
        return written;
    }
    if bytes.len() > BYTES_MAX {
        tracing::warn!(bytes = bytes.len(), "too much to remember names and services by");
        return written;
    }
    match write_private(path, &bytes) {
        Ok(()) => new,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "remember names and services");
            written
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn heard() -> Assignments {
        let mut all = Assignments { complete: true, ..Assignments::default() };
        let key = |name: &str| ("d".to_owned(), name.to_owned());
        let of = |value| serde_json::from_value(value).unwrap();
        all.services.insert(
            key("web"),
            Arc::new(of(json!({"metadata": {"namespace": "d", "name": "web",
            "annotations": {"note": "hidden"}}, "spec": {"clusterIP": "10.96.0.9"}}))),
        );
        let slice = json!({"metadata": {"namespace": "d", "name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.1.2"]}], "ports": [{"port": 80}]});
        all.slices.insert(key("web-1"), Arc::new(serde_json::from_value(slice).unwrap()));
        let node = json!({"metadata": {"name": "n1"}, "spec": {"podCIDR": "10.244.1.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "conditions": [{"type": "Ready", "status": "True"}]}});
        all.nodes.insert("n1".to_owned(), Arc::new(serde_json::from_value(node).unwrap()));
        let secret = json!({"metadata": {"name": "s"}, "data": {"k": "aGlkZGVu"}});
        all.secrets.insert(key("s"), Arc::new(serde_json::from_value(secret).unwrap()));
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "m", "env": [{"name": "K", "value": "hidden"}]}]}});
        all.pods.insert(key("p"), Arc::new(serde_json::from_value(pod).unwrap()));
        all
    }

    #[test]
    fn names_and_services_are_remembered_and_no_secret_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names.json");
        assert!(load(&path, "n1").is_none());
        let all = heard();
        let written = write(&path, &all, Written::default());
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("hidden") && !text.contains("aGlkZGVu"), "{text}");
        let found = load(&path, "n1").unwrap();
        assert!(found.remembered && !found.complete && found.pods.is_empty());
        assert_eq!(
            found.services.keys().collect::<Vec<_>>(),
            all.services.keys().collect::<Vec<_>>()
        );
        let key = ("d".to_owned(), "web-1".to_owned());
        assert_eq!(found.slices[&key], all.slices[&key]);
        assert_eq!(found.node.unwrap().spec, all.nodes["n1"].spec);
        // What says nothing new is not written again.
        fs::remove_file(&path).unwrap();
        let mut same = all.clone();
        let status = Arc::make_mut(same.nodes.get_mut("n1").unwrap()).status.as_mut().unwrap();
        status.conditions = None;
        assert_eq!(write(&path, &same, written), written);
        assert!(!path.exists());
        fs::write(&path, &text[..text.len() - 1]).unwrap();
        assert!(load(&path, "n1").is_none(), "half a file is none");
    }

    #[tokio::test]
    async fn the_newest_is_kept_and_the_last_is_written_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names.json");
        let (sender, receiver) = watch::channel(Arc::new(Assignments::default()));
        let stop = CancellationToken::new();
        let kept = tokio::spawn(keep(path.clone(), receiver, stop.clone()));
        sender.send_replace(Arc::new(heard()));
        stop.cancel();
        kept.await.unwrap();
        assert_eq!(load(&path, "n1").unwrap().services.len(), 1);
    }
}
