//! A term of pod affinity or anti-affinity: which pods, and within what they count as near.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, PodAffinityTerm};

use crate::requirement::{Labels, Matcher, Requirement, Test};

/// The pods a term speaks of and the label of nodes that makes two nodes one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodTerm {
    pub topology_key: String,
    pub selector: Matcher,
    /// Namespaces by name; the pod's own when the term names none.
    pub namespaces: Vec<String>,
    /// Namespaces by label, beside those by name.
    pub namespace_selector: Option<Matcher>,
}

/// The labels of every namespace that is known.
pub(crate) type Namespaces = BTreeMap<String, Labels>;

impl PodTerm {
    fn of(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Self {
        let mut selector = Matcher::optional(term.label_selector.as_ref());
        let known = |keys: &Option<Vec<String>>| -> Vec<(String, String)> {
            let keys = keys.iter().flatten();
            keys.filter_map(|k| Some((k.clone(), labels.get(k)?.clone()))).collect()
        };
        for (key, value) in known(&term.match_label_keys) {
            selector.requirements.push(Requirement::equals(&key, &value));
        }
        for (key, value) in known(&term.mismatch_label_keys) {
            selector.requirements.push(Requirement { key, test: Test::NotIn(vec![value]) });
        }
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        let namespace_selector = term.namespace_selector.as_ref().map(Matcher::from);
        Self { topology_key: term.topology_key.clone(), selector, namespaces, namespace_selector }
    }

    /// The terms of required affinity.
    pub fn required_affinity(affinity: Option<&Affinity>, ns: &str, labels: &Labels) -> Vec<Self> {
        let near = affinity.and_then(|a| a.pod_affinity.as_ref());
        let terms =
            near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        terms.into_iter().flatten().map(|t| Self::of(t, ns, labels)).collect()
    }

    /// The terms of required anti-affinity.
    pub fn required_anti_affinity(
        affinity: Option<&Affinity>,
        ns: &str,
        labels: &Labels,
    ) -> Vec<Self> {
        let far = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
        let terms =
            far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        terms.into_iter().flatten().map(|t| Self::of(t, ns, labels)).collect()
    }

    /// Preferences with their weights, those of anti-affinity negative.
    pub fn preferred(affinity: Option<&Affinity>, ns: &str, labels: &Labels) -> Vec<(i32, Self)> {
        let near = affinity
            .and_then(|a| a.pod_affinity.as_ref())
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let far = affinity
            .and_then(|a| a.pod_anti_affinity.as_ref())
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let near = near.into_iter().flatten().map(|w| (w.weight, &w.pod_affinity_term));
        let far =
            far.into_iter().flatten().map(|w| (w.weight.saturating_neg(), &w.pod_affinity_term));
        near.chain(far).map(|(weight, term)| (weight, Self::of(term, ns, labels))).collect()
    }

    /// Whether the term speaks of a pod with these labels in this namespace.
    pub fn covers(&self, namespace: &str, labels: &Labels, namespaces: &Namespaces) -> bool {
        let none = Labels::new();
        let by_name = self.namespaces.iter().any(|n| n == namespace);
        let by_label = || {
            let of = namespaces.get(namespace).unwrap_or(&none);
            self.namespace_selector.as_ref().is_some_and(|s| s.matches(of))
        };
        (by_name || by_label()) && self.selector.matches(labels)
    }
}
