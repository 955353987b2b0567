//! Requirements on labels: the compiled form of label selectors and of node selector terms.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NodeSelectorRequirement;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// What one label has to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
    /// An operator nobody knows or a bound that is no number: matches nothing.
    Never,
}

/// One label and its test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    pub key: String,
    pub test: Test,
}

impl Requirement {
    /// Compiles an operator as Kubernetes spells it.
    pub fn new(key: &str, operator: &str, values: Option<&Vec<String>>) -> Self {
        let listed = || values.cloned().unwrap_or_default();
        let number = || values.and_then(|v| v.first()).and_then(|v| v.parse::<i64>().ok());
        let test = match operator {
            "In" => Test::In(listed()),
            "NotIn" => Test::NotIn(listed()),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => number().map_or(Test::Never, Test::Gt),
            "Lt" => number().map_or(Test::Never, Test::Lt),
            _ => Test::Never,
        };
        Self { key: key.to_owned(), test }
    }

    /// Requires the label to have one value.
    pub fn equals(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), test: Test::In(vec![value.to_owned()]) }
    }

    /// Whether a label with this value, or without one, passes.
    pub fn accepts(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Test::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Gt(bound) => number().is_some_and(|n| n > *bound),
            Test::Lt(bound) => number().is_some_and(|n| n < *bound),
            Test::Never => false,
        }
    }
}

impl From<&NodeSelectorRequirement> for Requirement {
    fn from(r: &NodeSelectorRequirement) -> Self {
        Self::new(&r.key, &r.operator, r.values.as_ref())
    }
}

impl From<&LabelSelectorRequirement> for Requirement {
    fn from(r: &LabelSelectorRequirement) -> Self {
        Self::new(&r.key, &r.operator, r.values.as_ref())
    }
}

/// A label selector, compiled. One without requirements matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Matcher {
    pub requirements: Vec<Requirement>,
}

impl Matcher {
    /// A selector that is absent matches nothing, an empty one everything, as in Kubernetes.
    pub fn optional(selector: Option<&LabelSelector>) -> Self {
        selector.map_or_else(Self::nothing, Self::from)
    }

    /// The selector that no object passes.
    pub fn nothing() -> Self {
        Self { requirements: vec![Requirement { key: String::new(), test: Test::Never }] }
    }

    /// Whether these labels pass every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.accepts(labels.get(&r.key).map(String::as_str)))
    }
}

impl From<&LabelSelector> for Matcher {
    fn from(selector: &LabelSelector) -> Self {
        let equal = selector.match_labels.iter().flatten().map(|(k, v)| Requirement::equals(k, v));
        let rest = selector.match_expressions.iter().flatten().map(Requirement::from);
        Self { requirements: equal.chain(rest).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, op: &str, values: &[&str], labels: &[(&str, &str)], expected: bool) {
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        let labels: Labels =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let matcher = Matcher { requirements: vec![Requirement::new(key, op, Some(&values))] };
        assert_eq!(matcher.matches(&labels), expected, "{key} {op} {values:?} on {labels:?}");
    }

    #[test]
    fn operators_mean_what_kubernetes_says() {
        check("disk", "In", &["ssd", "nvme"], &[("disk", "nvme")], true);
        check("disk", "In", &["ssd"], &[], false);
        check("disk", "NotIn", &["ssd"], &[], true);
        check("disk", "NotIn", &["ssd"], &[("disk", "ssd")], false);
        check("disk", "Exists", &[], &[("disk", "")], true);
        check("disk", "DoesNotExist", &[], &[("disk", "")], false);
        check("cores", "Gt", &["8"], &[("cores", "9")], true);
        check("cores", "Gt", &["8"], &[("cores", "8")], false);
        check("cores", "Lt", &["8"], &[("cores", "many")], false);
        check("cores", "Lt", &["x"], &[("cores", "1")], false);
        check("cores", "Like", &["8"], &[("cores", "8")], false);
    }

    #[test]
    fn absent_matches_nothing_and_empty_everything() {
        assert!(!Matcher::optional(None).matches(&Labels::new()));
        assert!(Matcher::optional(Some(&LabelSelector::default())).matches(&Labels::new()));
    }
}
