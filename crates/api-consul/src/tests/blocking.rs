//! Blocking queries: what wakes them, what does not, and that nothing is missed.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::task::{JoinHandle, yield_now};

use super::{Bed, Said, bed};

/// Only a guard against waiting for ever: no test depends on its length.
const PATIENCE: Duration = Duration::from_secs(120);

/// A query that has had every chance to begin to wait.
async fn parked(bed: &Arc<Bed>, uri: String) -> JoinHandle<Said> {
    let (bed, pause) = (Arc::clone(bed), 64);
    let query = tokio::spawn(async move { bed.get(&uri).await });
    for _ in 0..pause {
        yield_now().await;
    }
    assert!(!query.is_finished(), "it waits");
    query
}

async fn woken(query: JoinHandle<Said>) -> Said {
    tokio::time::timeout(PATIENCE, query).await.expect("it wakes").unwrap()
}

#[tokio::test]
async fn a_write_wakes_those_who_wait_for_its_key() {
    let bed = Arc::new(bed().await);
    assert!(bed.put("/v1/kv/a", "1").await);
    let index = bed.get("/v1/kv/a").await.index();
    let query = parked(&bed, format!("/v1/kv/a?index={index}")).await;
    assert!(bed.put("/v1/kv/b", "other").await);
    assert!(bed.put("/v1/kv/a", "1").await, "the same value is no change");
    for _ in 0..64 {
        yield_now().await;
    }
    assert!(!query.is_finished(), "another key is no reason to wake");
    assert!(bed.put("/v1/kv/a", "2").await);
    let said = woken(query).await;
    assert_eq!(said.json()[0]["Value"], "Mg==");
    assert_eq!(said.index(), said.json()[0]["ModifyIndex"].as_u64().unwrap());
    assert!(said.index() > index);
}

#[tokio::test]
async fn deletes_wake_and_raise_the_index() {
    let bed = Arc::new(bed().await);
    for key in ["t/a", "t/b"] {
        assert!(bed.put(&format!("/v1/kv/{key}"), "1").await);
    }
    for uri in ["/v1/kv/t/a?x", "/v1/kv/t/?recurse", "/v1/kv/t/?keys", "/v1/kv/?recurse"] {
        assert!(bed.put("/v1/kv/t/a", "1").await);
        let index = bed.get(uri).await.index();
        let query = parked(&bed, format!("{uri}&index={index}")).await;
        assert!(bed.delete("/v1/kv/t/a").await);
        let said = woken(query).await;
        assert!(said.index() > index, "{uri}");
        // One that comes later sees that there was a deletion, though there is nothing left of it.
        let late = bed.get(&format!("{uri}&index={index}")).await;
        assert!(late.index() > index, "{uri}");
        assert_eq!(late.body, said.body);
    }
}

#[tokio::test]
async fn a_key_that_comes_into_being_wakes() {
    let bed = Arc::new(bed().await);
    let said = bed.get("/v1/kv/none").await;
    assert_eq!(said.status, StatusCode::NOT_FOUND);
    let query = parked(&bed, format!("/v1/kv/none?index={}", said.index())).await;
    assert!(bed.put("/v1/kv/none", "1").await);
    assert_eq!(woken(query).await.json()[0]["Value"], "MQ==");
}

#[tokio::test]
async fn a_wait_ends() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/a", "1").await);
    for uri in ["/v1/kv/a?wait=1ms", "/v1/kv/?recurse&wait=1ms", "/v1/kv/none?wait=1ms"] {
        let index = bed.get(uri).await.index();
        let said = bed.get(&format!("{uri}&index={index}")).await;
        assert_eq!(said.index(), index, "{uri}: nothing happened");
    }
    let future = bed.get("/v1/kv/a?wait=1ms&index=1000000").await;
    assert!(
        future.index() < 1_000_000,
        "a client that knows a future that never came starts again"
    );
}

#[tokio::test]
async fn sessions_wake_those_who_list_them() {
    let bed = Arc::new(bed().await);
    let index = bed.get("/v1/session/list").await.index();
    let query = parked(&bed, format!("/v1/session/list?index={index}")).await;
    let id = bed.session("").await;
    let said = woken(query).await;
    assert_eq!(said.json()[0]["ID"], id.as_str());
    let query = parked(&bed, format!("/v1/session/info/{id}?index={}", said.index())).await;
    assert!(bed.put(&format!("/v1/session/destroy/{id}"), "").await);
    assert_eq!(woken(query).await.text(), "[]");
}

#[tokio::test]
async fn a_query_from_before_the_history_is_answered_at_once() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/a", "1").await);
    let index = bed.get("/v1/kv/x/?recurse").await.index();
    for n in 0..8 {
        assert!(bed.put("/v1/kv/a", format!("{n} ")).await);
    }
    bed.store.compact(bed.store.revision()).await.unwrap();
    let said = bed.get(&format!("/v1/kv/x/?recurse&index={index}")).await;
    assert!(said.index() > index);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_wait_at_once() {
    let bed = Arc::new(bed().await);
    assert!(bed.put("/v1/kv/a", "1").await);
    let index = bed.get("/v1/kv/a").await.index();
    let uri = format!("/v1/kv/a?index={index}");
    let query = |_| {
        let (bed, uri) = (Arc::clone(&bed), uri.clone());
        tokio::spawn(async move { bed.get(&uri).await })
    };
    let queries: Vec<_> = (0..10_000).map(query).collect();
    assert!(bed.put("/v1/kv/a", "2").await);
    for query in queries {
        assert_eq!(woken(query).await.json()[0]["Value"], "Mg==");
    }
}

/// Whether an answer shows what was written last.
type IsLast = fn(&Said) -> bool;

/// Follows a URL until it shows what was written last; the indexes only grow.
async fn follow(bed: Arc<Bed>, uri: &str, is_last: IsLast) {
    let mut index = 0;
    loop {
        let said = bed.get(&format!("{uri}&index={index}")).await;
        assert!(said.index() >= index, "{uri}");
        if is_last(&said) {
            return;
        }
        index = said.index();
    }
}

/// Two writers write and delete at the speed they can; at last one key is left with one value. Who missed the last
/// change of what it follows would wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_missed() {
    for round in 0..12 {
        let bed = Arc::new(bed().await);
        let followers: [(&str, IsLast); 4] = [
            ("/v1/kv/t/key?raw", |said| said.text() == "last"),
            ("/v1/kv/t/?recurse", |said| {
                said.text().contains("\"t/end\"") && !said.text().contains("\"t/gone\"")
            }),
            ("/v1/kv/t/?keys", |said| said.text() == "[\"t/end\",\"t/key\"]"),
            ("/v1/kv/?keys&stale", |said| said.text() == "[\"t/end\",\"t/key\"]"),
        ];
        let followers: Vec<_> = followers
            .into_iter()
            .flat_map(|follower| [follower; 3])
            .map(|(uri, is_last)| tokio::spawn(follow(Arc::clone(&bed), uri, is_last)))
            .collect();
        let writers = ["key", "gone"].map(|key| {
            let bed = Arc::clone(&bed);
            tokio::spawn(async move {
                for n in 0..40 {
                    assert!(bed.put(&format!("/v1/kv/t/{key}"), n.to_string()).await);
                    if (n + round) % 3 == 0 {
                        assert!(bed.delete(&format!("/v1/kv/t/{key}")).await);
                    }
                }
            })
        });
        for writer in writers {
            writer.await.unwrap();
        }
        assert!(bed.put("/v1/kv/t/end", "").await);
        assert!(bed.put("/v1/kv/t/key", "last").await);
        // The last change that lists see is a deletion.
        assert!(bed.put("/v1/kv/t/gone", "").await);
        assert!(bed.delete("/v1/kv/t/gone").await);
        for follower in followers {
            tokio::time::timeout(PATIENCE, follower).await.expect("nothing was missed").unwrap();
        }
    }
}
