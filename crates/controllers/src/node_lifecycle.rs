//! What becomes of a node that is lost or not ready: its condition, its taints, its pods' readiness.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pontoon_model::{names, resource};
use serde_json::json;

use crate::cache::{Cache, Change, Liveness};
use crate::edit;
use crate::key::Key;
use crate::plan::{Action, EventType, Plan, Sub};
use crate::pod_state;
use crate::settings::SERVING_SECONDS;

const READY: &str = "Ready";
/// The reason of conditions that we set because nobody answers for the node.
const LOST: &str = "NodeStatusUnknown";
/// The reason of Ready when the machine answers without its daemon.
const DAEMON_DOWN: &str = "NodeDaemonDown";
/// The reason of Ready when the daemon answers, but its agent does not report.
const AGENT_SILENT: &str = "NodeAgentSilent";
/// The reason of a pod's Ready condition that we took away because of its node.
const NODE_LOST: &str = "NodeNotReady";

/// The node itself, or the node of a pod that says something else of its readiness.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    if change.key.is(resource::NODES) {
        return vec![change.key.clone()];
    }
    let Some(pod) = change.new.as_ref().and_then(|e| e.get::<Pod>()) else { return Vec::new() };
    let node = pod_state::node(pod).filter(|n| match cache.liveness(n) {
        None | Some(Liveness::Alive) => was_taken(pod),
        Some(_) => pod_state::is_ready(pod),
    });
    node.map(|n| Key::new(resource::NODES, None, n)).into_iter().collect()
}

/// Writes a node's death, or its return, where scheduler, eviction and services see it.
pub(crate) fn reconcile(now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let Some(node) = cache.node(&key.name) else { return plan };
    plan.subject = Some(Box::new(edit::reference(cache, key)));
    let liveness = cache.liveness(&key.name);
    let ready = conditions(now, node, liveness);
    let verdict = status_of(&ready, READY);
    let taints = taints(now, node, verdict);
    // One patch an object and plan: the taint first, since pods are moved on its account.
    let former = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    if taints != former {
        let patch = json!({"spec": {"taints": taints}});
        plan.push(edit::patch(key, &node.metadata, Sub::Whole, patch));
    } else if let Some(patch) = patch_conditions(key, node, &ready) {
        plan.push(patch);
        if status_of(&current(node), READY) != verdict {
            tell(&mut plan, cache, key, verdict);
        }
    }
    let serves = match liveness {
        None => return plan,
        Some(Liveness::Alive) => true,
        Some(Liveness::Lost) => false,
        Some(Liveness::DaemonDown | Liveness::AgentSilent) => {
            let left = serves_for(now, &ready);
            if left.is_positive() {
                plan.again_in(left.unsigned_abs());
                return plan;
            }
            false
        }
    };
    for pod in cache.pods_on(&key.name) {
        plan.actions.extend(pod_readiness(now, pod, serves));
    }
    plan
}

/// Whether it is written down that nothing answers on the node: then a machine that answers without
/// its daemon has been started anew, and its containers are gone.
#[must_use]
pub fn is_written_off(node: &Node) -> bool {
    current(node).iter().any(|c| c.type_ == READY && c.reason.as_deref() == Some(LOST))
}

/// Whether it is written down that no daemon answers on the node.
#[must_use]
pub fn is_unanswered(node: &Node) -> bool {
    let is_ours =
        |c: &NodeCondition| c.status == "Unknown" || c.reason.as_deref() == Some(DAEMON_DOWN);
    current(node).iter().any(|c| c.type_ == READY && is_ours(c))
}

/// How much longer the pods of a node without its agent get connections.
fn serves_for(now: Timestamp, conditions: &[NodeCondition]) -> SignedDuration {
    let ready = conditions.iter().find(|c| c.type_ == READY);
    let since = ready.and_then(|c| c.last_transition_time.as_ref()).map_or(now, |t| t.0);
    SignedDuration::from_secs(SERVING_SECONDS) - now.duration_since(since)
}

fn current(node: &Node) -> Vec<NodeCondition> {
    node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default()
}

fn status_of<'a>(conditions: &'a [NodeCondition], type_: &str) -> &'a str {
    conditions.iter().find(|c| c.type_ == type_).map_or("Unknown", |c| c.status.as_str())
}

/// The conditions as they should be: all unknown for a dead node; not ready without daemon or agent.
/// One that has come back is ready again if it was our word that it is not; its own reports say the
/// rest.
fn conditions(now: Timestamp, node: &Node, liveness: Option<Liveness>) -> Vec<NodeCondition> {
    let mut conditions = current(node);
    let is_known = conditions.iter().any(|c| c.type_ == READY);
    if !is_known && liveness.is_some_and(|l| l != Liveness::Alive) {
        conditions.push(NodeCondition { type_: READY.to_owned(), ..NodeCondition::default() });
    }
    match liveness {
        Some(Liveness::Lost) => {
            for condition in conditions.iter_mut().filter(|c| c.status != "Unknown") {
                let message = "Nothing answers on the node: neither its daemon nor its machine.";
                set(condition, "Unknown", LOST, message, now);
            }
        }
        Some(Liveness::DaemonDown) => {
            let message = "The machine answers, but its daemon does not; its containers run on.";
            not_ready(&mut conditions, DAEMON_DOWN, message, now);
        }
        Some(Liveness::AgentSilent) => {
            let message = "The node's daemon answers, but its agent has stopped reporting.";
            not_ready(&mut conditions, AGENT_SILENT, message, now);
        }
        Some(Liveness::Alive) => {
            let ours = [LOST, DAEMON_DOWN, AGENT_SILENT].map(Some);
            for condition in conditions.iter_mut().filter(|c| ours.contains(&c.reason.as_deref())) {
                let value = if condition.type_ == READY { "True" } else { "False" };
                set(condition, value, "NodeAnswers", "The node answers again.", now);
            }
        }
        None => {}
    }
    conditions
}

/// Says that the node is not ready; when that was known already, since when it is so stays.
fn not_ready(conditions: &mut [NodeCondition], reason: &str, message: &str, now: Timestamp) {
    let stands = |c: &NodeCondition| c.status == "False" && c.reason.as_deref() == Some(reason);
    for condition in conditions.iter_mut().filter(|c| c.type_ == READY && !stands(c)) {
        set(condition, "False", reason, message, now);
    }
}

fn set(condition: &mut NodeCondition, status: &str, reason: &str, message: &str, now: Timestamp) {
    status.clone_into(&mut condition.status);
    condition.reason = Some(reason.to_owned());
    condition.message = Some(message.to_owned());
    condition.last_transition_time = Some(Time(now));
}

fn patch_conditions(key: &Key, node: &Node, wanted: &[NodeCondition]) -> Option<Action> {
    let old = json!({"conditions": edit::to_json(&current(node))});
    let new = json!({"conditions": edit::to_json(&wanted)});
    edit::status(key, &node.metadata, Some(&old), &new)
}

/// The node's taints, with those that its Ready condition calls for and without those it does not.
fn taints(now: Timestamp, node: &Node, ready: &str) -> Vec<Taint> {
    let conditions = current(node);
    let under = |kind: &str| status_of(&conditions, kind) == "True";
    let unschedulable = node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
    let wanted = [
        (names::TAINT_NOT_READY, "NoSchedule", ready == "False"),
        (names::TAINT_NOT_READY, "NoExecute", ready == "False"),
        (names::TAINT_UNREACHABLE, "NoSchedule", ready == "Unknown"),
        (names::TAINT_UNREACHABLE, "NoExecute", ready == "Unknown"),
        (names::TAINT_UNSCHEDULABLE, "NoSchedule", unschedulable),
        (names::TAINT_DISK_PRESSURE, "NoSchedule", under("DiskPressure")),
        (names::TAINT_MEMORY_PRESSURE, "NoSchedule", under("MemoryPressure")),
        (names::TAINT_PID_PRESSURE, "NoSchedule", under("PIDPressure")),
    ];
    let mut taints = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    for (name, effect, on) in wanted {
        let is = |t: &Taint| t.key == name && t.effect == effect;
        if !on {
            taints.retain(|t| !is(t));
        } else if !taints.iter().any(is) {
            taints.push(Taint {
                key: name.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    taints
}

fn tell(plan: &mut Plan, cache: &Cache, key: &Key, verdict: &str) {
    let (reason, what) = match verdict {
        "True" => ("NodeReady", "NodeReady"),
        _ => ("NodeNotReady", "NodeNotReady"),
    };
    let message = format!("Node {} status is now: {what}", key.name);
    plan.event(&edit::reference(cache, key), EventType::Normal, reason, message);
}

/// Whether it was our word that the pod is not ready.
fn was_taken(pod: &Pod) -> bool {
    let ready = pod_state::condition(pod, READY).filter(|c| c.status == "False");
    ready.is_some_and(|c| c.reason.as_deref() == Some(NODE_LOST))
}

/// Takes a pod's readiness away with its node's, and gives it back if the node returns with
/// its containers as they were.
fn pod_readiness(now: Timestamp, pod: &Pod, serves: bool) -> Option<Action> {
    if pod_state::is_finished(pod) {
        return None;
    }
    let ready = pod_state::condition(pod, READY)?;
    let (status, reason) = match serves {
        false if ready.status == "True" => ("False", Some(NODE_LOST.to_owned())),
        true if was_taken(pod) && pod_state::holds(pod, "ContainersReady") => ("True", None),
        _ => return None,
    };
    let mut wanted = pod.status.clone()?;
    for condition in wanted.conditions.iter_mut().flatten().filter(|c| c.type_ == READY) {
        status.clone_into(&mut condition.status);
        condition.reason.clone_from(&reason);
        condition.last_transition_time = Some(Time(now));
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let key = Key::new(resource::PODS, pod.metadata.namespace.as_deref(), name);
    edit::status(&key, &pod.metadata, pod.status.as_ref(), &wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_under_pressure_is_given_no_new_pods() {
        let tell = |status: &str| -> Node {
            let condition = json!({"type": "DiskPressure", "status": status});
            let node = json!({"metadata": {}, "status": {"conditions": [condition]}});
            serde_json::from_value(node).unwrap()
        };
        let at = Timestamp::UNIX_EPOCH;
        let pressed = taints(at, &tell("True"), "True");
        let told: Vec<_> = pressed.iter().map(|t| (t.key.as_str(), t.effect.as_str())).collect();
        assert_eq!(told, [(names::TAINT_DISK_PRESSURE, "NoSchedule")]);
        let mut relieved = tell("False");
        relieved.spec.get_or_insert_default().taints = Some(pressed);
        assert_eq!(taints(at, &relieved, "True"), []);
    }
}
