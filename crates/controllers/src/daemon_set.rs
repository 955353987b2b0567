//! DaemonSet: one pod on each node that suits.

mod daemon_pod;
mod history;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use pontoon_model::resource;
use pontoon_scheduler::NodeInfo;

use crate::cache::{Cache, Change};
use crate::claim::Claim;
use crate::edit;
use crate::generated_name;
use crate::key::Key;
use crate::plan::{EventType, Plan};
use crate::pod_state;
use crate::pod_template;
use crate::replica_set::{count, delete_pod};
use daemon_pod::{Fit, Mould};
use history::History;

/// The DaemonSets that a change may concern: for a node, all.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    if change.key.is(resource::DAEMON_SETS) {
        return vec![change.key.clone()];
    }
    if change.key.is(resource::NODES) {
        return if node_differs(change) {
            cache.entries(resource::DAEMON_SETS, None).map(|(key, _)| key.clone()).collect()
        } else {
            Vec::new()
        };
    }
    let owners = change.states().filter_map(|e| cache.by_uid(e.controller()?));
    let mut keys: Vec<Key> =
        owners.map(|(key, _)| key.clone()).filter(|k| k.is(resource::DAEMON_SETS)).collect();
    keys.dedup();
    keys
}

/// Whether more than a heartbeat changed.
fn node_differs(change: &Change) -> bool {
    let of = |e: &Option<Arc<crate::entry::Entry>>| {
        let node = e.as_ref()?.get::<Node>()?;
        let mut info = NodeInfo::default();
        info.refresh(node);
        Some((info.labels, info.taints, info.unschedulable))
    };
    of(&change.old) != of(&change.new)
}

/// A DaemonSet, its pods by node, and what they are made from.
struct Daemons<'a> {
    now: Timestamp,
    key: &'a Key,
    cache: &'a Cache,
    set: &'a DaemonSet,
    spec: &'a DaemonSetSpec,
    mould: Mould,
    nodes: BTreeMap<String, Fit>,
    pods: BTreeMap<String, Vec<Arc<Pod>>>,
}

/// Creates the pods that nodes lack, deletes those that should not be, and updates the old ones.
pub(crate) fn reconcile(now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let Some(set) = cache.get::<DaemonSet>(key.namespace.as_deref(), &key.name) else {
        return plan;
    };
    let (spec, Some(entry)) = (&set.spec, cache.entry(key)) else { return plan };
    let claim = Claim::new(key, &set.metadata, &spec.selector);
    let mut pods: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in claim.take::<Pod>(cache, &mut plan) {
        pods.entry(daemon_pod::target(&pod)).or_default().push(pod);
    }
    let template = pod_template::of(entry);
    let collisions = set.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
    let revisions = claim.take::<ControllerRevision>(cache, &mut plan);
    let history = History::new(revisions, &template, collisions);
    let is_wanted = set.metadata.deletion_timestamp.is_none();
    if is_wanted && !history.record(key, set, &template, cache, &mut plan) {
        return plan;
    }
    let mould = Mould::new(template, history.hash.clone(), spec);
    let fit = |node: &Arc<Node>| Some((node.metadata.name.clone()?, mould.fit(node)));
    let nodes = cache.list::<Node>(None).filter_map(fit).collect();
    let daemons = Daemons { now, key, cache, set, spec, mould, nodes, pods };
    if is_wanted {
        plan.subject = Some(Box::new(edit::reference(cache, key)));
        daemons.place(&mut plan);
        daemons.update(&mut plan);
        let pods = daemons.pods.values().flatten();
        history.forget_old(spec.revision_history_limit, pods, &mut plan);
    }
    let status = daemons.status(&mut plan);
    plan.actions.extend(edit::status(key, &set.metadata, set.status.as_ref(), &status));
    plan
}

impl Daemons<'_> {
    fn place(&self, plan: &mut Plan) {
        for (node, fit) in &self.nodes {
            match self.pods.get(node) {
                None if fit.run => self.create(node, plan),
                None => {}
                Some(pods) if !fit.stay => self.delete_all(pods.iter(), plan),
                Some(pods) => {
                    let (finished, running): (Vec<_>, Vec<_>) =
                        pods.iter().partition(|p| pod_state::is_finished(p));
                    self.delete_all(finished.into_iter(), plan);
                    self.delete_doubles(running, plan);
                }
            }
        }
        // Pods that wait for a node that is gone; those that ran there are the pod collector's.
        let waiting = self.pods.iter().filter(|(node, _)| !self.nodes.contains_key(*node));
        let waiting = waiting.flat_map(|(_, pods)| pods).filter(|p| pod_state::node(p).is_none());
        self.delete_all(waiting, plan);
    }

    /// Of the pods of one revision on a node the oldest stays.
    fn delete_doubles(&self, running: Vec<&Arc<Pod>>, plan: &mut Plan) {
        let (mut new, mut old): (Vec<_>, Vec<_>) = running
            .into_iter()
            .filter(|p| !pod_state::is_terminating(p))
            .partition(|p| self.mould.is_current(p));
        for pods in [&mut new, &mut old] {
            pods.sort_by_key(|p| p.metadata.creation_timestamp.clone().map(|t| t.0));
            self.delete_all(pods.iter().skip(1).copied(), plan);
        }
    }

    fn create(&self, node: &str, plan: &mut Plan) {
        let uid = self.set.metadata.uid.as_deref().unwrap_or_default();
        let Some(name) = generated_name::next_pods(self.cache, self.key, uid, node).next() else {
            return;
        };
        plan.push(self.mould.cast(&name, node, self.key, uid));
        let regarding = edit::reference(self.cache, self.key);
        let message = format!("Created pod: {name}");
        plan.event(&regarding, EventType::Normal, "SuccessfulCreate", message);
    }

    fn delete_all<'p>(&self, pods: impl Iterator<Item = &'p Arc<Pod>>, plan: &mut Plan) {
        let regarding = edit::reference(self.cache, self.key);
        for pod in pods.filter(|p| !pod_state::is_terminating(p)) {
            plan.push(delete_pod(pod, None));
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Deleted pod: {name}");
            plan.event(&regarding, EventType::Normal, "SuccessfulDelete", message);
        }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
        pod_state::is_active(pod) && pod_state::is_available(pod, min_ready, self.now)
    }

    fn status(&self, plan: &mut Plan) -> DaemonSetStatus {
        let former = self.set.status.clone().unwrap_or_default();
        let (mut desired, mut current, mut misplaced) = (0, 0, 0);
        let (mut ready, mut available, mut updated) = (0, 0, 0);
        for (node, fit) in &self.nodes {
            let pods = self.pods.get(node).map(Vec::as_slice).unwrap_or_default();
            if !fit.run {
                misplaced += usize::from(!pods.is_empty());
                continue;
            }
            desired += 1;
            current += usize::from(!pods.is_empty());
            ready +=
                usize::from(pods.iter().any(|p| pod_state::is_active(p) && pod_state::is_ready(p)));
            available += usize::from(pods.iter().any(|p| self.is_available(p)));
            updated += usize::from(pods.iter().any(|p| self.mould.is_current(p)));
            for pod in pods {
                let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
                let left = pod_state::available_in(pod, min_ready, self.now);
                if let Some(left) = left.filter(|l| !l.is_zero()) {
                    plan.again_in(left.unsigned_abs());
                }
            }
        }
        DaemonSetStatus {
            desired_number_scheduled: count(desired),
            current_number_scheduled: count(current),
            number_misscheduled: count(misplaced),
            number_ready: count(ready),
            number_available: Some(count(available)),
            number_unavailable: Some(count(desired - available)),
            updated_number_scheduled: Some(count(updated)),
            observed_generation: self.set.metadata.generation,
            ..former
        }
    }
}
