//! Watches, as a program that speaks the protocol itself sees them.

use bytes::Bytes;

use super::client::{Client, Stream};
use super::{Bed, bed, bed_with};
use crate::proto::WatchResponse;
use crate::proto::{Filter, WatchCancel, WatchCreate, WatchKind, WatchProgress, WatchRequest};

const PATH: &str = "/etcdserverpb.Watch/Watch";

fn all() -> WatchCreate {
    let everything = Bytes::from_static(b"\0");
    WatchCreate { key: everything.clone(), range_end: everything, ..WatchCreate::default() }
}

impl Stream {
    async fn create(&self, create: WatchCreate) {
        self.say(&WatchRequest { kind: Some(WatchKind::Create(create)) }).await;
    }

    async fn cancel(&self, watch_id: i64) {
        self.say(&WatchRequest { kind: Some(WatchKind::Cancel(WatchCancel { watch_id })) }).await;
    }

    async fn ask_progress(&self) {
        self.say(&WatchRequest { kind: Some(WatchKind::Progress(WatchProgress {})) }).await;
    }

    async fn answer(&mut self) -> WatchResponse {
        self.hear().await.unwrap()
    }
}

impl Bed {
    async fn watch_stream(&self) -> Stream {
        watch_stream(&Client::connect(self.address).await).await
    }

    /// Writes keys one after the other; each is a revision.
    async fn write(&self, count: u64, value: &[u8]) -> u64 {
        let mut last = 0;
        for number in 0..count {
            let value = Bytes::copy_from_slice(value);
            last = self.store.put(format!("k{number}"), value).await.unwrap();
        }
        last
    }
}

/// A stream whose first question, which is about no watch, is answered already.
async fn watch_stream(client: &Client) -> Stream {
    let first = WatchRequest { kind: Some(WatchKind::Progress(WatchProgress {})) };
    let mut stream = client.stream(PATH, &first).await;
    assert_eq!(stream.answer().await.watch_id, -1);
    stream
}

fn revisions(answer: &WatchResponse) -> Vec<i64> {
    answer.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_watches_on_one_stream() {
    let bed = bed().await;
    let mut stream = bed.watch_stream().await;
    stream.create(all()).await;
    assert_eq!(stream.answer().await.watch_id, 0, "numbers are given from 0");
    stream.create(WatchCreate { watch_id: 7, ..all() }).await;
    let answer = stream.answer().await;
    assert_eq!((answer.watch_id, answer.created), (7, true));
    stream.create(WatchCreate { watch_id: 7, ..all() }).await;
    let answer = stream.answer().await;
    assert_eq!((answer.watch_id, answer.created, answer.canceled), (-1, true, true));
    assert_eq!(answer.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    let backwards =
        WatchCreate { key: "b".into(), range_end: "a".into(), ..WatchCreate::default() };
    stream.create(backwards).await;
    assert_eq!(stream.answer().await.cancel_reason, "mvcc: watcher range is empty");
    let no_puts = vec![Filter::NoPut.into()];
    stream.create(WatchCreate { filters: no_puts, prev_kv: true, ..all() }).await;
    assert_eq!(stream.answer().await.watch_id, 1);
    bed.store.put("a", "1").await.unwrap();
    let mut ids = vec![stream.answer().await.watch_id, stream.answer().await.watch_id];
    ids.sort_unstable();
    assert_eq!(ids, [0, 7], "the third wants no puts");
    stream.cancel(7).await;
    let answer = stream.answer().await;
    assert_eq!((answer.watch_id, answer.canceled), (7, true));
    stream.cancel(0).await;
    stream.answer().await;
    bed.store.delete("a").await.unwrap();
    let answer = stream.answer().await;
    assert_eq!((answer.watch_id, revisions(&answer)), (1, vec![3]));
    let event = &answer.events[0];
    assert_eq!((event.kind, &event.prev_kv.as_ref().unwrap().value[..]), (1, &b"1"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_loses_nothing() {
    const WRITES: u64 = 600;
    let bed = bed_with(|config| config.tuning.watch_queue = 4).await;
    let client = Client::connect_with(bed.address, 4096).await;
    let mut stream = watch_stream(&client).await;
    stream.create(all()).await;
    assert!(stream.answer().await.created);
    // More than the connection buffers on both sides, many times the watch's queue.
    let last = bed.write(WRITES, &[b'x'; 4096]).await;
    let mut seen = Vec::new();
    while seen.len() < usize::try_from(WRITES).unwrap() {
        seen.extend(revisions(&stream.answer().await));
    }
    let wanted: Vec<i64> = (2..=i64::try_from(last).unwrap()).collect();
    assert_eq!(seen, wanted, "every event once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_lags_behind_compaction_is_told() {
    let bed = bed_with(|config| config.tuning.watch_queue = 4).await;
    let client = Client::connect_with(bed.address, 4096).await;
    let mut stream = watch_stream(&client).await;
    stream.create(all()).await;
    assert!(stream.answer().await.created);
    let last = bed.write(1000, &[b'x'; 4096]).await;
    bed.store.compact(last).await.unwrap();
    let mut seen = Vec::new();
    let end = loop {
        let answer = stream.answer().await;
        if answer.canceled {
            break answer;
        }
        seen.extend(revisions(&answer));
    };
    assert_eq!(end.compact_revision, i64::try_from(last).unwrap());
    let wanted: Vec<i64> = (2..).take(seen.len()).collect();
    assert_eq!(seen, wanted, "what was told before is without a gap");
    assert!(seen.len() < 1000, "it did lag");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_before_the_compaction_is_refused() {
    let bed = bed().await;
    let last = bed.write(10, b"v").await;
    bed.store.compact(last - 2).await.unwrap();
    let mut stream = bed.watch_stream().await;
    stream.create(WatchCreate { start_revision: 2, ..all() }).await;
    assert!(stream.answer().await.created);
    let answer = stream.answer().await;
    assert!(answer.canceled);
    assert_eq!(answer.compact_revision, i64::try_from(last).unwrap() - 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_not_told_before_that_events_are_gone() {
    let bed = bed().await;
    let last = bed.write(10, b"v").await;
    bed.store.compact(last).await.unwrap();
    let client = Client::connect(bed.address).await;
    // Which is looked at first, the watch or the question, is chance.
    for turn in 0..100 {
        let create = WatchKind::Create(WatchCreate { start_revision: 2, ..all() });
        let mut stream = client.stream(PATH, &WatchRequest { kind: Some(create) }).await;
        stream.ask_progress().await;
        assert!(stream.answer().await.created);
        let answer = stream.answer().await;
        assert!(answer.canceled && answer.compact_revision > 0, "turn {turn}: {answer:?}");
        assert_eq!(stream.answer().await.watch_id, -1, "and then how far all others are");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_changes_come_in_fragments_to_who_takes_them() {
    let bed = bed().await;
    let value = Bytes::from(vec![b'x'; 600 << 10]);
    let mut txn = pontoon_store::Txn::new();
    for number in 0..5 {
        txn = txn.then(pontoon_store::Put::new(format!("k{number}"), value.clone()));
    }
    bed.store.txn(txn).await.unwrap();
    let mut stream = bed.watch_stream().await;
    stream.create(WatchCreate { start_revision: 2, fragment: true, ..all() }).await;
    assert!(stream.answer().await.created);
    let mut parts = Vec::new();
    loop {
        let answer = stream.answer().await;
        parts.push(answer.events.len());
        if !answer.fragment {
            break;
        }
    }
    assert_eq!(parts, [2, 2, 1]);
    stream.create(WatchCreate { start_revision: 2, ..all() }).await;
    assert!(stream.answer().await.created);
    assert_eq!(stream.answer().await.events.len(), 5, "one answer for who does not");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_when_asked_and_by_itself() {
    let bed = bed().await;
    let mut stream = bed.watch_stream().await;
    let elsewhere = WatchCreate { key: "elsewhere".into(), ..WatchCreate::default() };
    stream.create(elsewhere.clone()).await;
    stream.answer().await;
    let last = i64::try_from(bed.write(3, b"v").await).unwrap();
    stream.ask_progress().await;
    let answer = stream.answer().await;
    assert_eq!((answer.watch_id, answer.header.unwrap().revision), (-1, last));
    stream.create(WatchCreate { progress_notify: true, ..elsewhere }).await;
    stream.answer().await;
    let answer = stream.answer().await;
    assert_eq!((answer.watch_id, answer.events.len()), (1, 0));
    assert_eq!(answer.header.unwrap().revision, last);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_own_keys_are_not_watched() {
    let bed = bed().await;
    let mut stream = bed.watch_stream().await;
    stream.create(all()).await;
    stream.answer().await;
    bed.store.put("/pontoon/cluster", "secret").await.unwrap();
    bed.store.put("/visible", "v").await.unwrap();
    assert_eq!(revisions(&stream.answer().await), [3]);
}
