//! Deleting: at once, gracefully, held by finalizers, and whole namespaces.

use pontoon_model::resource::{CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, PODS};
use serde_json::json;

use super::{bed, deployment, pod, refused};
use crate::options::{DeleteOptions, ListOptions, Patch, Propagation, Sub, WriteOptions};

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions { grace_seconds: Some(seconds), ..DeleteOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_no_node_has_goes_at_once() {
    let bed = bed().await;
    bed.make(PODS, pod("a")).await.unwrap();
    bed.remove(PODS, "a", &DeleteOptions::default()).await.unwrap();
    assert!(!bed.exists(PODS, "a").await);
    refused(bed.remove(PODS, "a", &DeleteOptions::default()).await, 404, "pods \"a\" not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_on_a_node_waits_for_the_node() {
    let bed = bed().await;
    bed.make(PODS, pod("a")).await.unwrap();
    bed.bind("default", "a", None, "n1").await.unwrap();
    let marked = bed.remove(PODS, "a", &DeleteOptions::default()).await.unwrap();
    assert_eq!(marked.meta.deletion_grace_period_seconds, Some(30));
    assert_eq!(marked.meta.generation, 2, "a deletion counts");
    let first = marked.meta.deletion_timestamp.unwrap();
    // Longer is no change, shorter is.
    let again = bed.remove(PODS, "a", &grace(60)).await.unwrap();
    assert_eq!(again.meta.resource_version, marked.meta.resource_version);
    let sooner = bed.remove(PODS, "a", &grace(5)).await.unwrap();
    assert_eq!(sooner.meta.deletion_grace_period_seconds, Some(5));
    assert!(sooner.meta.deletion_timestamp.unwrap() < first);
    // Nothing can be bound or un-deleted meanwhile.
    let mut value = bed.value(PODS, "a").await;
    value["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
    bed.put(PODS, "a", value, Sub::None).await.unwrap();
    assert!(bed.value(PODS, "a").await["metadata"]["deletionTimestamp"].is_string());
    bed.remove(PODS, "a", &grace(0)).await.unwrap();
    assert!(!bed.exists(PODS, "a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_has_ended_goes_at_once() {
    let bed = bed().await;
    bed.make(PODS, pod("a")).await.unwrap();
    bed.bind("default", "a", None, "n1").await.unwrap();
    bed.put(PODS, "a", json!({"status": {"phase": "Succeeded"}}), Sub::Status).await.unwrap();
    bed.evict("default", "a", &DeleteOptions::default()).await.unwrap();
    assert!(!bed.exists(PODS, "a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_hold_an_object() {
    let bed = bed().await;
    let body = json!({"metadata": {"name": "a", "finalizers": ["x.y/z"]}});
    bed.make(CONFIG_MAPS, body).await.unwrap();
    let held = bed.remove(CONFIG_MAPS, "a", &DeleteOptions::default()).await.unwrap();
    assert!(held.meta.is_terminating());
    let patch = |patch| Patch::Merge(patch);
    let options = WriteOptions::default();
    let more = patch(json!({"metadata": {"finalizers": ["x.y/z", "a.b/c"]}}));
    let answer = bed.patch(CONFIG_MAPS, Some("default"), "a", &more, Sub::None, &options).await;
    refused(answer, 422, "no new finalizers can be added");
    let none = patch(json!({"metadata": {"finalizers": null}}));
    bed.patch(CONFIG_MAPS, Some("default"), "a", &none, Sub::None, &options).await.unwrap();
    assert!(!bed.exists(CONFIG_MAPS, "a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn propagation_is_told_by_finalizers() {
    let bed = bed().await;
    for (propagation, finalizer) in
        [(Propagation::Foreground, "foregroundDeletion"), (Propagation::Orphan, "orphan")]
    {
        bed.make(DEPLOYMENTS, deployment("d")).await.unwrap();
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        let held = bed.remove(DEPLOYMENTS, "d", &options).await.unwrap();
        assert_eq!(held.meta.finalizers, [finalizer]);
        assert!(held.meta.is_terminating());
        // Another word is the last word.
        let background = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        bed.remove(DEPLOYMENTS, "d", &background).await.unwrap();
        assert!(!bed.exists(DEPLOYMENTS, "d").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn preconditions_of_a_deletion() {
    let bed = bed().await;
    let made = bed.make(CONFIG_MAPS, json!({"metadata": {"name": "a"}})).await.unwrap();
    let other = DeleteOptions { uid: Some("another".to_owned()), ..DeleteOptions::default() };
    refused(bed.remove(CONFIG_MAPS, "a", &other).await, 409, "Precondition failed: UID");
    let old = DeleteOptions { resource_version: Some(1), ..DeleteOptions::default() };
    refused(bed.remove(CONFIG_MAPS, "a", &old).await, 409, "Precondition failed: ResourceVersion");
    let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    bed.remove(CONFIG_MAPS, "a", &dry).await.unwrap();
    let right = DeleteOptions {
        uid: Some(made.meta.uid.clone()),
        resource_version: Some(made.meta.resource_version),
        ..DeleteOptions::default()
    };
    bed.remove(CONFIG_MAPS, "a", &right).await.unwrap();
    assert!(!bed.exists(CONFIG_MAPS, "a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_when_it_is_finalized() {
    let bed = bed().await;
    bed.make(NAMESPACES, json!({"metadata": {"name": "ns"}})).await.unwrap();
    let options = WriteOptions::default();
    bed.create(PODS, Some("ns"), pod("a"), &options).await.unwrap();
    let going = bed.remove(NAMESPACES, "ns", &DeleteOptions::default()).await.unwrap();
    assert_eq!(going.value().unwrap()["status"]["phase"], "Terminating");
    let late = bed.create(PODS, Some("ns"), pod("b"), &options).await;
    refused(late, 403, "because it is being terminated");
    // An ordinary update cannot take the finalizer away.
    bed.put(NAMESPACES, "ns", json!({"spec": {"finalizers": []}}), Sub::None).await.unwrap();
    assert!(bed.exists(NAMESPACES, "ns").await);
    let deleted = bed
        .delete_collection(PODS, Some("ns"), &ListOptions::default(), &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(deleted.items.len(), 1);
    bed.put(NAMESPACES, "ns", json!({"spec": {"finalizers": []}}), Sub::Finalize).await.unwrap();
    assert!(!bed.exists(NAMESPACES, "ns").await);
    let built_in = bed.remove(NAMESPACES, "default", &DeleteOptions::default()).await;
    refused(built_in, 403, "this namespace may not be deleted");
}
