//! A Lease a node, by which clients of Kubernetes see when a node was last known to be alive. Nothing here is decided
//! by them. The leader renews those of the nodes that it holds to be alive, all at the same moment: writes that come
//! together share one entry of the log and one fsync. A node's Lease goes with the node, as what it owns.

use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use pontoon_controllers::{Cache, Key, Liveness};
use pontoon_model::names::NAMESPACE_NODE_LEASE;
use pontoon_model::resource;
use pontoon_model::status::Status;
use pontoon_objects::{Patch, Sub, WriteOptions};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Leader;

/// How long a Lease says that it lasts, and how often it is renewed: as kubelets do.
const DURATION_SECONDS: i64 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// A Lease that was renewed more recently is let be: by the leader before this one, most likely.
const RECENT: SignedDuration = SignedDuration::from_secs(5);
/// Leases that are written at the same time.
const AT_ONCE: usize = 256;

/// Renews until the token ends it.
pub(super) async fn run(leader: Leader, stop: CancellationToken) {
    let mut tick = tokio::time::interval(RENEW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let renewing = async {
        loop {
            tick.tick().await;
            let due = due(&leader.view.read(), Timestamp::now());
            let writes = futures::stream::iter(due).map(|renewal| write(&leader, renewal));
            writes.buffer_unordered(AT_ONCE).for_each(async |()| ()).await;
        }
    };
    tokio::select! {
        () = renewing => {}
        () = stop.cancelled() => {}
    }
}

/// What is to become of one node's Lease.
#[derive(Debug, PartialEq)]
struct Renewal {
    node: String,
    /// Whether there is none yet.
    is_new: bool,
    body: Value,
}

/// The Leases of nodes that are alive, except for those that were renewed a moment ago.
fn due(cache: &Cache, now: Timestamp) -> Vec<Renewal> {
    let alive = |node: &&std::sync::Arc<Node>| {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        cache.liveness(name) == Some(Liveness::Alive) && node.metadata.deletion_timestamp.is_none()
    };
    cache.list::<Node>(None).filter(alive).filter_map(|node| renewal(cache, node, now)).collect()
}

fn renewal(cache: &Cache, node: &Node, now: Timestamp) -> Option<Renewal> {
    let (name, uid) = (node.metadata.name.clone()?, node.metadata.uid.clone()?);
    let key = Key::new(resource::LEASES, Some(NAMESPACE_NODE_LEASE), &name);
    let former = cache.entry(&key);
    let renewed = former.and_then(|entry| entry.object.typed::<Lease>().ok()?.spec?.renew_time);
    if renewed.is_some_and(|at| now.duration_since(at.0).abs() < RECENT) {
        return None;
    }
    let body = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE_NODE_LEASE,
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid }],
        },
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": DURATION_SECONDS,
            "renewTime": format!("{now:.6}"),
        },
    });
    Some(Renewal { node: name, is_new: former.is_none(), body })
}

/// A Lease that could not be written is due again the next time.
async fn write(leader: &Leader, renewal: Renewal) {
    let Renewal { node, is_new, body } = renewal;
    let (objects, options) = (&leader.objects, WriteOptions::default());
    let (leases, namespace) = (resource::LEASES, Some(NAMESPACE_NODE_LEASE));
    let written: Result<_, Status> = if is_new {
        objects.create(leases, namespace, body, &options).await
    } else {
        let patch = Patch::Merge(body);
        objects.patch(leases, namespace, &node, &patch, Sub::None, &options).await
    };
    match written {
        Ok(lease) => leader.view.apply_written(lease),
        Err(status) => tracing::debug!(node, error = status.message, "renew a node's lease"),
    }
}

#[cfg(test)]
mod tests {
    use pontoon_controllers::Settings;
    use pontoon_model::object::Object;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn put(cache: &mut Cache, resource: &'static resource::Resource, value: Value) {
        cache.apply_written(Object::from_value(resource, value, 1).unwrap()).unwrap();
    }

    fn cache(nodes: &[(&str, Option<Liveness>)]) -> Cache {
        let mut cache = Cache::new(Settings::default());
        for (name, liveness) in nodes {
            let meta = json!({"name": name, "uid": format!("uid-{name}")});
            put(&mut cache, resource::NODES, json!({"metadata": meta}));
            if let Some(liveness) = *liveness {
                cache.set_liveness(name, liveness);
            }
        }
        cache
    }

    fn names(due: &[Renewal]) -> Vec<(&str, bool)> {
        due.iter().map(|renewal| (renewal.node.as_str(), renewal.is_new)).collect()
    }

    #[test]
    fn only_who_is_alive_is_renewed() {
        let mut cache =
            cache(&[("a", Some(Liveness::Alive)), ("b", Some(Liveness::Lost)), ("c", None)]);
        assert_eq!(names(&due(&cache, at(0))), [("a", true)]);
        cache.set_liveness("b", Liveness::Alive);
        cache.set_liveness("a", Liveness::DaemonDown);
        assert_eq!(names(&due(&cache, at(1))), [("b", true)]);
    }

    #[test]
    fn a_lease_is_kubernetes_and_its_nodes() {
        let mut cache = cache(&[("a", Some(Liveness::Alive))]);
        let made = due(&cache, at(0)).remove(0).body;
        let lease: Lease = serde_json::from_value(made.clone()).unwrap();
        let spec = lease.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("a"));
        assert_eq!(spec.lease_duration_seconds, Some(40));
        assert_eq!(spec.renew_time.map(|time| time.0), Some(at(0)));
        assert_eq!(lease.metadata.owner_references.unwrap()[0].uid, "uid-a");
        put(&mut cache, resource::LEASES, made);
        assert_eq!(names(&due(&cache, at(4))), []);
        assert_eq!(names(&due(&cache, at(10))), [("a", false)]);
    }
}
