//! When a pod leaves a tainted node.

use pontoon_model::resource;
use serde_json::{Value, json};

use super::{ago, now, put, read};
use crate::cache::Cache;
use crate::key::Key;
use crate::plan::Action;
use crate::taint_eviction::reconcile;

fn outcome(taint: &str, age: i64, tolerations: Value) -> String {
    let mut cache = Cache::default();
    let taint = json!({"key": taint, "effect": "NoExecute", "timeAdded": ago(age)});
    let node = json!({"metadata": {"name": "n", "uid": "n"}, "spec": {"taints": [taint]}});
    put(&mut cache, resource::NODES, node, 1);
    put(
        &mut cache,
        resource::PODS,
        json!({
            "metadata": {"name": "p", "namespace": "default", "uid": "p"},
            "spec": {"nodeName": "n", "containers": [], "tolerations": tolerations},
        }),
        2,
    );
    let plan = reconcile(now(), &Key::new(resource::PODS, Some("default"), "p"), &cache);
    match (plan.actions.as_slice(), plan.requeue_after) {
        ([], None) => "stays".to_owned(),
        ([], Some(after)) => format!("{}s", after.as_secs()),
        ([Action::Delete { uid, .. }, Action::Event { .. }], None) if uid == "p" => {
            "goes".to_owned()
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn eviction() {
    for line in read("eviction").concat() {
        let (given, expected) = line.split_once(" => ").unwrap();
        let mut words = given.splitn(3, ' ');
        let (taint, age) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        let tolerations = serde_json::from_str(words.next().unwrap()).unwrap();
        assert_eq!(outcome(taint, age, tolerations), expected, "{line}");
    }
}
