//! A call that may take long does not hold up the others of its connection.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::client::Client;
use crate::connection::{Connection, Received};
use crate::grpc::unary_apart;
use crate::kv;
use crate::proto::{
    DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, Request, RequestOp, TxnRequest,
};

/// How long a thread stands still at most, should nobody let it go.
const STANDS_STILL: Duration = Duration::from_secs(30);

fn range(range_end: &'static str) -> RangeRequest {
    RangeRequest { key: "a".into(), range_end: range_end.into(), ..RangeRequest::default() }
}

/// Serves one connection; a large call says when it has begun, and takes its thread until it is let go.
async fn serve(listener: TcpListener, began: Arc<Notify>, go: Arc<Mutex<mpsc::Receiver<()>>>) {
    let (stream, _) = listener.accept().await.unwrap();
    let service = service_fn(move |call: http::Request<hyper::body::Incoming>| {
        let (began, go) = (Arc::clone(&began), Arc::clone(&go));
        let serve = |request: RangeRequest| async move {
            let mut answer = RangeResponse { count: 1, ..RangeResponse::default() };
            if kv::is_large(&request) {
                began.notify_one();
                let let_go = go.lock().unwrap().recv_timeout(STANDS_STILL);
                answer.count = if let_go.is_ok() { 2 } else { 0 };
            }
            Ok(answer)
        };
        async move { Ok::<_, Infallible>(unary_apart(Box::new(call), kv::is_large, serve).await) }
    });
    let received = Received::default();
    let wire =
        http2::Builder::new(received.clone()).serve_connection(TokioIo::new(stream), service);
    Connection::new(wire, received).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_call_leaves_the_small_ones_of_its_connection_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (began, (let_go, go)) = (Arc::new(Notify::new()), mpsc::channel());
    let go = Arc::new(Mutex::new(go));
    let serving = tokio::spawn(serve(listener, Arc::clone(&began), go));
    let client = Client::connect(address).await;
    let ask = async |request: RangeRequest| -> RangeResponse {
        client.call("/etcdserverpb.KV/Range", &request).await.expect("an answer")
    };
    let small = async {
        began.notified().await;
        for _ in 0..3 {
            assert_eq!(ask(range("")).await.count, 1);
        }
        let_go.send(()).unwrap();
    };
    let (large, ()) = tokio::join!(ask(range("z")), small);
    assert_eq!(large.count, 2, "the small ones were answered while it stood still");
    serving.abort();
}

#[test]
fn large_is_what_may_be_answered_with_many_keys() {
    let delete = |range_end: &'static str, prev_kv| DeleteRangeRequest {
        key: "a".into(),
        range_end: range_end.into(),
        prev_kv,
    };
    assert!(kv::is_large(&range("z")) && !kv::is_large(&range("")));
    assert!(kv::delete_is_large(&delete("z", true)));
    assert!(!kv::delete_is_large(&delete("z", false)) && !kv::delete_is_large(&delete("", true)));
    let is_large = |requests: Vec<Request>, failing: bool| {
        let ops =
            requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect();
        let txn = TxnRequest::default();
        kv::txn_is_large(&match failing {
            true => TxnRequest { failure: ops, ..txn },
            false => TxnRequest { success: ops, ..txn },
        })
    };
    let put = || Request::Put(PutRequest::default());
    for failing in [false, true] {
        assert!(!is_large(vec![put(), Request::Range(range(""))], failing));
        assert!(is_large(vec![put(), Request::Range(range("z"))], failing));
        assert!(is_large(vec![Request::DeleteRange(delete("z", true))], failing));
        assert!(is_large(vec![Request::Txn(TxnRequest::default())], failing));
        assert!(!is_large((0..16).map(|_| put()).collect(), failing));
        assert!(is_large((0..17).map(|_| put()).collect(), failing));
    }
}
