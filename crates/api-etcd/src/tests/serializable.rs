//! What a member answers from its own copy, whether anybody leads or not.

use super::client::{Client, Failure};
use super::lone_bed_with;
use crate::proto::{
    Compare, CompareResult, PutRequest, RangeRequest, Request, RequestOp, TxnRequest, TxnResponse,
};

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn range(serializable: bool) -> RequestOp {
    let range = RangeRequest { key: "k".into(), serializable, ..RangeRequest::default() };
    op(Request::Range(range))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_serializable_reads_needs_no_leader() {
    let bed = lone_bed_with(|_| ()).await;
    let client = Client::connect(bed.address).await;
    let txn = async |txn: TxnRequest| -> Result<TxnResponse, Failure> {
        client.call("/etcdserverpb.KV/Txn", &txn).await
    };
    let compare =
        Compare { key: "k".into(), result: CompareResult::Equal.into(), ..Compare::default() };
    let read = TxnRequest {
        compare: vec![compare],
        success: vec![range(true), range(true)],
        failure: vec![range(true)],
    };
    assert_eq!(txn(read.clone()).await.expect("a local answer").responses.len(), 2);
    let put = op(Request::Put(PutRequest { key: "k".into(), ..PutRequest::default() }));
    let inner =
        op(Request::Txn(TxnRequest { success: vec![range(true)], ..TxnRequest::default() }));
    // One that may have to be linearizable makes all of it so, also in the branch that is not taken.
    for op in [range(false), put, inner] {
        let mut other = read.clone();
        other.failure.push(op);
        let refused = txn(other).await.map(|_| ()).unwrap_err();
        assert_eq!(refused, ("14".to_owned(), "etcdserver: no leader".to_owned()));
    }
}
