//! Bytes that no client would send: every one is answered, and the server goes on.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::bed;
use super::client::Client;
use crate::grpc::{decode, frame};
use crate::proto::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseId,
    LeaseTimeToLiveRequest, MemberAddRequest, MemberIdRequest, MemberListRequest,
    MemberUpdateRequest, MoveLeaderRequest, PutRequest, RangeRequest, Request, RequestOp,
    TxnRequest, WatchRequest,
};

/// Reads bytes as every request that there is.
fn read_as_everything(bytes: &Bytes) {
    macro_rules! read {
        ($($message:ty)*) => {$( decode::<$message>(bytes.clone()).ok(); )*};
    }
    read! {
        RangeRequest PutRequest DeleteRangeRequest TxnRequest CompactionRequest WatchRequest
        LeaseGrantRequest LeaseId LeaseTimeToLiveRequest MemberAddRequest MemberIdRequest
        MemberListRequest MemberUpdateRequest AlarmRequest HashKvRequest MoveLeaderRequest
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
        read_as_everything(&bytes.into());
    }

    #[test]
    fn damaged_requests_are_read_or_refused(
        key in "[a-z]{0,8}",
        number in any::<i64>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let range = RangeRequest { key: key.into(), limit: number, ..RangeRequest::default() };
        let op = RequestOp { request: Some(Request::Range(range)) };
        let txn = TxnRequest { success: vec![op.clone(), op], ..TxnRequest::default() };
        let mut bytes = prost::Message::encode_to_vec(&txn);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_as_everything(&bytes.into());
    }
}

const PATHS: [&str; 12] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Cluster/MemberAdd",
    "/etcdserverpb.Maintenance/Alarm",
    "/etcdserverpb.Auth/UserAdd",
    "/etcdserverpb.KV/Nothing",
    "/",
];

#[tokio::test(flavor = "multi_thread")]
async fn broken_calls_are_refused_and_the_connection_goes_on() {
    let bed = bed().await;
    let client = Client::connect(bed.address).await;
    let mut huge = BytesMut::new();
    huge.put_u8(0);
    huge.put_u32(u32::MAX);
    let bodies = [
        Bytes::new(),
        Bytes::from_static(b"\0"),
        Bytes::from_static(b"\0\0\0\0\x09short"),
        Bytes::from_static(b"\x01\0\0\0\0"),
        Bytes::from_static(b"\0\0\0\0\x02\xff\xff"),
        Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0"),
        huge.freeze(),
    ];
    for path in PATHS {
        for body in &bodies {
            // Some are fine as they are: a stream of no messages, an alarm of no kind.
            if let Err((code, _)) = client.send(path, body.clone()).await {
                assert!(code.parse::<u16>().is_ok_and(|code| code != 0), "{path} {body:?}: {code}");
            }
        }
    }
    let nested = (0..64).fold(TxnRequest::default(), |inner, _| {
        let op = RequestOp { request: Some(Request::Txn(inner)) };
        TxnRequest { success: vec![op], ..TxnRequest::default() }
    });
    let refused = client.send(PATHS[2], frame(&nested)).await;
    assert!(refused.is_err(), "{refused:?}");
    let large =
        PutRequest { key: "k".into(), value: vec![0; 1600 << 10].into(), ..PutRequest::default() };
    let (code, words) = client.send(PATHS[1], frame(&large)).await.unwrap_err();
    assert_eq!((code.as_str(), words.as_str()), ("3", "etcdserver: request is too large"));
    let ok =
        client.send(PATHS[0], frame(&RangeRequest { key: "k".into(), ..RangeRequest::default() }));
    assert!(ok.await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_cannot_ask_for_more_than_an_answer_holds() {
    let bed = bed().await;
    let client = Client::connect(bed.address).await;
    for key in ["a", "b"] {
        bed.store.put(key, vec![1; 1400 << 10]).await.unwrap();
    }
    let all = RangeRequest { key: "a".into(), range_end: "c".into(), ..RangeRequest::default() };
    let op = RequestOp { request: Some(Request::Range(all)) };
    let read = TxnRequest { success: vec![op.clone(); 128], ..TxnRequest::default() };
    let put = PutRequest { key: "x".into(), ..PutRequest::default() };
    let put = RequestOp { request: Some(Request::Put(put)) };
    let mut write = read.clone();
    write.success[0] = put;
    for txn in [read, write] {
        let (code, _) = client.send(PATHS[2], frame(&txn)).await.unwrap_err();
        assert_eq!(code, "8");
    }
    let few = TxnRequest { success: vec![op; 2], ..TxnRequest::default() };
    let answer = client.send(PATHS[2], frame(&few)).await.expect("the connection goes on");
    assert!(answer.len() > 4 * (1400 << 10));
}
