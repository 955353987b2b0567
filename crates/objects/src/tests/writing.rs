//! Creating, replacing and patching.

use pontoon_model::names::NAMESPACES_BUILT_IN;
use pontoon_model::resource::{
    CONFIG_MAPS, DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS,
};
use serde_json::json;

use super::{bed, deployment, pod, refused};
use crate::options::{FieldValidation, Patch, Sub, WriteOptions};
use crate::scale_of;

#[tokio::test(flavor = "multi_thread")]
async fn a_created_object_is_completed() {
    let bed = bed().await;
    let mut body = pod("a");
    body["status"] = json!({"phase": "Running"});
    body["spec"]["futureField"] = json!({"kept": true});
    let made = bed.make(PODS, body).await.unwrap();
    let value = bed.value(PODS, "a").await;
    assert_eq!(value, made.value().unwrap());
    assert_eq!(value["metadata"]["namespace"], "default");
    assert_eq!(value["metadata"]["generation"], 1);
    assert_eq!(value["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert_eq!(value["status"]["phase"], "Pending");
    assert_eq!(value["spec"]["restartPolicy"], "Always");
    assert_eq!(value["spec"]["futureField"], json!({"kept": true}));
    refused(bed.make(PODS, pod("a")).await, 409, "pods \"a\" already exists");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_creation_is_said() {
    let bed = bed().await;
    let options = WriteOptions::default();
    refused(
        bed.make(PODS, json!({"metadata": {"name": "a"}})).await,
        422,
        "Pod \"a\" is invalid: spec: Required value",
    );
    refused(bed.make(PODS, json!([1])).await, 400, "not a JSON object");
    refused(bed.make(PODS, json!({"metadata": 5})).await, 400, "metadata must be");
    refused(bed.make(PODS, json!({"kind": "Service"})).await, 400, "kind in the object (Service)");
    let mut elsewhere = pod("a");
    elsewhere["metadata"]["namespace"] = json!("other");
    refused(bed.make(PODS, elsewhere).await, 400, "does not match the namespace");
    let mut old = pod("a");
    old["metadata"]["resourceVersion"] = json!("5");
    refused(bed.make(PODS, old).await, 400, "resourceVersion should not be set");
    let nowhere = bed.create(PODS, Some("nowhere"), pod("a"), &options).await;
    refused(nowhere, 404, "namespaces \"nowhere\" not found");
    let mut typo = pod("a");
    typo["spec"]["containrs"] = json!([]);
    let strict = WriteOptions { field_validation: FieldValidation::Strict, ..options };
    let answer = bed.create(PODS, Some("default"), typo, &strict).await;
    refused(answer, 400, "strict decoding error: unknown field \"spec.containrs\"");
    let large = json!({"metadata": {"name": "l", "annotations": {"a": "x".repeat(200_000)}}, "x": "y".repeat(1_500_000)});
    refused(bed.make(CONFIG_MAPS, large).await, 413, "limit is 1572864");
    assert!(!bed.exists(PODS, "a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_generated() {
    let bed = bed().await;
    let mut body = pod("");
    body["metadata"] = json!({"generateName": "web-"});
    let one = bed.make(PODS, body.clone()).await.unwrap();
    let two = bed.make(PODS, body).await.unwrap();
    assert!(one.meta.name.starts_with("web-") && one.meta.name.len() == 9);
    assert_ne!(one.meta.name, two.meta.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing() {
    let bed = bed().await;
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let before = bed.store().revision();
    bed.create(PODS, Some("default"), pod("a"), &dry).await.unwrap();
    assert!(!bed.exists(PODS, "a").await);
    assert_eq!(bed.store().revision(), before);
    bed.make(PODS, pod("a")).await.unwrap();
    refused(bed.create(PODS, Some("default"), pod("a"), &dry).await, 409, "already exists");
    let patch = Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}}));
    let would = bed.patch(PODS, Some("default"), "a", &patch, Sub::None, &dry).await.unwrap();
    assert_eq!(would.meta.labels["x"], "y");
    assert!(bed.value(PODS, "a").await["metadata"].get("labels").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_an_old_version_is_refused() {
    let bed = bed().await;
    bed.make(CONFIG_MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "1"}})).await.unwrap();
    let first = bed.value(CONFIG_MAPS, "a").await;
    let mut second = first.clone();
    second["data"]["k"] = json!("2");
    bed.put(CONFIG_MAPS, "a", second, Sub::None).await.unwrap();
    refused(
        bed.put(CONFIG_MAPS, "a", first.clone(), Sub::None).await,
        409,
        "the object has been modified",
    );
    let mut blind = first.clone();
    blind["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    bed.put(CONFIG_MAPS, "a", blind.clone(), Sub::None).await.unwrap();
    assert_eq!(bed.value(CONFIG_MAPS, "a").await["data"]["k"], "1");
    blind["metadata"]["uid"] = json!("another");
    refused(bed.put(CONFIG_MAPS, "a", blind, Sub::None).await, 409, "UID in precondition");
    refused(bed.put(CONFIG_MAPS, "b", first.clone(), Sub::None).await, 404, "not found");
    let mut renamed = first;
    renamed["metadata"]["name"] = json!("c");
    refused(bed.put(CONFIG_MAPS, "a", renamed, Sub::None).await, 400, "does not match the name");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_changes_nothing_writes_nothing() {
    let bed = bed().await;
    let made = bed.make(DEPLOYMENTS, deployment("d")).await.unwrap();
    let again = bed.put(DEPLOYMENTS, "d", deployment("d"), Sub::None).await.unwrap();
    assert_eq!(again.meta.resource_version, made.meta.resource_version);
}

#[tokio::test(flavor = "multi_thread")]
async fn specification_and_status_are_kept_apart() {
    let bed = bed().await;
    bed.make(DEPLOYMENTS, deployment("d")).await.unwrap();
    let mut value = bed.value(DEPLOYMENTS, "d").await;
    value["spec"]["replicas"] = json!(5);
    value["status"] = json!({"replicas": 3});
    let mut stated = value.clone();
    bed.put(DEPLOYMENTS, "d", value, Sub::None).await.unwrap();
    let now = bed.value(DEPLOYMENTS, "d").await;
    assert_eq!((&now["spec"]["replicas"], &now["status"]), (&json!(5), &json!({})));
    assert_eq!(now["metadata"]["generation"], 2);
    stated["spec"]["replicas"] = json!(9);
    stated["metadata"]["resourceVersion"] = json!("0");
    bed.put(DEPLOYMENTS, "d", stated, Sub::Status).await.unwrap();
    let now = bed.value(DEPLOYMENTS, "d").await;
    assert_eq!((&now["spec"]["replicas"], &now["status"]), (&json!(5), &json!({"replicas": 3})));
    assert_eq!(now["metadata"]["generation"], 2);
    refused(bed.put(CONFIG_MAPS, "x", json!({}), Sub::Status).await, 404, "could not find");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scale_of_a_deployment() {
    let bed = bed().await;
    bed.make(DEPLOYMENTS, deployment("d")).await.unwrap();
    let mut scale = bed.scale(DEPLOYMENTS, "default", "d").await.unwrap();
    assert_eq!(scale["spec"]["replicas"], 1);
    assert_eq!(scale["status"]["selector"], "a=b");
    scale["spec"]["replicas"] = json!(4);
    let scaled = bed.put(DEPLOYMENTS, "d", scale.clone(), Sub::Scale).await.unwrap();
    assert_eq!(scale_of(&scaled).unwrap()["spec"]["replicas"], 4);
    assert_eq!(scaled.meta.generation, 2);
    refused(bed.put(DEPLOYMENTS, "d", scale, Sub::Scale).await, 409, "has been modified");
    let negative = json!({"spec": {"replicas": -1}});
    refused(
        bed.put(DEPLOYMENTS, "d", negative, Sub::Scale).await,
        422,
        "greater than or equal to 0",
    );
    let patch = Patch::Merge(json!({"spec": {"replicas": 2}}));
    let options = WriteOptions::default();
    bed.patch(DEPLOYMENTS, Some("default"), "d", &patch, Sub::Scale, &options).await.unwrap();
    assert_eq!(bed.value(DEPLOYMENTS, "d").await["spec"]["replicas"], 2);
    assert_eq!(bed.scale(PODS, "default", "d").await.unwrap_err().code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_all_languages() {
    let bed = bed().await;
    bed.make(DEPLOYMENTS, deployment("d")).await.unwrap();
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}});
    let patches = [
        Patch::Strategic(image),
        Patch::Json(json!([{"op": "replace", "path": "/spec/replicas", "value": 7}])),
        Patch::Merge(json!({"metadata": {"annotations": {"x": "y"}}})),
    ];
    let options = WriteOptions::default();
    for patch in &patches {
        bed.patch(DEPLOYMENTS, Some("default"), "d", patch, Sub::None, &options).await.unwrap();
    }
    let value = bed.value(DEPLOYMENTS, "d").await;
    assert_eq!(value["spec"]["template"]["spec"]["containers"][0]["image"], "j");
    assert_eq!(value["spec"]["replicas"], 7);
    assert_eq!(value["metadata"]["annotations"]["x"], "y");
    assert_eq!(value["metadata"]["generation"], 3);
    let wrong = Patch::Json(json!([{"op": "test", "path": "/spec/replicas", "value": 1}]));
    let answer = bed.patch(DEPLOYMENTS, Some("default"), "d", &wrong, Sub::None, &options).await;
    refused(answer, 422, "the server rejected our request");
    let stale = Patch::Merge(json!({"metadata": {"resourceVersion": "1"}}));
    let answer = bed.patch(DEPLOYMENTS, Some("default"), "d", &stale, Sub::None, &options).await;
    refused(answer, 409, "has been modified");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_patches_all_count() {
    let bed = bed().await;
    bed.make(CONFIG_MAPS, json!({"metadata": {"name": "a"}})).await.unwrap();
    let writers = (0..8).map(|i| {
        let objects = bed.objects.clone();
        async move {
            let patch = Patch::Merge(json!({"data": {format!("k{i}"): "v"}}));
            let options = WriteOptions::default();
            objects.patch(CONFIG_MAPS, Some("default"), "a", &patch, Sub::None, &options).await
        }
    });
    for result in futures::future::join_all(writers).await {
        result.unwrap();
    }
    assert_eq!(bed.value(CONFIG_MAPS, "a").await["data"].as_object().unwrap().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_bound_once() {
    let bed = bed().await;
    bed.make(PODS, pod("a")).await.unwrap();
    refused(bed.bind("default", "a", Some("another"), "n1").await, 409, "UID in precondition");
    let bound = bed.bind("default", "a", None, "n1").await.unwrap();
    assert_eq!(bound.field("spec.nodeName"), "n1");
    assert_eq!(bound.value().unwrap()["status"]["conditions"][0]["type"], "PodScheduled");
    refused(bed.bind("default", "a", None, "n2").await, 409, "is already assigned to node \"n1\"");
    refused(bed.bind("default", "b", None, "n1").await, 404, "not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_live_on_a_lease_and_keep_it() {
    let bed = bed().await;
    let event = json!({
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
        "reason": "Started",
        "count": 1,
    });
    let made = bed.make(EVENTS, event).await.unwrap();
    let patch = Patch::Merge(json!({"count": 2}));
    let options = WriteOptions::default();
    bed.patch(EVENTS, Some("default"), "e", &patch, Sub::None, &options).await.unwrap();
    let kv = bed.key_value(made.key(), pontoon_store::Read::Linearizable).await.unwrap().unwrap();
    assert_ne!(kv.lease, 0);
    let lease = bed.store().lease_status(kv.lease).await.unwrap();
    assert_eq!(lease.keys, std::slice::from_ref(&kv.key));
    bed.store().lease_revoke(kv.lease).await.unwrap();
    assert!(!bed.exists(EVENTS, "e").await);
    // The lease that was in use is gone; the next event gets another.
    let event = json!({"metadata": {"name": "f"}, "involvedObject": {"namespace": "default"}});
    bed.make(EVENTS, event).await.unwrap();
    assert!(bed.exists(EVENTS, "f").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_lead_nowhere() {
    let bed = bed().await;
    for name in ["", "a/b", "../x"] {
        let answer = bed.get(PODS, Some("default"), name).await;
        assert!(answer.is_err_and(|s| s.is_not_found()), "{name}");
    }
    assert!(bed.get(PODS, Some("default/x"), "a").await.is_err());
    let made = bed
        .make(NODES, json!({"metadata": {"name": "n1"}, "status": {"phase": "x"}}))
        .await
        .unwrap();
    assert_eq!(made.value().unwrap()["status"]["phase"], "x", "nodes bring their status");
    for name in NAMESPACES_BUILT_IN {
        assert!(bed.exists(NAMESPACES, name).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_the_pull_secrets_of_its_account() {
    let bed = bed().await;
    let secrets = |name: &str| json!([{"name": name}]);
    // The account `default` is not there yet.
    let early = bed.make(PODS, pod("early")).await.unwrap().value().unwrap();
    assert!(early["spec"].get("imagePullSecrets").is_none());
    let account = |name: &str, secret: &str| json!({"metadata": {"name": name}, "imagePullSecrets": secrets(secret)});
    bed.make(SERVICE_ACCOUNTS, account("default", "of-default")).await.unwrap();
    bed.make(SERVICE_ACCOUNTS, account("other", "of-other")).await.unwrap();
    let made = async |name: &str, spec: serde_json::Value| {
        let mut body = pod(name);
        body["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        bed.make(PODS, body).await
    };
    for (name, spec, want) in [
        ("a", json!({}), "of-default"),
        ("b", json!({"serviceAccountName": "other"}), "of-other"),
        ("c", json!({"imagePullSecrets": secrets("own")}), "own"),
    ] {
        let made = made(name, spec).await.unwrap().value().unwrap();
        assert_eq!(made["spec"]["imagePullSecrets"], secrets(want), "{name}");
    }
    refused(
        made("d", json!({"serviceAccountName": "none"})).await,
        403,
        "error looking up service account default/none: serviceaccounts \"none\" not found",
    );
}
