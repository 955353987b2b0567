//! The cases of `testdata/defaults.yaml`, and properties.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::resource::{self, ALL};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    kind: String,
    /// The object without metadata.
    object: Value,
    /// What must be there afterwards; more may be.
    want: Value,
    #[serde(default)]
    absent: Vec<String>,
}

/// Whether everything in `want` is in `got`; lists must have the same length.
fn has(got: &Value, want: &Value) -> bool {
    match (got, want) {
        (Value::Object(got), Value::Object(want)) => {
            want.iter().all(|(k, w)| got.get(k).is_some_and(|g| has(g, w)))
        }
        (Value::Array(got), Value::Array(want)) => {
            got.len() == want.len() && got.iter().zip(want).all(|(g, w)| has(g, w))
        }
        (got, want) => got == want,
    }
}

fn check(case: &Case) {
    let resource = ALL.iter().find(|r| r.kind == case.kind).expect("a known kind");
    let mut got = case.object.clone();
    super::apply(resource, &mut got);
    assert!(has(&got, &case.want), "{}: {got:#}", case.name);
    for pointer in &case.absent {
        assert_eq!(got.pointer(pointer), None, "{}: {pointer}", case.name);
    }
    let once = got.clone();
    super::apply(resource, &mut got);
    assert_eq!(got, once, "{}: defaults are applied twice", case.name);
}

#[test]
fn cases() {
    let cases: Vec<Case> =
        serde_saphyr::from_str(include_str!("../../testdata/defaults.yaml")).unwrap();
    assert!(cases.len() > 10);
    cases.iter().for_each(check);
}

#[test]
fn quality_of_service() {
    let check = |containers: Value, want: &str| {
        assert_eq!(super::qos_class(&json!({ "containers": containers })), want);
    };
    let both = json!({"cpu": "1", "memory": "1Gi"});
    check(json!([{}]), "BestEffort");
    check(json!([{"resources": {"requests": {"cpu": "1"}}}]), "Burstable");
    check(json!([{"resources": {"requests": both, "limits": both}}]), "Guaranteed");
    check(json!([{"resources": {"requests": both, "limits": both}}, {}]), "Burstable");
    check(
        json!([{"resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": both}}]),
        "Guaranteed",
    );
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from),
    ];
    let key = proptest::sample::select(vec![
        "spec",
        "template",
        "containers",
        "ports",
        "strategy",
        "type",
        "rollingUpdate",
        "volumes",
        "resources",
        "limits",
        "requests",
        "data",
        "stringData",
        "metadata",
        "labels",
        "name",
        "httpGet",
        "livenessProbe",
        "serviceAccount",
        "projected",
        "sources",
    ]);
    leaf.prop_recursive(6, 64, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Nonsense neither breaks the defaults nor keeps them from settling.
    #[test]
    fn nonsense_is_survived(object in anything(), at in 0..ALL.len()) {
        let mut once = object;
        super::apply(ALL[at], &mut once);
        let mut twice = once.clone();
        super::apply(ALL[at], &mut twice);
        prop_assert_eq!(once, twice);
    }
}

#[test]
fn the_first_status_is_ours() {
    let mut pod = json!({"spec": {}, "status": {"phase": "Running"}});
    super::initial_status(resource::PODS, &mut pod);
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    let mut node = json!({"status": {"phase": "x"}});
    super::initial_status(resource::NODES, &mut node);
    assert_eq!(node, json!({"status": {"phase": "x"}}));
}
