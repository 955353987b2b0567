//! The pods of a DaemonSet: what they tolerate, where they may be, and how they are tied to a node.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSetSpec;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use pontoon_model::names;
use pontoon_scheduler::{Effect, NodeInfo, PodInfo};
use serde_json::{Value, json};

use crate::edit;
use crate::key::Key;
use crate::plan::Action;
use crate::pod_state;
use crate::pod_template;

/// The label that tells the revisions of a DaemonSet's template apart.
pub(super) const REVISION: &str = "controller-revision-hash";

/// Whether a node should get a pod, and whether one that is there may stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    pub(super) run: bool,
    pub(super) stay: bool,
}

/// What the pods are made from.
pub(super) struct Mould {
    template: Value,
    revision: String,
    info: PodInfo,
}

impl Mould {
    /// `revision` tells this template from earlier ones.
    pub(super) fn new(mut template: Value, revision: String, spec: &DaemonSetSpec) -> Self {
        pod_template::label(&mut template, &BTreeMap::from([(REVISION, revision.as_str())]));
        let mut typed = spec.template.spec.clone().unwrap_or_default();
        let added = tolerations(typed.host_network == Some(true));
        for toleration in &added {
            push(&mut template, edit::to_json(toleration));
        }
        typed.tolerations.get_or_insert_default().extend(added);
        let info = PodInfo::of(&Pod { spec: Some(typed), ..Pod::default() });
        Self { template, revision, info }
    }

    pub(super) fn fit(&self, node: &Node) -> Fit {
        let mut info = NodeInfo::unknown(node.metadata.name.as_deref().unwrap_or_default());
        info.refresh(node);
        let wanted = self.info.wants_node(&info.name, &info.labels);
        let tolerances = &self.info.tolerances;
        let open = !info.cordoned_for(tolerances) && info.forbidding_taint(tolerances).is_none();
        let tolerated = |t: &pontoon_scheduler::Taint| {
            t.effect != Effect::NoExecute || tolerances.iter().any(|x| x.covers(t))
        };
        Fit { run: wanted && open, stay: wanted && info.taints.iter().all(tolerated) }
    }

    /// Whether the pod is of the present template.
    pub(super) fn is_current(&self, pod: &Pod) -> bool {
        let label = pod.metadata.labels.as_ref().and_then(|l| l.get(REVISION));
        label.is_some_and(|l| *l == self.revision)
    }

    /// Creates the pod for a node. It is tied to it by affinity and bound by the scheduler, which
    /// so says why if it does not fit.
    pub(super) fn cast(&self, name: &str, node: &str, owner: &Key, uid: &str) -> Action {
        let mut template = self.template.clone();
        let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
        let tie = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
        if !template["spec"]["affinity"].is_object() {
            template["spec"]["affinity"] = json!({});
        }
        let affinity = &mut template["spec"]["affinity"];
        if !affinity["nodeAffinity"].is_object() {
            affinity["nodeAffinity"] = json!({});
        }
        affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = tie;
        pod_template::create_pod(&template, name, owner, uid)
    }
}

/// The node that a pod is on or is meant for.
pub(super) fn target(pod: &Pod) -> String {
    if let Some(node) = pod_state::node(pod) {
        return node.to_owned();
    }
    let info = PodInfo::of(pod);
    let names = info.named_nodes().unwrap_or_default();
    names.first().copied().unwrap_or_default().to_owned()
}

fn tolerations(host_network: bool) -> Vec<Toleration> {
    let mut listed = vec![
        (names::TAINT_NOT_READY, "NoExecute"),
        (names::TAINT_UNREACHABLE, "NoExecute"),
        (names::TAINT_DISK_PRESSURE, "NoSchedule"),
        (names::TAINT_MEMORY_PRESSURE, "NoSchedule"),
        (names::TAINT_PID_PRESSURE, "NoSchedule"),
        (names::TAINT_UNSCHEDULABLE, "NoSchedule"),
    ];
    if host_network {
        listed.push((names::TAINT_NETWORK_UNAVAILABLE, "NoSchedule"));
    }
    let toleration = |(key, effect): (&str, &str)| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    listed.into_iter().map(toleration).collect()
}

fn push(template: &mut Value, toleration: Value) {
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    match list.as_array_mut() {
        Some(list) => list.push(toleration),
        None => *list = json!([toleration]),
    }
}
