//! What is refused, and what is just allowed: the same codes, in the same words.

use bytes::Bytes;

use super::{Both, header, op};
use crate::grpc::frame;
use crate::proto::{
    AlarmAction, AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, Compare,
    DeleteRangeRequest, Empty, HashKvRequest, HeaderResponse, LeaseGrantRequest, LeaseId,
    LeaseLeasesResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MoveLeaderRequest,
    Operand, PutRequest, RangeRequest, Request, RequestOp, StatusResponse, TxnRequest,
};

fn key(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..RangeRequest::default() }
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), ..PutRequest::default() }
}

fn delete(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: true }
}

fn writes(key: &'static str) -> RequestOp {
    op(Request::Put(put(key)))
}

fn deletes(key: &'static str, range_end: &'static str) -> RequestOp {
    op(Request::DeleteRange(delete(key, range_end)))
}

fn nests(txn: TxnRequest) -> RequestOp {
    op(Request::Txn(txn))
}

fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

fn either(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, failure, ..TxnRequest::default() }
}

fn exists(key: &'static str) -> Compare {
    Compare {
        result: 1,
        target: 0,
        key: key.into(),
        operand: Some(Operand::Version(0)),
        range_end: Bytes::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys() {
    let Some(both) = Both::begin().await else { return };
    both.write("a", "1").await;
    let lease = LeaseGrantRequest { ttl: 1000, id: 7 };
    both.grant(&lease).await.unwrap();
    let value = Bytes::from_static(b"v");
    for request in [
        key(""),
        key("a"),
        key("none"),
        RangeRequest { revision: 2, ..key("a") },
        RangeRequest { revision: 3, ..key("a") },
        RangeRequest { revision: i64::MIN, ..key("a") },
        RangeRequest { limit: i64::MIN, range_end: "b".into(), ..key("a") },
        RangeRequest { limit: i64::MAX, range_end: "b".into(), ..key("a") },
    ] {
        both.range(&request).await.ok();
    }
    for request in [
        put(""),
        PutRequest { ignore_value: true, value: value.clone(), ..put("a") },
        PutRequest { ignore_lease: true, lease: 7, ..put("a") },
        PutRequest { ignore_value: true, ..put("none") },
        PutRequest { ignore_lease: true, ..put("none") },
        PutRequest { lease: 8, ..put("a") },
        PutRequest { lease: -1, ..put("a") },
        PutRequest { lease: 7, value, prev_kv: true, ..put("a") },
        PutRequest { ignore_value: true, lease: 7, prev_kv: true, ..put("a") },
        PutRequest { ignore_lease: true, prev_kv: true, ..put("a") },
        PutRequest { ignore_lease: true, ignore_value: true, prev_kv: true, ..put("a") },
    ] {
        both.put(&request).await.ok();
    }
    for request in [delete("", ""), delete("none", ""), delete("b", "a"), delete("a", "\0")] {
        both.delete(&request).await.ok();
    }
    let large = PutRequest { value: vec![0; 1600 << 10].into(), ..put("a") };
    both.fails("/etcdserverpb.KV/Put", frame(&large)).await;
    let larger = PutRequest { value: vec![0; 2100 << 10].into(), ..put("a") };
    both.fails("/etcdserverpb.KV/Put", frame(&larger)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions() {
    let Some(both) = Both::begin().await else { return };
    both.write("a", "1").await;
    let reads = |count: usize| (0..count).map(|_| op(Request::Range(key("a")))).collect::<Vec<_>>();
    let both_branches = || nests(either(vec![writes("k")], vec![writes("k"), writes("l")]));
    let future = || op(Request::Range(RangeRequest { revision: 99, ..key("a") }));
    let leased = || op(Request::Put(PutRequest { lease: 5, ..put("b") }));
    let unknown = || op(Request::Put(PutRequest { ignore_value: true, ..put("none") }));
    let written = || nests(then(vec![writes("k")]));
    let deleted = || nests(then(vec![deletes("k", "")]));
    let nested_compare =
        TxnRequest { compare: vec![exists("new")], ..either(vec![writes("x")], vec![writes("y")]) };
    for txn in [
        then(Vec::new()),
        then(reads(128)),
        then(reads(129)),
        TxnRequest { compare: vec![exists("a"); 129], ..TxnRequest::default() },
        then(vec![nests(then(reads(127)))]),
        then(vec![nests(then(reads(128)))]),
        then(vec![RequestOp { request: None }]),
        then(vec![op(Request::Range(key("")))]),
        then(vec![writes("")]),
        then(vec![deletes("", "")]),
        TxnRequest { compare: vec![exists("")], ..TxnRequest::default() },
        // Keys written twice.
        then(vec![writes("k"), writes("k")]),
        then(vec![writes("k"), deletes("k", "")]),
        then(vec![deletes("j", "l"), writes("k")]),
        then(vec![deletes("j", "k"), writes("k")]),
        then(vec![deletes("l", "j"), writes("k")]),
        then(vec![deletes("j", "l"), deletes("k", "m")]),
        then(vec![writes("k"), written()]),
        then(vec![written(), written()]),
        then(vec![both_branches()]),
        then(vec![both_branches(), writes("l")]),
        then(vec![written(), deleted()]),
        then(vec![deleted(), written()]),
        either(vec![writes("k")], vec![writes("k"), writes("k")]),
        // Several reasons at once.
        then(vec![future(), leased()]),
        then(vec![leased(), unknown()]),
        then(vec![unknown(), leased()]),
        then(vec![nests(then(vec![future()])), unknown()]),
        then(vec![writes("k"), writes("k"), writes("")]),
        // What is not done is not checked against the state.
        either(vec![writes("done")], vec![future(), leased()]),
        // All compares are decided before anything is done.
        then(vec![writes("new"), nests(nested_compare)]),
        // What was written is seen, but not at the revision before.
        then(vec![
            writes("a"),
            op(Request::Range(key("a"))),
            op(Request::Range(RangeRequest { revision: 2, ..key("a") })),
            deletes("b", "z"),
            op(Request::Range(RangeRequest { range_end: "z".into(), ..key("a") })),
        ]),
    ] {
        both.txn(&txn).await.ok();
    }
    let last = both.write("last", "").await;
    both.same_events(1, last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compactions() {
    let Some(both) = Both::begin().await else { return };
    for value in ["1", "2", "3", "4"] {
        both.write("a", value).await;
    }
    both.delete(&delete("a", "")).await.unwrap();
    both.write("b", "1").await;
    let compacted = |a: &mut HeaderResponse| header(&mut a.header);
    for revision in [-1, i64::MIN, 8, i64::MAX, 4, 4, 3, 6] {
        for physical in [false, true] {
            let request = CompactionRequest { revision, physical };
            both.same("KV/Compact", &request, compacted).await.ok();
        }
        for revision in 0..9 {
            let range = RangeRequest { revision, ..key("a") };
            both.range(&range).await.ok();
            both.txn(&then(vec![op(Request::Range(range))])).await.ok();
        }
    }
    for revision in [3, 99] {
        let hash = frame(&HashKvRequest { revision });
        both.fails("/etcdserverpb.Maintenance/HashKV", hash).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases() {
    let Some(both) = Both::begin().await else { return };
    for (ttl, id) in [
        (1000, 7),
        (1000, 7),
        (1000, -7),
        (0, 8),
        (-5, 9),
        (1, 10),
        (9_000_000_000, 11),
        (9_000_000_001, 12),
        (i64::MAX, 13),
    ] {
        both.grant(&LeaseGrantRequest { ttl, id }).await.ok();
    }
    for name in ["x", "y", "z"] {
        both.put(&PutRequest { lease: 7, ..put(name) }).await.unwrap();
    }
    // Another lease takes a key over, and none gives it up.
    both.put(&PutRequest { lease: 11, ..put("y") }).await.unwrap();
    both.put(&put("z")).await.unwrap();
    let left = |a: &mut LeaseTimeToLiveResponse| {
        header(&mut a.header);
        a.ttl = a.ttl.signum();
        a.keys.sort();
    };
    for (id, keys) in [(7, true), (7, false), (11, true), (-7, true), (0, true), (99, false)] {
        let request = LeaseTimeToLiveRequest { id, keys };
        both.same("Lease/LeaseTimeToLive", &request, left).await.ok();
    }
    let revoked = |a: &mut HeaderResponse| header(&mut a.header);
    for id in [0, 99, 8, 9, 10, 7, 7] {
        both.same("Lease/LeaseRevoke", &LeaseId { id }, revoked).await.ok();
    }
    let list = |a: &mut LeaseLeasesResponse| {
        header(&mut a.header);
        a.leases.sort_by_key(|lease| lease.id);
    };
    let leases = both.same("Lease/LeaseLeases", &Empty {}, list).await.unwrap();
    assert_eq!(leases.leases.len(), 2);
    let last = both.write("last", "").await;
    both.same_events(1, last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance() {
    let Some(both) = Both::begin().await else { return };
    let done = |a: &mut HeaderResponse| header(&mut a.header);
    // Its header, and that of an alarm, is empty in etcd.
    let defragmented = |a: &mut HeaderResponse| a.header = None;
    both.same("Maintenance/Defragment", &Empty {}, defragmented).await.unwrap();
    both.same("Auth/AuthDisable", &Empty {}, done).await.unwrap();
    for target_id in [0, 77] {
        let request = MoveLeaderRequest { target_id };
        both.same("Maintenance/MoveLeader", &request, done).await.unwrap_err();
    }
    let alarms = |a: &mut AlarmResponse| a.header = None;
    for action in [AlarmAction::Get, AlarmAction::Deactivate] {
        for alarm in [AlarmType::None, AlarmType::NoSpace, AlarmType::Corrupt] {
            let (action, alarm) = (action.into(), alarm.into());
            let request = AlarmRequest { action, member_id: 0, alarm };
            both.same("Maintenance/Alarm", &request, alarms).await.unwrap();
        }
    }
    let status = |a: &mut StatusResponse| {
        header(&mut a.header);
        assert!(a.raft_index >= a.raft_applied_index && a.raft_applied_index > 0, "{a:?}");
        assert!(a.raft_term > 0 && a.leader > 0 && a.db_size > 0, "{a:?}");
        assert!(a.version.starts_with("3."), "{a:?}");
        *a = StatusResponse {
            header: a.header,
            errors: std::mem::take(&mut a.errors),
            is_learner: a.is_learner,
            ..StatusResponse::default()
        };
    };
    both.same("Maintenance/Status", &Empty {}, status).await.unwrap();
    let nobody = frame(&Empty {});
    for path in [
        "/etcdserverpb.Auth/Authenticate",
        "/etcdserverpb.KV/Nothing",
        "/etcdserverpb.Nothing/Range",
        "/a/b/c",
    ] {
        both.fails(path, nobody.clone()).await;
    }
}
