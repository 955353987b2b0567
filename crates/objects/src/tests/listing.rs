//! Lists: parts of one revision, selectors, freshness.

use pontoon_model::resource::{CONFIG_MAPS, PODS, SERVICES};
use pontoon_model::selector::{FieldSelector, LabelSelector};
use serde_json::json;

use super::{Bed, bed, pod};
use crate::list::List;
use crate::options::{DeleteOptions, ListOptions, VersionMatch};

async fn ten(bed: &Bed) {
    for i in 0..10 {
        let parity = if i % 2 == 0 { "even" } else { "odd" };
        let body = json!({"metadata": {"name": format!("c{i}"), "labels": {"parity": parity}}});
        bed.make(CONFIG_MAPS, body).await.unwrap();
    }
}

fn names(list: &List) -> Vec<&str> {
    list.items.iter().map(|o| o.meta.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_of_one_revision() {
    let bed = bed().await;
    ten(&bed).await;
    let mut options = ListOptions { limit: 4, ..ListOptions::default() };
    let first = bed.list(CONFIG_MAPS, Some("default"), &options).await.unwrap();
    assert_eq!(names(&first), ["c0", "c1", "c2", "c3"]);
    assert_eq!(first.remaining, Some(6));
    // What happens in between is not seen.
    bed.remove(CONFIG_MAPS, "c9", &DeleteOptions::default()).await.unwrap();
    bed.make(CONFIG_MAPS, json!({"metadata": {"name": "c5a"}})).await.unwrap();
    options.continue_token = first.continue_token.clone();
    let second = bed.list(CONFIG_MAPS, Some("default"), &options).await.unwrap();
    assert_eq!(names(&second), ["c4", "c5", "c6", "c7"]);
    options.continue_token = second.continue_token.clone();
    let third = bed.list(CONFIG_MAPS, Some("default"), &options).await.unwrap();
    assert_eq!(names(&third), ["c8", "c9"]);
    assert_eq!((third.continue_token, third.revision), (None, first.revision));
    assert_eq!(bed.list(SERVICES, None, &options).await.unwrap_err().code, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_what_was_compacted_is_gone() {
    let bed = bed().await;
    ten(&bed).await;
    let mut options = ListOptions { limit: 4, ..ListOptions::default() };
    let first = bed.list(CONFIG_MAPS, None, &options).await.unwrap();
    bed.make(CONFIG_MAPS, json!({"metadata": {"name": "x"}})).await.unwrap();
    bed.store().compact(bed.store().revision()).await.unwrap();
    options.continue_token = first.continue_token;
    let error = bed.list(CONFIG_MAPS, None, &options).await.unwrap_err();
    assert!(error.is_gone() && error.reason == "Expired", "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_choose() {
    let bed = bed().await;
    ten(&bed).await;
    let odd = ListOptions {
        labels: Some(LabelSelector::parse("parity=odd").unwrap()),
        ..ListOptions::default()
    };
    let list = bed.list(CONFIG_MAPS, None, &odd).await.unwrap();
    assert_eq!(names(&list), ["c1", "c3", "c5", "c7", "c9"]);
    let mut limited = ListOptions { limit: 2, ..odd.clone() };
    let mut all = Vec::new();
    loop {
        let part = bed.list(CONFIG_MAPS, None, &limited).await.unwrap();
        all.extend(names(&part).iter().map(|n| (*n).to_owned()));
        assert_eq!(part.remaining, None);
        limited.continue_token = part.continue_token;
        if limited.continue_token.is_none() {
            break;
        }
    }
    assert_eq!(all, names(&list));
    let one = ListOptions { fields: Some(FieldSelector::name("c3")), ..ListOptions::default() };
    assert_eq!(names(&bed.list(CONFIG_MAPS, Some("default"), &one).await.unwrap()), ["c3"]);
    assert_eq!(names(&bed.list(CONFIG_MAPS, None, &one).await.unwrap()), ["c3"]);
    assert!(names(&bed.list(CONFIG_MAPS, Some("kube-system"), &one).await.unwrap()).is_empty());
    let both = ListOptions { fields: one.fields.clone(), ..odd };
    assert_eq!(names(&bed.list(CONFIG_MAPS, Some("default"), &both).await.unwrap()), ["c3"]);
    let wrong = ListOptions {
        fields: Some(FieldSelector::equal("spec.nodeName", "n")),
        ..ListOptions::default()
    };
    assert_eq!(bed.list(CONFIG_MAPS, None, &wrong).await.unwrap_err().code, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_node() {
    let bed = bed().await;
    for name in ["a", "b"] {
        bed.make(PODS, pod(name)).await.unwrap();
    }
    bed.bind("default", "b", None, "n1").await.unwrap();
    let on = |node| ListOptions {
        fields: Some(FieldSelector::equal("spec.nodeName", node)),
        resource_version: Some(0),
        ..ListOptions::default()
    };
    assert_eq!(names(&bed.list(PODS, None, &on("n1")).await.unwrap()), ["b"]);
    assert_eq!(names(&bed.list(PODS, None, &on("")).await.unwrap()), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_of_the_past() {
    let bed = bed().await;
    let made = bed.make(CONFIG_MAPS, json!({"metadata": {"name": "a"}})).await.unwrap();
    bed.make(CONFIG_MAPS, json!({"metadata": {"name": "b"}})).await.unwrap();
    let mut then = ListOptions {
        resource_version: Some(made.meta.resource_version),
        resource_version_match: Some(VersionMatch::Exact),
        ..ListOptions::default()
    };
    let list = bed.list(CONFIG_MAPS, None, &then).await.unwrap();
    assert_eq!((names(&list), list.revision), (vec!["a"], made.meta.resource_version));
    then.resource_version_match = Some(VersionMatch::NotOlderThan);
    assert_eq!(names(&bed.list(CONFIG_MAPS, None, &then).await.unwrap()), ["a", "b"]);
    then.resource_version_match = Some(VersionMatch::Exact);
    then.resource_version = Some(1_000_000);
    assert_eq!(bed.list(CONFIG_MAPS, None, &then).await.unwrap_err().code, 504);
}
