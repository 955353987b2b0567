//! Watches against an oracle: what the history says must be what every watcher saw.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::testing::{Cluster, run};
use crate::{
    Batch, DeleteRange, Event, EventKind, Put, Range, Read, Store, Tuning, Txn, Watch, WatchError,
    WatchRequest,
};

fn patient() -> Tuning {
    Tuning { request_timeout: Duration::from_secs(60), ..Tuning::default() }
}

/// Everything up to `revision`.
async fn until(watch: &mut Watch, revision: u64) -> Vec<Batch> {
    let mut batches = Vec::new();
    while watch.progress() < revision {
        tokio::select! {
            biased;
            batch = watch.next() => {
                batches.push(batch.expect("it has not ended").expect("the watch goes on"));
            }
            // Perhaps nothing of what was written concerns it: look at its progress again.
            () = tokio::task::yield_now() => {}
        }
    }
    batches
}

/// What a watch of `request` must have seen, from a watch of everything.
fn expected(all: &[Batch], request: &WatchRequest) -> Vec<(u64, Vec<(EventKind, Bytes)>)> {
    let wanted = |event: &&Event| match request.end.as_deref() {
        None => event.kv.key == request.key,
        Some(b"\0") => event.kv.key >= request.key,
        Some(end) => event.kv.key >= request.key && &event.kv.key[..] < end,
    };
    all.iter()
        .filter(|batch| batch.revision >= request.start_revision)
        .map(|batch| (batch.revision, simple(batch.events.iter().filter(wanted))))
        .filter(|(_, events)| !events.is_empty())
        .collect()
}

fn simple<'e>(events: impl Iterator<Item = &'e Event>) -> Vec<(EventKind, Bytes)> {
    events.map(|event| (event.kind, event.kv.key.clone())).collect()
}

fn seen(batches: &[Batch]) -> Vec<(u64, Vec<(EventKind, Bytes)>)> {
    batches.iter().map(|batch| (batch.revision, simple(batch.events.iter()))).collect()
}

async fn write(store: &Store, number: u64) -> u64 {
    let key = format!("{}/{}", (b'a' + (number % 4) as u8) as char, number % 7);
    let txn = match number % 5 {
        0 => Txn::new().then(DeleteRange::prefix(key[..2].to_owned())),
        1 => Txn::new().then(Put::new(key, "1")).then(Put::new("all", number.to_string())),
        _ => Txn::new().then(Put::new(key, number.to_string())),
    };
    store.txn(txn).await.expect("written").revision
}

fn requests() -> Vec<WatchRequest> {
    vec![
        WatchRequest::prefix(""),
        WatchRequest::prefix("a/"),
        WatchRequest::key("b/3"),
        WatchRequest { end: Some(Bytes::from_static(b"c/4")), ..WatchRequest::key("a/5") },
        WatchRequest { end: Some(Bytes::from_static(b"\0")), ..WatchRequest::key("c/") },
        WatchRequest::key("never"),
    ]
}

#[test]
fn every_watcher_sees_what_history_says_once_and_in_order() {
    run(async {
        let mut cluster = Cluster::new(3, patient()).await;
        let mut watches = Vec::new();
        for id in cluster.ids() {
            for request in requests() {
                let watch = cluster.store(id).watch(request.clone()).expect("a watch");
                watches.push((id, request, watch));
            }
        }
        let mut revision = 1;
        for number in 0..150 {
            revision = revision.max(write(cluster.store(1 + number % 3), number).await);
        }
        // A leader change in the middle of it.
        let leader = cluster.leader(&cluster.ids()).await;
        watches.retain(|(id, _, _)| *id != leader);
        cluster.kill(leader).await;
        let other = cluster.ids()[0];
        for number in 150..300 {
            revision = revision.max(write(cluster.store(other), number).await);
        }
        let mut all =
            cluster.store(other).watch(WatchRequest::prefix("").from(1)).expect("a watch");
        let all = until(&mut all, revision).await;
        assert_eq!(all.len() as u64, revision - 1, "every revision has a batch");
        for (id, request, mut watch) in watches {
            let batches = until(&mut watch, revision).await;
            assert_eq!(seen(&batches), expected(&all, &request), "{request:?} on {id}");
        }
        // And from every point in the past, on the member that was away too.
        cluster.start(leader).await;
        for from in [1, 2, 70, revision - 1, revision] {
            let request = WatchRequest::prefix("a/").from(from);
            let store = cluster.store(leader);
            store.range(Range::key("x"), Read::Linearizable).await.expect("it caught up");
            let mut watch = store.watch(request.clone()).expect("a watch");
            let batches = until(&mut watch, revision).await;
            assert_eq!(seen(&batches), expected(&all, &request), "from {from}");
        }
    });
}

#[test]
fn the_version_before_comes_only_if_asked_for() {
    run(async {
        let cluster = Cluster::new(1, patient()).await;
        let store = cluster.store(1);
        let mut plain = store.watch(WatchRequest::key("a")).expect("a watch");
        let mut with_prev = store.watch(WatchRequest::key("a").with_prev()).expect("a watch");
        let mut twin = store.watch(WatchRequest::key("a").with_prev()).expect("a watch");
        store.put("a", "1").await.expect("written");
        store.put("a", "2").await.expect("written");
        plain.next().await;
        assert_eq!(plain.next().await.unwrap().unwrap().events[0].prev, None);
        with_prev.next().await;
        let batch = with_prev.next().await.unwrap().unwrap();
        assert_eq!(&batch.events[0].prev.as_ref().unwrap().value[..], b"1");
        twin.next().await;
        let same = twin.next().await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&batch.events, &same.events), "watchers share what they are told");
    });
}

#[test]
fn what_is_compacted_is_refused_with_the_revision() {
    run(async {
        let cluster = Cluster::new(1, patient()).await;
        let store = cluster.store(1);
        for number in 0..10 {
            store.put("a", number.to_string()).await.expect("written");
        }
        store.compact(6).await.expect("compacted");
        let refused = store.watch(WatchRequest::key("a").from(5)).err();
        assert_eq!(refused, Some(WatchError::Compacted { compact_revision: 6 }));
        let mut watch = store.watch(WatchRequest::key("a").from(6)).expect("a watch");
        assert_eq!(watch.next().await.unwrap().unwrap().revision, 6);
        // One that waits for a revision to come.
        let mut later = store.watch(WatchRequest::key("a").from(13)).expect("a watch");
        for number in 10..13 {
            store.put("a", number.to_string()).await.expect("written");
        }
        assert_eq!(later.next().await.unwrap().unwrap().revision, 13);
    });
}

#[test]
fn a_watch_from_the_future_is_as_far_as_the_store_is() {
    run(async {
        let cluster = Cluster::new(1, patient()).await;
        let store = cluster.store(1);
        let last = store.put("a", "1").await.expect("written");
        let mut watch = store.watch(WatchRequest::key("a").from(last + 3)).expect("a watch");
        assert!(watch.progress() <= last, "{} of {last}", watch.progress());
        // It goes forward by what is not for it, and what is comes.
        for number in 1..=3 {
            store.put("a", number.to_string()).await.expect("written");
        }
        assert_eq!(watch.next().await.unwrap().unwrap().revision, last + 3);
        assert_eq!(watch.progress(), last + 3);
    });
}

#[test]
fn a_slow_watcher_is_ended_and_can_resume_without_a_gap() {
    run(async {
        let tuning = Tuning { watch_queue: 8, ..patient() };
        let cluster = Cluster::new(1, tuning).await;
        let store = cluster.store(1);
        let mut slow = store.watch(WatchRequest::prefix("")).expect("a watch");
        for number in 0..50_u64 {
            store.put("a", number.to_string()).await.expect("written");
        }
        let mut revisions = Vec::new();
        let mut lagged = 0;
        while revisions.last() != Some(&51) {
            match slow.next().await {
                Some(Ok(batch)) => revisions.push(batch.revision),
                Some(Err(WatchError::Lagged { resume })) => {
                    lagged += 1;
                    assert!(slow.next().await.is_none(), "it tells its end once");
                    slow = store.watch(WatchRequest::prefix("").from(resume)).expect("a watch");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(revisions, (2..=51).collect::<Vec<_>>());
        // Eight each time: 50 changes in seven parts.
        assert_eq!(lagged, 6);
    });
}

#[test]
fn a_store_that_stops_ends_its_watches() {
    run(async {
        let cluster = Cluster::new(1, patient()).await;
        let mut watch = cluster.store(1).watch(WatchRequest::prefix("")).expect("a watch");
        cluster.store(1).shutdown().await;
        assert!(watch.next().await.is_none());
        let mut late = cluster.store(1).watch(WatchRequest::prefix("")).expect("a watch");
        assert!(late.next().await.is_none());
    });
}

/// All batches of the range, watched again as often as the watch ends for being slow.
async fn resuming(store: &Store, request: WatchRequest, upto: u64) -> (Vec<Batch>, u64) {
    let (mut batches, mut resumed, mut from) = (Vec::new(), 0, request.start_revision);
    loop {
        let mut watch = store.watch(request.clone().from(from)).expect("a watch");
        loop {
            match watch.next().await {
                Some(Ok(batch)) if batch.revision == upto => {
                    batches.push(batch);
                    return (batches, resumed);
                }
                Some(Ok(batch)) => batches.push(batch),
                Some(Err(WatchError::Lagged { resume })) => {
                    assert!(resume > from, "it comes forward");
                    (from, resumed) = (resume, resumed + 1);
                    break;
                }
                ended => panic!("{ended:?}"),
            }
        }
    }
}

#[test]
fn a_watch_from_long_ago_comes_in_parts_without_a_gap() {
    run(async {
        for (watch_queue, watch_queue_bytes) in [(10, 1 << 20), (1000, 3000)] {
            let tuning = Tuning { watch_queue, watch_queue_bytes, ..patient() };
            let cluster = Cluster::new(1, tuning).await;
            let store = cluster.store(1);
            let mut last = 0;
            for number in 0..60 {
                let key = if number % 30 == 29 { "rare" } else { "often" };
                last = store.put(key, vec![1; 200]).await.expect("written");
            }
            let (batches, resumed) = resuming(store, WatchRequest::prefix("").from(2), last).await;
            let revisions: Vec<u64> = batches.iter().map(|batch| batch.revision).collect();
            assert_eq!(revisions, (2..=last).collect::<Vec<_>>(), "once each, in order");
            assert!(resumed >= 5, "{resumed}");
            // One who waits for what is rare gets on, too.
            let (batches, _) = resuming(store, WatchRequest::key("rare").from(2), last).await;
            assert_eq!(batches.len(), 2);
        }
    });
}

#[test]
fn a_slow_watcher_keeps_no_more_bytes_than_it_may() {
    run(async {
        let tuning = Tuning { watch_queue_bytes: 100_000, ..patient() };
        let cluster = Cluster::new(1, tuning).await;
        let store = cluster.store(1);
        let mut slow = store.watch(WatchRequest::prefix("")).expect("a watch");
        for number in 0..20 {
            store.put(format!("{number}"), vec![1; 30_000]).await.expect("written");
        }
        let mut bytes = 0;
        let resume = loop {
            match slow.next().await {
                Some(Ok(batch)) => bytes += batch.weight(),
                Some(Err(WatchError::Lagged { resume })) => break resume,
                ended => panic!("{ended:?}"),
            }
        };
        assert!(bytes > 60_000 && bytes <= 100_000, "{bytes}");
        let (rest, _) = resuming(store, WatchRequest::prefix("").from(resume), 21).await;
        assert_eq!(rest.len(), 17);
        // A batch that is larger than all that is allowed is delivered alone.
        let mut watch = store.watch(WatchRequest::key("large")).expect("a watch");
        store.put("large", vec![1; 200_000]).await.expect("written");
        assert!(watch.next().await.is_some_and(|batch| batch.is_ok()));
    });
}

#[test]
fn watchers_together_keep_no_more_bytes_than_they_may() {
    run(async {
        let cluster = Cluster::new(1, Tuning { watch_bytes: 100_000, ..patient() }).await;
        let store = cluster.store(1);
        let hub = &store.core_for_tests().replica.hub;
        let mut fast = store.watch(WatchRequest::prefix("")).expect("a watch");
        let mut slowest = store.watch(WatchRequest::prefix("a/")).expect("a watch");
        let mut slow = store.watch(WatchRequest::prefix("b/")).expect("a watch");
        for (key, bytes) in [("a/1", 30_000), ("a/2", 30_000), ("b/1", 20_000), ("a/3", 30_000)] {
            let revision = store.put(key, vec![1; bytes]).await.expect("written");
            assert_eq!(until(&mut fast, revision).await.len(), 1, "it is told of all");
            let kept = hub.backlog_bytes();
            assert!(kept <= 100_000, "{kept} after {key}");
        }
        // Each kept less than it may, but together it was too much; who kept most hears of it at once.
        assert_eq!(slowest.next().await, Some(Err(WatchError::Lagged { resume: 2 })));
        assert_eq!(slowest.next().await, None);
        let (batches, _) = resuming(store, WatchRequest::prefix("a/").from(2), 5).await;
        let revisions: Vec<u64> = batches.iter().map(|batch| batch.revision).collect();
        assert_eq!(revisions, [2, 3, 5], "without a gap");
        assert_eq!(slow.next().await.unwrap().expect("it goes on").revision, 4);
        assert_eq!(hub.backlog_bytes(), 0, "what was taken is not kept");
    });
}

#[test]
fn what_watchers_share_counts_once_and_what_is_too_large_for_all_comes_through() {
    run(async {
        let cluster = Cluster::new(1, Tuning { watch_bytes: 100_000, ..patient() }).await;
        let store = cluster.store(1);
        let hub = &store.core_for_tests().replica.hub;
        let request = WatchRequest::prefix("key");
        let mut crowd: Vec<Watch> =
            (0..20).map(|_| store.watch(request.clone()).expect("a watch")).collect();
        store.put("key 1", vec![1; 40_000]).await.expect("written");
        store.put("key 2", vec![1; 40_000]).await.expect("written");
        for watch in &mut crowd {
            assert_eq!(until(watch, 3).await.len(), 2);
        }
        // From the history, too.
        let mut late: Vec<Watch> =
            (0..20).map(|_| store.watch(request.clone().from(3)).expect("a watch")).collect();
        assert!(hub.backlog_bytes() < 50_000, "{}", hub.backlog_bytes());
        for watch in &mut late {
            assert_eq!(until(watch, 3).await.len(), 1);
        }
        store.put("key", vec![1; 400_000]).await.expect("written");
        assert_eq!(until(&mut crowd[0], 4).await.len(), 1, "a batch of more than all may keep");
        let (batches, _) = resuming(store, request.from(4), 4).await;
        assert_eq!(batches.len(), 1);
        drop((crowd, late));
        assert_eq!(hub.backlog_bytes(), 0, "nor what nobody took");
    });
}
