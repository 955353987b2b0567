//! The cases of `testdata/validation.yaml` and of `testdata/selectors.yaml`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::object::Object;
use crate::resource::{self, ALL};
use crate::selector::{FieldSelector, LabelSelector};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    kind: String,
    /// Merged over an object of the kind that is valid.
    #[serde(default)]
    with: Value,
    /// Merged over that, for an update.
    #[serde(default)]
    then: Option<Value>,
    /// Each fault, as "field: words"; the words may be cut short.
    #[serde(default)]
    faults: Vec<String>,
}

/// An object of each kind that nothing is wrong with.
fn valid(kind: &str) -> Value {
    let containers = json!([{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}});
    let workload = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let mut object = match kind {
        "Pod" => json!({"spec": {"containers": containers}}),
        "Deployment" | "ReplicaSet" | "DaemonSet" => json!({"spec": workload}),
        "Service" => json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}),
        "ControllerRevision" => json!({"data": {"spec": {}}, "revision": 1}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": []}),
        "Event" => json!({"involvedObject": {"namespace": "n"}}),
        _ => json!({}),
    };
    let resource = ALL.iter().find(|r| r.kind == kind).expect("a known kind");
    object["metadata"] = json!({"name": "x"});
    if resource.namespaced {
        object["metadata"]["namespace"] = json!("n");
    }
    object
}

/// What is not as the case says.
fn check(case: &Case) -> Option<String> {
    let resource = ALL.iter().find(|r| r.kind == case.kind).expect("a known kind");
    let mut object = valid(&case.kind);
    if case.with.is_object() {
        json_patch::merge(&mut object, &case.with);
    }
    crate::defaults::apply(resource, &mut object);
    let found = match &case.then {
        None => super::create(resource, &object),
        Some(change) => {
            let mut new = object.clone();
            json_patch::merge(&mut new, change);
            crate::defaults::apply(resource, &mut new);
            super::update(resource, &new, &object)
        }
    };
    let found: Vec<String> = match found {
        Ok(errors) => errors.iter().map(|e| format!("{}: {}", e.field, e.detail)).collect(),
        Err(error) => vec![error.to_string()],
    };
    let all = found.len() == case.faults.len()
        && found.iter().zip(&case.faults).all(|(f, want)| f.starts_with(want.as_str()));
    (!all).then(|| format!("{}: wanted {:#?}, found {found:#?}", case.name, case.faults))
}

#[test]
fn cases() {
    let cases: Vec<Case> =
        serde_saphyr::from_str(include_str!("../../testdata/validation.yaml")).unwrap();
    assert!(cases.len() > 50);
    let wrong: Vec<String> = cases.iter().filter_map(check).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_valid_is_valid() {
    for resource in ALL {
        let case = Case {
            name: resource.kind.to_owned(),
            kind: resource.kind.to_owned(),
            with: Value::Null,
            then: None,
            faults: Vec::new(),
        };
        assert_eq!(check(&case), None);
        let then = Some(json!({"metadata": {"labels": {"x": "y"}}}));
        assert_eq!(check(&Case { then, ..case }), None);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectorCase {
    selector: String,
    #[serde(default)]
    labels: Option<Vec<BTreeMap<String, String>>>,
    /// Those of the labels that match, by index.
    #[serde(default)]
    matches: Vec<usize>,
    #[serde(default)]
    error: Option<String>,
}

#[test]
fn label_selectors() {
    let cases: Vec<SelectorCase> =
        serde_saphyr::from_str(include_str!("../../testdata/selectors.yaml")).unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        match (LabelSelector::parse(&case.selector), &case.error) {
            (Err(error), Some(words)) => {
                assert!(error.to_string().contains(words), "{}: {error}", case.selector);
            }
            (Ok(selector), None) => {
                let labels = case.labels.unwrap_or_default();
                let matching = labels.iter().enumerate().filter(|(_, l)| selector.matches(l));
                let matching: Vec<usize> = matching.map(|(i, _)| i).collect();
                assert_eq!(matching, case.matches, "{}", case.selector);
                let again = LabelSelector::parse(&selector.to_string());
                assert_eq!(again.as_ref(), Ok(&selector), "{}", case.selector);
            }
            (result, _) => panic!("{}: {result:?}", case.selector),
        }
    }
}

#[test]
fn field_selectors() {
    let pod = json!({
        "metadata": {"name": "a,b", "namespace": "n", "uid": "u"},
        "spec": {"nodeName": "one"},
        "status": {"phase": "Running"},
    });
    let pod = Object::from_value(resource::PODS, pod, 1).unwrap();
    let check = |text: &str, matches: bool| {
        let selector = FieldSelector::parse(text).unwrap();
        assert_eq!(selector.check(resource::PODS), Ok(()), "{text}");
        assert_eq!(selector.matches(&pod), matches, "{text}");
        assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector), "{text}");
    };
    check("", true);
    check("spec.nodeName=one", true);
    check("spec.nodeName==one,status.phase!=Running", false);
    check("status.phase!=Failed,status.phase!=Succeeded", true);
    check("metadata.name=a\\,b", true);
    check("spec.hostNetwork=false,metadata.namespace=n", true);
    check("status.podIP=", true);
    for text in ["spec.nodeName", "=x", "a=b=c", "a=b\\", "! =", "a!!=b"] {
        assert!(FieldSelector::parse(text).is_err(), "{text}");
    }
    let other = FieldSelector::parse("spec.containers=x").unwrap();
    assert!(other.check(resource::PODS).is_err());
}

proptest! {
    #[test]
    fn no_selector_breaks_the_parser(text in "[a-z!=<>(), /.]{0,20}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
        }
    }

    /// A name that is a DNS label can be used everywhere.
    #[test]
    fn labels_are_names(text in "[a-z]([-a-z0-9]{0,61}[a-z0-9])?") {
        use super::name::{dns_label, dns_label_1035, dns_subdomain, label_value, qualified_name};
        for rule in [dns_label, dns_label_1035, dns_subdomain, label_value, qualified_name] {
            prop_assert_eq!(rule(&text), Vec::<String>::new());
        }
    }
}
