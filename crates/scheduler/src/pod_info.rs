//! What the scheduler needs of one pod, compiled once.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelectorTerm, Pod, PodSpec, Toleration, TopologySpreadConstraint,
};

use crate::node_info::{Effect, HostPort, Taint};
use crate::pod_term::PodTerm;
use crate::requirement::{Labels, Matcher, Requirement};
use crate::resources::Resources;

/// A toleration, compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tolerance {
    /// Empty means every key.
    pub key: String,
    /// None means any value (`Exists`).
    pub value: Option<String>,
    /// None means every effect.
    pub effect: Option<Effect>,
}

impl Tolerance {
    /// Compiles one; `None` if it can match nothing (an unknown operator or effect).
    pub fn of(toleration: &Toleration) -> Option<Self> {
        let value = match toleration.operator.as_deref() {
            None | Some("" | "Equal") => Some(toleration.value.clone().unwrap_or_default()),
            Some("Exists") => None,
            Some(_) => return None,
        };
        let effect = match toleration.effect.as_deref() {
            None | Some("") => None,
            Some(text) => Some(Effect::parse(text)?),
        };
        Some(Self { key: toleration.key.clone().unwrap_or_default(), value, effect })
    }

    /// Whether the pod may be where this taint is.
    pub fn covers(&self, taint: &Taint) -> bool {
        let key = self.key == taint.key || (self.key.is_empty() && self.value.is_none());
        let value = self.value.as_ref().is_none_or(|v| *v == taint.value);
        key && value && self.effect.is_none_or(|e| e == taint.effect)
    }
}

/// One term of a node selector: labels and fields, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    pub labels: Vec<Requirement>,
    pub fields: Vec<Requirement>,
}

impl NodeTerm {
    fn of(term: &NodeSelectorTerm) -> Self {
        let labels = term.match_expressions.iter().flatten().map(Requirement::from).collect();
        let fields = term.match_fields.iter().flatten().map(Requirement::from).collect();
        Self { labels, fields }
    }

    /// Whether a node passes; a term without any requirement matches nothing, as in Kubernetes.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let field = |r: &Requirement| r.key == "metadata.name" && r.accepts(Some(name));
        let label = |r: &Requirement| r.accepts(labels.get(&r.key).map(String::as_str));
        !(self.labels.is_empty() && self.fields.is_empty())
            && self.fields.iter().all(field)
            && self.labels.iter().all(label)
    }
}

/// A topology spread constraint, compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spread {
    pub topology_key: String,
    pub max_skew: i64,
    pub min_domains: usize,
    /// `DoNotSchedule`, else `ScheduleAnyway`.
    pub required: bool,
    pub selector: Matcher,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

impl Spread {
    fn of(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selector = Matcher::optional(constraint.label_selector.as_ref());
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector.requirements.push(Requirement::equals(key, value));
            }
        }
        Self {
            topology_key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew.max(1)),
            min_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
            required: constraint.when_unsatisfiable != "ScheduleAnyway",
            selector,
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

/// One pod as the scheduler sees it. Pods that are equal here can be placed alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodInfo {
    pub namespace: String,
    pub labels: Labels,
    /// Pods of one group are spread over nodes: the controlling owner's uid; a pod without an
    /// owner belongs with those that carry the same labels.
    pub group: String,
    pub requests: Resources,
    pub host_ports: Vec<HostPort>,
    /// The only node it may go to (`spec.nodeName`).
    pub pinned: Option<String>,
    pub node_selector: BTreeMap<String, String>,
    pub required_nodes: Option<Vec<NodeTerm>>,
    pub preferred_nodes: Vec<(i32, NodeTerm)>,
    pub tolerances: Vec<Tolerance>,
    pub affinity: Vec<PodTerm>,
    pub anti_affinity: Vec<PodTerm>,
    /// Preferred pod (anti-)affinity; a negative weight repels.
    pub preferred_pods: Vec<(i32, PodTerm)>,
    pub spread: Vec<Spread>,
    pub priority: i32,
    /// On its way out: holds resources still, is no reason to spread.
    pub terminating: bool,
    /// Waits for a scheduling gate to be lifted.
    pub gated: bool,
}

impl PodInfo {
    /// Compiles a pod.
    pub fn of(pod: &Pod) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let affinity = spec.affinity.as_ref();
        let nodes = affinity.and_then(|a| a.node_affinity.as_ref());
        let required = nodes
            .and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref())
            .map(|s| s.node_selector_terms.iter().map(NodeTerm::of).collect());
        let preferred = nodes
            .and_then(|n| n.preferred_during_scheduling_ignored_during_execution.as_ref())
            .map(|p| p.iter().map(|t| (t.weight, NodeTerm::of(&t.preference))).collect());
        let spread = spec.topology_spread_constraints.iter().flatten();
        Self {
            group: group(pod, &labels),
            requests: Resources::of_pod(spec),
            host_ports: HostPort::of_pod(pod),
            pinned: spec.node_name.clone().filter(|n| !n.is_empty()),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            required_nodes: required,
            preferred_nodes: preferred.unwrap_or_default(),
            tolerances: spec.tolerations.iter().flatten().filter_map(Tolerance::of).collect(),
            affinity: PodTerm::required_affinity(affinity, &namespace, &labels),
            anti_affinity: PodTerm::required_anti_affinity(affinity, &namespace, &labels),
            preferred_pods: PodTerm::preferred(affinity, &namespace, &labels),
            spread: spread.map(|c| Spread::of(c, &labels)).collect(),
            priority: spec.priority.unwrap_or(0),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            gated: spec.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()),
            namespace,
            labels,
        }
    }

    /// Whether labels and fields of a node are what the pod requires.
    pub fn wants_node(&self, name: &str, labels: &Labels) -> bool {
        self.pinned.as_ref().is_none_or(|p| p == name)
            && self.node_selector.iter().all(|(k, v)| labels.get(k) == Some(v))
            && self
                .required_nodes
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|t| t.matches(name, labels)))
    }

    /// The only nodes that can be right, when the pod names them: DaemonSet pods do.
    pub fn named_nodes(&self) -> Option<Vec<&str>> {
        if let Some(name) = &self.pinned {
            return Some(vec![name]);
        }
        let mut names = Vec::new();
        for term in self.required_nodes.as_ref()? {
            let listed = term.fields.iter().find_map(|field| match &field.test {
                crate::requirement::Test::In(values) if field.key == "metadata.name" => {
                    Some(values)
                }
                _ => None,
            })?;
            names.extend(listed.iter().map(String::as_str));
        }
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    /// Whether placing one such pod can change which other nodes suit the next one.
    pub fn is_coupled(&self) -> bool {
        !self.affinity.is_empty() || !self.preferred_pods.is_empty() || !self.spread.is_empty()
    }
}

fn group(pod: &Pod, labels: &Labels) -> String {
    let owners = pod.metadata.owner_references.iter().flatten();
    match owners.into_iter().find(|o| o.controller == Some(true)) {
        Some(owner) => owner.uid.clone(),
        None => labels.iter().map(|(k, v)| format!("{k}={v},")).collect(),
    }
}
