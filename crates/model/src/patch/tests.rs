//! The cases of `testdata/patch.yaml`, and properties.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::resource::{self, ALL};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// `json`, `merge` or a kind, for a strategic merge patch of it.
    how: String,
    object: Value,
    patch: Value,
    #[serde(default)]
    want: Option<Value>,
    #[serde(default)]
    error: Option<String>,
}

fn apply(how: &str, object: &mut Value, patch: &Value) -> Result<(), super::PatchError> {
    match how {
        "json" => super::json(object, patch),
        "merge" => super::merge(object, patch),
        kind => {
            let resource = ALL.iter().find(|r| r.kind == kind).expect("a known kind");
            super::strategic(resource, object, patch)
        }
    }
}

fn check(case: &Case) {
    let mut got = case.object.clone();
    match (apply(&case.how, &mut got, &case.patch), &case.want, &case.error) {
        (Ok(()), Some(want), None) => assert_eq!(&got, want, "{}", case.name),
        (Err(error), None, Some(words)) => {
            let error = error.to_string();
            assert!(error.contains(words), "{}: {error}", case.name);
            assert_eq!(got, case.object, "{}: a refused patch changes nothing", case.name);
        }
        (result, _, _) => panic!("{}: {result:?}", case.name),
    }
}

#[test]
fn cases() {
    let cases: Vec<Case> =
        serde_saphyr::from_str(include_str!("../../testdata/patch.yaml")).unwrap();
    assert!(cases.len() > 20);
    cases.iter().for_each(check);
}

#[test]
fn copies_are_bounded() {
    let mut object = json!({"a": "x".repeat(1000)});
    let double = |i: usize| json!({"op": "copy", "from": "", "path": format!("/p{i}")});
    let patch = Value::Array((0..30).map(double).collect());
    assert!(matches!(super::json(&mut object, &patch), Err(super::PatchError::TooLarge { .. })));
    assert_eq!(object.as_object().unwrap().len(), 1);
}

fn containers() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-e]", 0..5)
        .prop_map(|set| set.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn pod(names: &[String]) -> Value {
    let containers: Vec<Value> = names.iter().map(|n| json!({"name": n, "image": "i"})).collect();
    json!({"spec": {"containers": containers}})
}

fn names(pod: &Value) -> Vec<String> {
    let containers = pod["spec"]["containers"].as_array().cloned().unwrap_or_default();
    containers.iter().map(|c| c["name"].as_str().unwrap_or_default().to_owned()).collect()
}

proptest! {
    /// The patch that kubectl makes of two lists leads from the one to the other.
    #[test]
    fn order_and_deletions_lead_to_the_wanted_list(old in containers(), new in containers()) {
        let order: Vec<Value> = new.iter().map(|n| json!({"name": n})).collect();
        let gone = old.iter().filter(|n| !new.contains(n)).map(|n| json!({"$patch": "delete", "name": n}));
        let come = new.iter().filter(|n| !old.contains(n)).map(|n| json!({"name": n, "image": "i"}));
        let items: Vec<Value> = come.chain(gone).collect();
        let patch = json!({"spec": {"containers": items, "$setElementOrder/containers": order}});
        let mut object = pod(&old);
        super::strategic(resource::PODS, &mut object, &patch).unwrap();
        prop_assert_eq!(names(&object), new);
    }

    /// Applied twice, a patch does what it did once.
    #[test]
    fn strategic_patches_are_idempotent(old in containers(), add in containers()) {
        let patch = pod(&add);
        let mut once = pod(&old);
        super::strategic(resource::PODS, &mut once, &patch).unwrap();
        let mut twice = once.clone();
        super::strategic(resource::PODS, &mut twice, &patch).unwrap();
        prop_assert_eq!(once, twice);
    }
}
