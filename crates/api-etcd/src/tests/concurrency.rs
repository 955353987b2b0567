//! Locks and elections, where they are not etcd's or etcd is not asked.

use std::time::Duration;

use bytes::Bytes;
use pontoon_store::{Range, Read};

use super::client::{Client, Failure};
use super::{Bed, bed};
use crate::proto::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, LockRequest,
    LockResponse, ProclaimRequest, ResignRequest,
};

const LOCK: &str = "/v3lockpb.Lock/Lock";

fn lock(name: &'static str, lease: i64) -> LockRequest {
    LockRequest { name: name.into(), lease }
}

impl Bed {
    async fn keys(&self, prefix: &'static str) -> usize {
        let found = self.store.range(Range::prefix(prefix), Read::Linearizable).await.unwrap();
        found.kvs.len()
    }

    /// Returns when so many keys are there.
    async fn until(&self, prefix: &'static str, keys: usize) {
        let there = async {
            while self.keys(prefix).await != keys {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), there).await.expect("the keys are there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_waiting_for_a_lock_leaves_the_queue() {
    let bed = bed().await;
    let client = Client::connect(bed.address).await;
    let held: LockResponse = client.call(LOCK, &lock("l", 0)).await.unwrap();
    for lease in [1, 2] {
        bed.store.lease_grant(1000, Some(lease)).await.unwrap();
    }
    let ask = |client: Client, lease: i64| {
        tokio::spawn(async move { client.call::<_, LockResponse>(LOCK, &lock("l", lease)).await })
    };
    // One client gives up its call, another its connection.
    let patient = ask(client.clone(), 1);
    bed.until("l/", 2).await;
    let gone = ask(Client::connect(bed.address).await, 2);
    bed.until("l/", 3).await;
    gone.abort();
    bed.until("l/", 2).await;
    patient.abort();
    bed.until("l/", 1).await;
    let found = bed.store.range(Range::prefix("l/"), Read::Linearizable).await.unwrap();
    assert_eq!(found.kvs[0].key, held.key);
    // One without a lease of its own was given one.
    assert_ne!(found.kvs[0].lease, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_for_a_lock_it_has_and_stops_waiting_keeps_it() {
    let bed = bed().await;
    let client = Client::connect(bed.address).await;
    for lease in [1, 2] {
        bed.store.lease_grant(1000, Some(lease)).await.unwrap();
    }
    let _: LockResponse = client.call(LOCK, &lock("l", 1)).await.unwrap();
    let waits = |client: Client| {
        tokio::spawn(async move { client.call::<_, LockResponse>(LOCK, &lock("l", 2)).await })
    };
    let first = waits(client.clone());
    bed.until("l/", 2).await;
    let again = waits(client.clone());
    again.abort();
    bed.store.delete("l/1").await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().key, &b"l/2"[..]);
    assert_eq!(bed.keys("l/").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_while_its_holder_waits_ends_the_wait() {
    let bed = bed().await;
    let client = Client::connect(bed.address).await;
    for lease in [1, 2] {
        bed.store.lease_grant(1000, Some(lease)).await.unwrap();
    }
    let _: LockResponse = client.call(LOCK, &lock("l", 1)).await.unwrap();
    let waits = {
        let client = client.clone();
        tokio::spawn(async move { client.call::<_, LockResponse>(LOCK, &lock("l", 2)).await })
    };
    bed.until("l/", 2).await;
    bed.store.lease_revoke(2).await.unwrap();
    bed.store.delete("l/1").await.unwrap();
    let refused: Failure = waits.await.unwrap().unwrap_err();
    assert_eq!(refused, ("2".to_owned(), "mutex: session is expired".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_own_keys_are_no_candidates() {
    let bed = bed().await;
    bed.store.put("/pontoon/ca", "secret").await.unwrap();
    let client = Client::connect(bed.address).await;
    // The second is the name of which all keys of the cluster are below.
    for name in ["/pontoon", "", "/pontoon/x"] {
        let refused = client.call::<_, LockResponse>(LOCK, &lock(name, 0)).await.unwrap_err();
        assert_eq!(refused.0, "7", "{name}: {refused:?}");
        let path = "/v3electionpb.Election/Leader";
        let leader = LeaderRequest { name: name.into() };
        let refused = client.call::<_, LeaderResponse>(path, &leader).await.unwrap_err();
        assert_eq!(refused.0, "7", "{name}: {refused:?}");
    }
    for key in ["/pontoon/ca", ""] {
        let leader = LeaderKey { key: Bytes::from_static(key.as_bytes()), ..LeaderKey::default() };
        let resign = ResignRequest { leader: Some(leader) };
        let path = "/v3electionpb.Election/Resign";
        client.call::<_, CampaignResponse>(path, &resign).await.unwrap_err();
    }
    assert_eq!(bed.keys("/pontoon/").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_office_is_older_than_the_first_revision() {
    let bed = bed().await;
    let client = Client::connect(bed.address).await;
    for rev in [0, -1] {
        let leader = LeaderKey { key: "e/1".into(), rev, ..LeaderKey::default() };
        let request = ProclaimRequest { leader: Some(leader), value: "v".into() };
        let path = "/v3electionpb.Election/Proclaim";
        let refused = client.call::<_, CampaignResponse>(path, &request).await.unwrap_err();
        assert_eq!(refused.1, "election: not leader");
    }
    assert_eq!(bed.keys("e/").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_values_have_the_bounds_of_puts() {
    let bed = bed().await;
    let client = Client::connect(bed.address).await;
    let long = Bytes::from(vec![b'x'; 1_700_000]);
    let request = LockRequest { name: long.clone(), lease: 0 };
    let refused = client.call::<_, LockResponse>(LOCK, &request).await.unwrap_err();
    assert_eq!(refused.1, "etcdserver: request is too large");
    let request = CampaignRequest { name: "e".into(), lease: 0, value: long };
    let path = "/v3electionpb.Election/Campaign";
    let refused = client.call::<_, CampaignResponse>(path, &request).await.unwrap_err();
    assert_eq!(refused.1, "etcdserver: request is too large");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_hears_each_of_many_leaders() {
    let bed = bed().await;
    let client = Client::connect(bed.address).await;
    let name = Bytes::from_static(b"e");
    let observe = LeaderRequest { name: name.clone() };
    let mut seen = client.stream("/v3electionpb.Election/Observe", &observe).await;
    for lease in 1..=20 {
        bed.store.lease_grant(1000, Some(lease)).await.unwrap();
        let value = Bytes::from(lease.to_string());
        let campaign = CampaignRequest { name: name.clone(), lease, value: value.clone() };
        let path = "/v3electionpb.Election/Campaign";
        let elected: CampaignResponse = client.call(path, &campaign).await.unwrap();
        let heard: LeaderResponse = seen.hear().await.unwrap();
        assert_eq!(heard.kv.unwrap().value, value);
        let resign = ResignRequest { leader: elected.leader };
        let path = "/v3electionpb.Election/Resign";
        let _: CampaignResponse = client.call(path, &resign).await.unwrap();
    }
}
