//! What other pods mean for one class of pods: affinity, anti-affinity and spread, by domain.
//! A domain is the set of nodes that share the value of one label.

use crate::filter;
use crate::fnv::Map;
use crate::node_info::NodeInfo;
use crate::pod_info::{PodInfo, Spread};
use crate::pod_term::PodTerm;
use crate::requirement::Labels;
use crate::snapshot::{Counts, Snapshot};

/// Pods counted by the value of one node label.
#[derive(Clone, Debug, Default)]
struct Domains {
    key: String,
    counts: Map<String, i64>,
    /// Whether a pod of the class is itself one of those counted.
    own: bool,
}

impl Domains {
    fn at(&self, node: &NodeInfo) -> Option<i64> {
        let value = node.labels.get(&self.key)?;
        Some(self.counts.get(value).copied().unwrap_or(0))
    }

    fn add(&mut self, node: &NodeInfo, pods: i64) {
        if let Some(value) = node.labels.get(&self.key) {
            *self.counts.entry(value.clone()).or_default() += pods;
        }
    }
}

/// The domains that matter to one class, kept up while its pods are placed.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    /// Pods on nodes the class may use are to be even over domains.
    spread: Vec<(Spread, Domains)>,
    near: Vec<Domains>,
    apart: Vec<Domains>,
    /// Pods elsewhere that reject the class.
    rejected: Vec<Domains>,
    liked: Vec<(i64, Domains)>,
}

/// Why a topology refuses a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Skew,
    MissingLabel,
    Affinity,
    AntiAffinity,
    Rejected,
}

impl Refusal {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Skew => "node(s) didn't match pod topology spread constraints",
            Self::MissingLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Self::Affinity => "node(s) didn't match pod affinity rules",
            Self::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::Rejected => "node(s) didn't satisfy existing pods anti-affinity rules",
        }
    }
}

impl Topology {
    pub(crate) fn of(snapshot: &Snapshot, info: &PodInfo) -> Self {
        let of_term = |term: &PodTerm| {
            let covers = |ns: &str, l: &Labels| term.covers(ns, l, &snapshot.namespaces);
            let mut domains = Domains {
                key: term.topology_key.clone(),
                own: covers(&info.namespace, &info.labels),
                ..Domains::default()
            };
            for ((namespace, labels), look) in &snapshot.looks {
                if covers(namespace, labels) {
                    tally(&mut domains, snapshot, &look.all);
                }
            }
            domains
        };
        let mut rejected = Vec::new();
        for (term, counts) in &snapshot.rejections {
            if term.covers(&info.namespace, &info.labels, &snapshot.namespaces) {
                let mut domains = Domains { key: term.topology_key.clone(), ..Domains::default() };
                tally(&mut domains, snapshot, counts);
                rejected.push(domains);
            }
        }
        Self {
            spread: info.spread.iter().map(|s| (s.clone(), even(snapshot, info, s))).collect(),
            near: info.affinity.iter().map(of_term).collect(),
            apart: info.anti_affinity.iter().map(of_term).collect(),
            rejected,
            liked: info.preferred_pods.iter().map(|(w, t)| (i64::from(*w), of_term(t))).collect(),
        }
    }

    /// The node labels that make the domains.
    pub(crate) fn keys(&self) -> Vec<String> {
        let spread = self.spread.iter().map(|(_, d)| d);
        let liked = self.liked.iter().map(|(_, d)| d);
        let all = spread.chain(&self.near).chain(&self.apart).chain(&self.rejected).chain(liked);
        let mut keys: Vec<String> = all.map(|d| d.key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Counts one more pod of the class on a node.
    pub(crate) fn placed(&mut self, node: &NodeInfo) {
        let spread = self.spread.iter_mut().map(|(_, d)| d);
        let liked = self.liked.iter_mut().map(|(_, d)| d);
        let all = spread.chain(&mut self.near).chain(&mut self.apart).chain(liked);
        for domains in all.filter(|d| d.own) {
            domains.add(node, 1);
        }
    }

    /// The least filled domain of each constraint; compute once per pod, not once per node.
    pub(crate) fn floors(&self) -> Vec<i64> {
        let floor = |(spread, domains): &(Spread, Domains)| {
            let enough = domains.counts.len() >= spread.min_domains;
            let least = domains.counts.values().min().copied().unwrap_or(0);
            if enough { least } else { 0 }
        };
        self.spread.iter().map(floor).collect()
    }

    /// Whether a pod of the class may go to the node, as far as other pods are concerned.
    pub(crate) fn refusal(&self, node: &NodeInfo, floors: &[i64]) -> Option<Refusal> {
        for ((spread, domains), floor) in self.spread.iter().zip(floors) {
            if !spread.required {
                continue;
            }
            let Some(here) = domains.at(node) else { return Some(Refusal::MissingLabel) };
            if here + i64::from(domains.own) - floor > spread.max_skew {
                return Some(Refusal::Skew);
            }
        }
        if self.rejected.iter().any(|d| d.at(node).is_some_and(|n| n > 0)) {
            return Some(Refusal::Rejected);
        }
        if self.apart.iter().any(|d| d.at(node).is_some_and(|n| n > 0)) {
            return Some(Refusal::AntiAffinity);
        }
        // The first of a group that wants to be together may go anywhere.
        let first = self.near.iter().all(|d| d.own && d.counts.values().all(|n| *n == 0));
        let near = |d: &Domains| d.at(node).is_some_and(|n| n > 0 || first);
        if self.near.iter().all(near) { None } else { Some(Refusal::Affinity) }
    }

    /// How much worse the node is for preferences about other pods; negative is better.
    pub(crate) fn cost(&self, node: &NodeInfo) -> i64 {
        let liked = self.liked.iter().map(|(weight, d)| -weight * d.at(node).unwrap_or(0) * 10_000);
        let even = self.spread.iter().filter(|(s, _)| !s.required);
        let even = even.map(|(_, d)| d.at(node).unwrap_or(1_000) * 500_000);
        liked.chain(even).sum()
    }
}

/// Counts for a spread constraint: every domain of an eligible node, empty ones as well.
fn even(snapshot: &Snapshot, info: &PodInfo, spread: &Spread) -> Domains {
    let own = spread.selector.matches(&info.labels);
    let mut domains = Domains { key: spread.topology_key.clone(), own, ..Domains::default() };
    let eligible = |node: &NodeInfo| {
        (!spread.honor_affinity || info.wants_node(&node.name, &node.labels))
            && (!spread.honor_taints || filter::tolerated(info, node))
    };
    for index in &snapshot.live {
        let node = &snapshot.nodes[*index];
        if eligible(node) {
            domains.add(node, 0);
        }
    }
    for ((namespace, labels), look) in &snapshot.looks {
        if *namespace == info.namespace && spread.selector.matches(labels) {
            for (index, pods) in &look.staying {
                let node = &snapshot.nodes[*index];
                if node.present && eligible(node) {
                    domains.add(node, i64::from(*pods));
                }
            }
        }
    }
    domains
}

fn tally(domains: &mut Domains, snapshot: &Snapshot, counts: &Counts) {
    for (index, pods) in counts {
        domains.add(&snapshot.nodes[*index], i64::from(*pods));
    }
}
