//! Pods that take too much of the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pontoon_model::quantity::bytes;

use super::usage;
use crate::agent::Agent;
use crate::node::facts::Facts;
use crate::pod::record::parse_container_id;
use crate::pod::spec::{all_containers, spec};
use crate::pod::state::Failure;
use crate::volume::PodDirs;

/// A pod that takes less is not evicted for the disk's sake: it would not help.
const WORTHWHILE: u64 = 4 << 20;
/// With less than this free, in bytes, a pod that is evicted is given no time: the disk is the cluster's log's, too.
const CRITICAL: u64 = 512 << 20;
const STORAGE: &str = "ephemeral-storage";

/// A pod's part of the disk.
struct Measured {
    uid: String,
    pod: Arc<Pod>,
    bytes: u64,
}

/// Evicts pods that take more than one of their limits.
pub(super) async fn enforce_limits(agent: &Agent) {
    for pod in agent.living_pods() {
        if let Some((uid, message)) = exceeded(agent, &pod).await {
            agent.evict(&uid, evicted(message), false);
        }
    }
}

async fn exceeded(agent: &Agent, pod: &Arc<Pod>) -> Option<(String, String)> {
    let uid = pod.metadata.uid.clone()?;
    for (name, limit) in volume_limits(pod) {
        let path = dirs(agent, &uid).volume(&name);
        if measure(vec![path]).await > limit.1 {
            let message =
                format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\".", limit.0);
            return Some((uid, message));
        }
    }
    for container in all_containers(pod) {
        let Some((limit, most)) = container_limit(container) else { continue };
        if measure(paths_of(agent, &uid, &container.name)).await > most {
            let message = format!(
                "Container {} exceeded its local ephemeral storage limit \"{limit}\".",
                container.name
            );
            return Some((uid, message));
        }
    }
    let (text, most) = storage_limit(pod)?;
    if measure(paths(agent, &uid)).await > most {
        let message = format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {text}."
        );
        return Some((uid, message));
    }
    None
}

/// Evicts the pod that takes most: of those that take more than they asked for, else of all.
pub(super) async fn relieve(agent: &Agent, facts: &Facts) {
    let mut all = Vec::new();
    for pod in agent.living_pods() {
        let Some(uid) = pod.metadata.uid.clone() else { continue };
        let bytes = measure(paths(agent, &uid)).await;
        all.push(Measured { uid, pod, bytes });
    }
    let Some(most) = greediest(&all) else { return };
    let message = format!(
        "The node was low on resource: {STORAGE}. Available: {} MiB. The pod was using {} MiB, request is {} MiB.",
        facts.disk_available_bytes >> 20,
        most.bytes >> 20,
        request(&most.pod) >> 20,
    );
    agent.evict(&most.uid, evicted(message), facts.disk_available_bytes < CRITICAL);
}

fn greediest(all: &[Measured]) -> Option<&Measured> {
    let rank = |one: &&Measured| (one.bytes > request(&one.pod), one.bytes);
    all.iter().filter(|one| one.bytes >= WORTHWHILE).max_by_key(rank)
}

fn evicted(message: String) -> Failure {
    Failure { reason: "Evicted".to_owned(), message }
}

fn dirs(agent: &Agent, uid: &str) -> PodDirs {
    PodDirs::new(&agent.config().data_dir, &agent.config().run_dir, uid)
}

/// Where a pod's containers can write on the disk: volumes, logs, last words, and over their images.
fn paths(agent: &Agent, uid: &str) -> Vec<PathBuf> {
    vec![dirs(agent, uid).data, agent.writable_layers(uid)]
}

/// Where one container can write by itself: its logs, and over its image, in each of its runs.
fn paths_of(agent: &Agent, uid: &str, name: &str) -> Vec<PathBuf> {
    let runs = std::fs::read_dir(agent.writable_layers(uid)).into_iter().flatten().flatten();
    let own = |entry: &std::fs::DirEntry| {
        let id = entry.file_name();
        id.to_str().and_then(parse_container_id).is_some_and(|(container, _)| container == name)
    };
    let mut paths: Vec<PathBuf> = runs.filter(own).map(|entry| entry.path()).collect();
    paths.extend(dirs(agent, uid).log(name, 0).parent().map(Path::to_owned));
    paths
}

async fn measure(paths: Vec<PathBuf>) -> u64 {
    let work = move || paths.iter().map(|path| usage::of(path)).sum();
    tokio::task::spawn_blocking(work).await.unwrap_or(0)
}

/// The limits of directories on the disk: name, and the limit as it was given and in bytes.
fn volume_limits(pod: &Pod) -> Vec<(String, (String, u64))> {
    let volumes = spec(pod).volumes.iter().flatten();
    let limit = |volume: &Volume| {
        let empty = volume.empty_dir.as_ref()?;
        // One in memory cannot grow beyond its limit.
        empty.medium.as_deref().is_none_or(str::is_empty).then_some(())?;
        let limit = empty.size_limit.as_ref()?;
        let most = amount(limit).filter(|most| *most > 0)?;
        Some((volume.name.clone(), (limit.0.clone(), most)))
    };
    volumes.filter_map(limit).collect()
}

fn container_limit(container: &Container) -> Option<(&str, u64)> {
    let limit = container.resources.as_ref()?.limits.as_ref()?.get(STORAGE)?;
    Some((limit.0.as_str(), amount(limit)?))
}

/// What all containers together may take; no limit where one of them has none.
fn storage_limit(pod: &Pod) -> Option<(String, u64)> {
    let mut sum: u64 = 0;
    for container in all_containers(pod) {
        sum = sum.saturating_add(container_limit(container)?.1);
    }
    Some((sum.to_string(), sum))
}

fn request(pod: &Pod) -> u64 {
    let of = |container: &Container| {
        let requests = container.resources.as_ref()?.requests.as_ref()?;
        amount(requests.get(STORAGE)?)
    };
    all_containers(pod).filter_map(of).sum()
}

fn amount(quantity: &Quantity) -> Option<u64> {
    bytes(&quantity.0).ok().and_then(|n| u64::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Arc<Pod> {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn limits_as_they_are_written() {
        let limited = pod(json!({"containers": [
            {"name": "a", "resources": {"limits": {"ephemeral-storage": "1Mi"}}},
            {"name": "b", "resources": {"limits": {"ephemeral-storage": "2Mi"}}}],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}, {"name": "w", "emptyDir": {}},
                {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Ki"}}]}));
        assert_eq!(storage_limit(&limited).map(|(_, most)| most), Some(3 << 20));
        assert_eq!(volume_limits(&limited), [("v".to_owned(), ("1Ki".to_owned(), 1024))]);
        let half = pod(json!({"containers": [{"name": "a"},
            {"name": "b", "resources": {"limits": {"ephemeral-storage": "2Mi"}}}]}));
        assert_eq!(storage_limit(&half), None);
        let own = container_limit(&half.spec.as_ref().unwrap().containers[1]);
        assert_eq!(own, Some(("2Mi", 2 << 20)));
    }

    #[test]
    fn who_takes_more_than_asked_for_goes_first() {
        let modest = pod(json!({"containers": [
            {"name": "a", "resources": {"requests": {"ephemeral-storage": "1Gi"}}}]}));
        let plain = pod(json!({"containers": [{"name": "a"}]}));
        let measured = |uid: &str, pod: &Arc<Pod>, bytes| Measured {
            uid: uid.to_owned(),
            pod: pod.clone(),
            bytes,
        };
        let all = [
            measured("asked", &modest, 900 << 20),
            measured("most", &plain, 80 << 20),
            measured("less", &plain, 70 << 20),
        ];
        assert_eq!(greediest(&all).map(|one| one.uid.as_str()), Some("most"));
        assert_eq!(greediest(&all[..1]).map(|one| one.uid.as_str()), Some("asked"));
        assert!(greediest(&[measured("tiny", &plain, 1 << 20)]).is_none());
    }
}
