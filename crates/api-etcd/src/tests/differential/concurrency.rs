//! Locks and elections that the server waits for.

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;

use super::super::client::{Client, Failure};
use super::streams::Pair;
use super::{Both, PATIENCE, header};
use crate::proto::{
    CampaignRequest, CampaignResponse, HeaderResponse, LeaderKey, LeaderRequest, LeaderResponse,
    LeaseGrantRequest, LockRequest, LockResponse, ProclaimRequest, RangeRequest, ResignRequest,
    UnlockRequest,
};

const NAME: &[u8] = b"name";

fn lock(lease: i64) -> LockRequest {
    LockRequest { name: NAME.into(), lease }
}

fn campaign(lease: i64, value: &'static str) -> CampaignRequest {
    CampaignRequest { name: NAME.into(), lease, value: value.into() }
}

impl Both {
    async fn with_leases(leases: i64) -> Option<Both> {
        let both = Both::begin().await?;
        for id in 1..=leases {
            both.grant(&LeaseGrantRequest { ttl: 1000, id }).await.unwrap();
        }
        Some(both)
    }

    async fn lock(&self, lease: i64) -> Result<LockResponse, Failure> {
        let compared = |a: &mut LockResponse| header(&mut a.header);
        self.same("/v3lockpb.Lock/Lock", &lock(lease), compared).await
    }

    async fn unlock(&self, key: &'static str) -> Result<HeaderResponse, Failure> {
        let request = UnlockRequest { key: key.into() };
        let compared = |a: &mut HeaderResponse| header(&mut a.header);
        self.same("/v3lockpb.Lock/Unlock", &request, compared).await
    }

    async fn election<Q, A>(
        &self,
        method: &str,
        request: &Q,
        of: impl Fn(&mut A),
    ) -> Result<A, Failure>
    where
        Q: Message + Debug,
        A: Message + Default + PartialEq + Debug,
    {
        self.same(&format!("/v3electionpb.Election/{method}"), request, of).await
    }

    async fn campaign(&self, lease: i64, value: &'static str) -> Result<CampaignResponse, Failure> {
        // Where the value changes, etcd's header is from before that.
        let compared = |a: &mut CampaignResponse| a.header = None;
        self.election("Campaign", &campaign(lease, value), compared).await
    }

    async fn leader(&self) -> Result<LeaderResponse, Failure> {
        let compared = |a: &mut LeaderResponse| header(&mut a.header);
        self.election("Leader", &LeaderRequest { name: NAME.into() }, compared).await
    }

    async fn proclaim(
        &self,
        leader: &LeaderKey,
        value: &'static str,
    ) -> Result<HeaderResponse, Failure> {
        let request = ProclaimRequest { leader: Some(leader.clone()), value: value.into() };
        self.election("Proclaim", &request, |a: &mut HeaderResponse| header(&mut a.header)).await
    }

    async fn resign(&self, leader: &LeaderKey) -> Result<HeaderResponse, Failure> {
        let request = ResignRequest { leader: Some(leader.clone()) };
        self.election("Resign", &request, |a: &mut HeaderResponse| header(&mut a.header)).await
    }

    /// Has both servers begin a call that waits, and returns when each waiter has its key.
    async fn waiting<Q, A>(
        &self,
        path: &'static str,
        request: Q,
        key: &'static str,
    ) -> impl Future<Output = [A; 2]> + use<Q, A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + Debug + 'static,
    {
        let begin = |client: &Client| {
            let (client, request) = (client.clone(), request.clone());
            tokio::spawn(async move { client.call::<Q, A>(path, &request).await.unwrap() })
        };
        let calls = [begin(&self.ours), begin(&self.theirs)];
        for client in [&self.ours, &self.theirs] {
            let range = RangeRequest { key: key.into(), ..RangeRequest::default() };
            let there = async {
                let path = "/etcdserverpb.KV/Range";
                while client
                    .call::<_, crate::proto::RangeResponse>(path, &range)
                    .await
                    .unwrap()
                    .count
                    == 0
                {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, there).await.expect("it waits");
        }
        async {
            let mut answers = Vec::new();
            for call in calls {
                answers.push(tokio::time::timeout(PATIENCE, call).await.expect("it ends").unwrap());
            }
            <[A; 2]>::try_from(answers).expect("two calls were made")
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks() {
    let Some(both) = Both::with_leases(3).await else { return };
    assert_eq!(both.lock(1).await.unwrap().key, &b"name/1"[..]);
    // Whoever has it has it.
    both.lock(1).await.unwrap();
    let second = both.waiting("/v3lockpb.Lock/Lock", lock(2), "name/2").await;
    let third = both.waiting("/v3lockpb.Lock/Lock", lock(3), "name/3").await;
    both.unlock("name/1").await.unwrap();
    for LockResponse { key, .. } in second.await {
        assert_eq!(key, &b"name/2"[..]);
    }
    // The lock is kept while its lease lives.
    let revoke = crate::proto::LeaseId { id: 2 };
    let revoked = |a: &mut HeaderResponse| header(&mut a.header);
    both.same("Lease/LeaseRevoke", &revoke, revoked).await.unwrap();
    for LockResponse { key, .. } in third.await {
        assert_eq!(key, &b"name/3"[..]);
    }
    both.unlock("name/3").await.unwrap();
    both.unlock("name/3").await.unwrap();
    both.unlock("").await.unwrap_err();
    both.lock(99).await.unwrap_err();
    both.same_events(1, both.write("end", "").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elections() {
    let Some(both) = Both::with_leases(2).await else { return };
    both.leader().await.unwrap_err();
    let first = both.campaign(1, "a").await.unwrap().leader.unwrap();
    // The same candidate with another value.
    both.campaign(1, "b").await.unwrap();
    both.campaign(1, "b").await.unwrap();
    assert_eq!(both.leader().await.unwrap().kv.unwrap().value, &b"b"[..]);

    let observe = "/v3electionpb.Election/Observe";
    let mut seen = Pair::open(&both, observe, &LeaderRequest { name: NAME.into() }).await;
    let told = |a: &mut LeaderResponse| header(&mut a.header);
    assert_eq!(seen.same(told).await.kv.unwrap().value, &b"b"[..]);
    both.proclaim(&first, "c").await.unwrap();
    assert_eq!(seen.same(told).await.kv.unwrap().value, &b"c"[..]);

    let path = "/v3electionpb.Election/Campaign";
    let second = both.waiting(path, campaign(2, "d"), "name/2").await;
    both.resign(&first).await.unwrap();
    let [ours, theirs]: [CampaignResponse; 2] = second.await;
    assert_eq!(ours.leader, theirs.leader);
    assert_eq!(seen.same(told).await.kv.unwrap().value, &b"d"[..]);
    // Who is not elected any more.
    both.proclaim(&first, "e").await.unwrap_err();
    both.resign(&first).await.unwrap();
    both.resign(&ours.leader.unwrap()).await.unwrap();
    both.leader().await.unwrap_err();
    both.campaign(99, "f").await.unwrap_err();
    both.same_events(1, both.write("end", "").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_queue_themselves_counts() {
    let Some(both) = Both::with_leases(1).await else { return };
    // As `etcdctl lock` does.
    both.write("name/7f", "").await;
    let waiting = both.waiting("/v3lockpb.Lock/Lock", lock(1), "name/1").await;
    both.unlock("name/7f").await.unwrap();
    let [ours, theirs]: [LockResponse; 2] = waiting.await;
    assert_eq!(
        (ours.key, Bytes::from_static(b"name/1")),
        (theirs.key, Bytes::from_static(b"name/1"))
    );
}
