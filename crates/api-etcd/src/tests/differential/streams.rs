//! Streams: what watches and keepalives answer, in the same order.

use bytes::Bytes;
use prost::Message;
use std::fmt::Debug;

use super::super::client::{Client, Stream};
use super::{Both, PATIENCE, header};
use crate::proto::{
    CompactionRequest, DeleteRangeRequest, Filter, HeaderResponse, LeaseGrantRequest, LeaseId,
    LeaseKeepAliveResponse, WatchCancel, WatchCreate, WatchKind, WatchProgress, WatchRequest,
    WatchResponse,
};

/// The same stream on both servers.
pub(super) struct Pair {
    ours: Stream,
    theirs: Stream,
}

async fn hear<A: Message + Default>(who: &str, stream: &mut Stream) -> A {
    let heard = tokio::time::timeout(PATIENCE, stream.hear::<A>()).await;
    heard.unwrap_or_else(|_| panic!("{who} says nothing")).unwrap()
}

impl Pair {
    pub(super) async fn open(both: &Both, path: &str, first: &impl Message) -> Pair {
        let open = |client: &Client| {
            let (client, path) = (client.clone(), path.to_owned());
            async move { client.stream(&path, first).await }
        };
        let (ours, theirs) = tokio::join!(open(&both.ours), open(&both.theirs));
        Pair { ours, theirs }
    }

    async fn say(&self, message: &impl Message) {
        tokio::join!(self.ours.say(message), self.theirs.say(message));
    }

    /// The next answer of both, the same once `compared` has taken out what is not to be compared.
    pub(super) async fn same<A>(&mut self, compared: impl Fn(&mut A)) -> A
    where
        A: Message + Default + PartialEq + Debug,
    {
        let (mut ours, mut theirs) =
            tokio::join!(hear::<A>("ours", &mut self.ours), hear::<A>("etcd", &mut self.theirs));
        compared(&mut ours);
        compared(&mut theirs);
        assert_eq!(ours, theirs, "ours, and etcd's");
        ours
    }

    async fn create(&mut self, create: WatchCreate) -> WatchResponse {
        self.say(&WatchRequest { kind: Some(WatchKind::Create(create)) }).await;
        self.answer().await
    }

    async fn answer(&mut self) -> WatchResponse {
        self.same(|a: &mut WatchResponse| header(&mut a.header)).await
    }
}

fn all() -> WatchCreate {
    let everything = Bytes::from_static(b"\0");
    WatchCreate { key: everything.clone(), range_end: everything, ..WatchCreate::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches() {
    let Some(both) = Both::begin().await else { return };
    for value in ["1", "2"] {
        both.write("a", value).await;
    }
    let progress = WatchRequest { kind: Some(WatchKind::Progress(WatchProgress {})) };
    let mut pair = Pair::open(&both, "/etcdserverpb.Watch/Watch", &progress).await;
    pair.answer().await;
    let (no_put, no_delete) = (Filter::NoPut.into(), Filter::NoDelete.into());
    let one = |key: &'static str| WatchCreate { key: key.into(), ..WatchCreate::default() };
    let backwards = WatchCreate { range_end: "a".into(), ..one("b") };
    for refused in [backwards, WatchCreate { range_end: "a".into(), ..one("a") }] {
        assert!(pair.create(refused).await.canceled);
    }
    // Of several watches the order of events between them is open, so they are heard one after the other.
    for (create, events) in [
        (all(), 3),
        (WatchCreate { prev_kv: true, ..all() }, 3),
        (WatchCreate { watch_id: 3, ..one("a") }, 2),
        (one("none"), 0),
        (one(""), 0),
        (WatchCreate { range_end: "b".into(), ..one("a") }, 2),
        (WatchCreate { filters: vec![no_put], prev_kv: true, ..all() }, 1),
        (WatchCreate { filters: vec![no_delete, no_delete], ..all() }, 2),
        (WatchCreate { filters: vec![no_put, no_delete], ..all() }, 0),
        (WatchCreate { fragment: true, ..all() }, 3),
        (WatchCreate { watch_id: -5, ..all() }, 3),
    ] {
        let created = pair.create(create).await;
        assert!(created.created && !created.canceled, "{created:?}");
        both.write("a", "3").await;
        both.write("b", "1").await;
        both.delete(&DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() })
            .await
            .unwrap();
        let mut heard = 0;
        while heard < events {
            heard += pair.answer().await.events.len();
        }
        assert_eq!(heard, events);
        let cancel = WatchCancel { watch_id: created.watch_id };
        let cancel = WatchRequest { kind: Some(WatchKind::Cancel(cancel)) };
        pair.say(&cancel).await;
        assert!(pair.answer().await.canceled);
        // What is cancelled already is not answered: the next answer is to the next question.
        pair.say(&cancel).await;
    }
    assert_eq!(pair.create(WatchCreate { watch_id: 40, ..one("x") }).await.watch_id, 40);
    assert!(pair.create(WatchCreate { watch_id: 40, ..one("x") }).await.canceled);
    pair.say(&progress).await;
    assert_eq!(pair.answer().await.watch_id, -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_history() {
    let Some(both) = Both::begin().await else { return };
    for value in ["1", "2", "3", "4", "5"] {
        both.write("a", value).await;
    }
    let compact = CompactionRequest { revision: 4, physical: true };
    let compacted = |a: &mut HeaderResponse| header(&mut a.header);
    both.same("KV/Compact", &compact, compacted).await.unwrap();
    let progress = WatchRequest { kind: Some(WatchKind::Progress(WatchProgress {})) };
    let mut pair = Pair::open(&both, "/etcdserverpb.Watch/Watch", &progress).await;
    pair.answer().await;
    for start_revision in [1, 3, -1] {
        assert!(pair.create(WatchCreate { start_revision, ..all() }).await.created);
        // The revision of this answer's header is 0 in etcd.
        let ended = pair.same(|a: &mut WatchResponse| a.header = None).await;
        assert_eq!((ended.canceled, ended.compact_revision), (true, 4));
    }
    let mut last = 6;
    // At the very revision of the compaction etcd does not tell any more what was there before.
    for (start_revision, prev_kv) in [(4, false), (5, true), (6, true), (8, true)] {
        let created = pair.create(WatchCreate { start_revision, prev_kv, ..all() }).await;
        last = both.write("b", "1").await.max(both.write("b", "2").await).max(last);
        let mut told = [Vec::new(), Vec::new()];
        for (told, stream) in told.iter_mut().zip([&mut pair.ours, &mut pair.theirs]) {
            let seen = |told: &[crate::proto::Event]| {
                told.last().is_some_and(|e| e.kv.as_ref().unwrap().mod_revision == last)
            };
            while !seen(told) {
                let heard: WatchResponse = hear("a server", stream).await;
                assert_eq!(heard.watch_id, created.watch_id);
                told.extend(heard.events);
            }
        }
        assert_eq!(told[0], told[1], "from {start_revision}: ours, and etcd's");
        let cancel = WatchCancel { watch_id: created.watch_id };
        pair.say(&WatchRequest { kind: Some(WatchKind::Cancel(cancel)) }).await;
        assert!(pair.answer().await.canceled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keepalives() {
    let Some(both) = Both::begin().await else { return };
    for id in [7, 8] {
        both.grant(&LeaseGrantRequest { ttl: 1000, id }).await.unwrap();
    }
    let kept = |a: &mut LeaseKeepAliveResponse| header(&mut a.header);
    let path = "/etcdserverpb.Lease/LeaseKeepAlive";
    let mut pair = Pair::open(&both, path, &LeaseId { id: 7 }).await;
    assert_eq!(pair.same(kept).await.ttl, 1000);
    for (id, ttl) in [(8, 1000), (9, 0), (0, 0), (7, 1000), (-1, 0)] {
        pair.say(&LeaseId { id }).await;
        assert_eq!(pair.same(kept).await.ttl, ttl);
    }
}
