//! Watches and informers.

use std::collections::BTreeMap;

use pontoon_model::resource::{CONFIG_MAPS, NAMESPACES, PODS, SERVICES};
use pontoon_model::selector::{FieldSelector, LabelSelector};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Bed, bed, pod};
use crate::options::{DeleteOptions, Patch, Sub, WatchOptions, WriteOptions};
use crate::{Informer, ObjectWatch, Update, WatchEvent};

fn said(event: &WatchEvent) -> String {
    let (word, object) = match event {
        WatchEvent::Added(o) => ("added", o),
        WatchEvent::Modified(o) => ("modified", o),
        WatchEvent::Deleted(o) => ("deleted", o),
        WatchEvent::Bookmark(_) => return "bookmark".to_owned(),
    };
    format!("{word} {}", object.meta.name)
}

async fn next(watch: &mut ObjectWatch) -> String {
    said(&watch.next().await.expect("the watch goes on").expect("no error"))
}

async fn map(bed: &Bed, name: &str) -> u64 {
    let body = json!({"metadata": {"name": name}});
    bed.make(CONFIG_MAPS, body).await.unwrap().meta.resource_version
}

async fn label(bed: &Bed, name: &str, labels: Value) {
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    let options = WriteOptions::default();
    bed.patch(CONFIG_MAPS, Some("default"), name, &patch, Sub::None, &options).await.unwrap();
}

fn after(revision: u64) -> WatchOptions {
    WatchOptions { resource_version: Some(revision), ..WatchOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_is_and_what_becomes() {
    let bed = bed().await;
    map(&bed, "a").await;
    let mut watch = bed.watch(CONFIG_MAPS, Some("default"), WatchOptions::default()).await.unwrap();
    assert_eq!(next(&mut watch).await, "added a");
    map(&bed, "b").await;
    label(&bed, "a", json!({"x": "y"})).await;
    let last = bed.remove(CONFIG_MAPS, "a", &DeleteOptions::default()).await.unwrap();
    assert_eq!(next(&mut watch).await, "added b");
    assert_eq!(next(&mut watch).await, "modified a");
    let Some(Ok(WatchEvent::Deleted(gone))) = watch.next().await else { panic!("a deletion") };
    assert_eq!(gone.meta.labels["x"], "y", "the last state");
    assert_eq!(gone.meta.resource_version, last.meta.resource_version, "at its deletion");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_told_from_before_the_hub_began() {
    let bed = bed().await;
    let first = map(&bed, "a").await;
    for name in ["b", "c"] {
        map(&bed, name).await;
    }
    // Nobody watched until now: this is the store's history, and then the hub.
    let mut watch = bed.watch(CONFIG_MAPS, None, after(first)).await.unwrap();
    assert_eq!(next(&mut watch).await, "added b");
    assert_eq!(next(&mut watch).await, "added c");
    map(&bed, "d").await;
    assert_eq!(next(&mut watch).await, "added d");
    // And this is the hub's memory.
    let mut again = bed.watch(CONFIG_MAPS, None, after(first + 2)).await.unwrap();
    assert_eq!(next(&mut again).await, "added d");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compacted_is_gone() {
    let bed = bed().await;
    let first = map(&bed, "a").await;
    map(&bed, "b").await;
    map(&bed, "c").await;
    bed.store().compact(bed.store().revision()).await.unwrap();
    let error = bed.watch(CONFIG_MAPS, None, after(first)).await.unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (410, "Expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_make_changes_appear_and_vanish() {
    let bed = bed().await;
    let from = map(&bed, "a").await;
    let options =
        WatchOptions { labels: Some(LabelSelector::parse("x=y").unwrap()), ..after(from) };
    let mut watch = bed.watch(CONFIG_MAPS, None, options).await.unwrap();
    label(&bed, "a", json!({"x": "z"})).await;
    label(&bed, "a", json!({"x": "y"})).await;
    label(&bed, "a", json!({"x": "y", "more": ""})).await;
    label(&bed, "a", json!({"x": null})).await;
    label(&bed, "a", json!({"x": "y"})).await;
    bed.remove(CONFIG_MAPS, "a", &DeleteOptions::default()).await.unwrap();
    for wanted in ["added a", "modified a", "deleted a", "added a", "deleted a"] {
        assert_eq!(next(&mut watch).await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_follows_its_own_pods() {
    let bed = bed().await;
    let options = WatchOptions {
        fields: Some(FieldSelector::equal("spec.nodeName", "n1")),
        ..after(bed.store().revision())
    };
    let mut watch = bed.watch(PODS, None, options).await.unwrap();
    for (name, node) in [("a", "n2"), ("b", "n1"), ("c", "n1")] {
        bed.make(PODS, pod(name)).await.unwrap();
        bed.bind("default", name, None, node).await.unwrap();
    }
    let now = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    bed.remove(PODS, "b", &now).await.unwrap();
    for wanted in ["added b", "added c", "deleted b"] {
        assert_eq!(next(&mut watch).await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn initial_events_end_with_a_bookmark() {
    let bed = bed().await;
    map(&bed, "a").await;
    let options = WatchOptions { send_initial: true, bookmarks: true, ..WatchOptions::default() };
    let mut watch = bed.watch(CONFIG_MAPS, None, options).await.unwrap();
    assert_eq!(next(&mut watch).await, "added a");
    let Some(Ok(WatchEvent::Bookmark(end))) = watch.next().await else { panic!("a bookmark") };
    assert_eq!(
        end.value().unwrap()["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(end.meta.resource_version, bed.store().revision());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_limited_time_ends() {
    let bed = bed().await;
    let options =
        WatchOptions { timeout: Some(std::time::Duration::ZERO), ..after(bed.store().revision()) };
    let mut watch = bed.watch(SERVICES, None, options).await.unwrap();
    assert!(watch.next().await.is_none());
    assert!(watch.next().await.is_none());
}

/// A follower that does not take its changes falls out of the hub, and misses nothing all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_follower_misses_nothing() {
    let bed = bed().await;
    let from = map(&bed, "a").await;
    let mut slow = bed.watch(CONFIG_MAPS, None, after(from)).await.unwrap();
    let mut quick = bed.watch(CONFIG_MAPS, None, after(from)).await.unwrap();
    const WRITES: usize = 1500;
    for i in 0..WRITES {
        label(&bed, "a", json!({"i": i.to_string()})).await;
        assert_eq!(next(&mut quick).await, "modified a");
    }
    for i in 0..WRITES {
        let Some(Ok(WatchEvent::Modified(object))) = slow.next().await else {
            panic!("change {i}")
        };
        assert_eq!(object.meta.labels["i"], i.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_informer_gives_a_whole_picture_and_then_the_changes() {
    let bed = bed().await;
    map(&bed, "a").await;
    let stop = CancellationToken::new();
    let mut informer = Informer::start(&bed, &[CONFIG_MAPS, NAMESPACES], stop.clone());
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    loop {
        match informer.next().await.expect("updates") {
            Update::Synced => break,
            Update::Change(change) => {
                seen.insert(change.name, change.object.is_some());
            }
        }
    }
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "default", "kube-node-lease", "kube-public", "kube-system"]);
    map(&bed, "b").await;
    bed.remove(CONFIG_MAPS, "a", &DeleteOptions::default()).await.unwrap();
    for (wanted, there) in [("b", true), ("a", false)] {
        let Some(Update::Change(change)) = informer.next().await else { panic!("a change") };
        assert_eq!((change.name.as_str(), change.object.is_some()), (wanted, there));
    }
    stop.cancel();
    assert!(informer.next().await.is_none());
}

/// A view kept up by a watch is the list, whatever happened and wherever the watch began.
#[tokio::test(flavor = "multi_thread")]
async fn views_kept_up_by_watches_are_the_list() {
    let bed = bed().await;
    let selector = LabelSelector::parse("x=1").unwrap();
    let listed = crate::ListOptions { labels: Some(selector.clone()), ..Default::default() };
    let mut views: Vec<(BTreeMap<String, u64>, ObjectWatch)> = Vec::new();
    let mut seed: u64 = 0x5eed;
    for step in 0..400_u32 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (name, choice) = (format!("m{}", (seed >> 33) % 6), (seed >> 40) % 5);
        let there = bed.exists(CONFIG_MAPS, &name).await;
        match (there, choice) {
            (false, _) => drop(map(&bed, &name).await),
            (true, 0) => {
                drop(bed.remove(CONFIG_MAPS, &name, &DeleteOptions::default()).await.unwrap())
            }
            (true, x) => {
                label(&bed, &name, json!({"x": (x % 2).to_string(), "n": step.to_string()})).await
            }
        }
        if step % 40 == 0 {
            let list = bed.list(CONFIG_MAPS, None, &listed).await.unwrap();
            let revision = list.revision;
            let view = list.items.iter().map(|o| (o.meta.name.clone(), o.meta.resource_version));
            let options = WatchOptions { labels: Some(selector.clone()), ..after(revision) };
            let watch = bed.watch(CONFIG_MAPS, None, options).await.unwrap();
            views.push((view.collect(), watch));
        }
    }
    // The last change, which every watch must tell.
    map(&bed, "end").await;
    label(&bed, "end", json!({"x": "1"})).await;
    let list = bed.list(CONFIG_MAPS, None, &listed).await.unwrap();
    let wanted: BTreeMap<String, u64> =
        list.items.iter().map(|o| (o.meta.name.clone(), o.meta.resource_version)).collect();
    for (mut view, mut watch) in views {
        while !view.contains_key("end") {
            let name = |o: &pontoon_model::object::Object| o.meta.name.clone();
            match watch.next().await.unwrap().unwrap() {
                WatchEvent::Added(o) => {
                    assert_eq!(view.insert(name(&o), o.meta.resource_version), None, "added anew");
                }
                WatchEvent::Modified(o) => {
                    let before = view.insert(name(&o), o.meta.resource_version);
                    assert!(before.is_some_and(|r| r < o.meta.resource_version), "in order");
                }
                WatchEvent::Deleted(o) => assert!(view.remove(&name(&o)).is_some(), "was there"),
                WatchEvent::Bookmark(_) => {}
            }
        }
        assert_eq!(view, wanted);
    }
}
