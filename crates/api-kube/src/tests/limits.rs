//! Bounds for each identity, and the end of long requests.

use http_body_util::BodyExt;

use super::cluster::Cluster;
use crate::{Identity, Limits};
use http::Request;
use http_body_util::Empty;

const WATCH: &str = "/api/v1/pods?watch=true";

async fn open_watch(cluster: &Cluster) -> http::Response<crate::Body> {
    let request = Request::get(WATCH).body(Empty::<bytes::Bytes>::new()).unwrap();
    cluster.server.handle(Identity::admin(), request).await
}

#[tokio::test]
async fn too_many_watches_are_told_to_come_back() {
    let cluster = Cluster::start_with(Limits { requests: 10, long_running: 1 }).await;
    let first = open_watch(&cluster).await;
    assert_eq!(first.status(), 200);
    let refused = cluster.get(WATCH).await;
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.refusal().0, 429);
    assert_eq!(cluster.get("/api/v1/pods").await.code, 200);
    drop(first);
    assert_eq!(open_watch(&cluster).await.status(), 200);
}

#[tokio::test]
async fn no_request_is_served_beyond_the_bound() {
    let cluster = Cluster::start_with(Limits { requests: 0, long_running: 0 }).await;
    let (code, reason, _) = cluster.get("/api/v1/pods").await.refusal();
    assert_eq!((code, reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(cluster.get("/healthz").await.text(), "ok");
}

#[tokio::test]
async fn watches_end_when_the_server_stops() {
    let cluster = Cluster::start().await;
    let watch = open_watch(&cluster).await;
    cluster.shutdown.cancel();
    let left = watch.into_body().collect().await.unwrap().to_bytes();
    assert!(left.is_empty() || left.ends_with(b"\n"));
}

#[tokio::test]
async fn ten_thousand_idle_watches_are_woken_by_one_write() {
    use futures::future::join_all;
    let cluster = Cluster::start().await;
    let watches: Vec<_> = join_all((0..10_000).map(|_| open_watch(&cluster))).await;
    cluster.create("/api/v1/namespaces/default/pods", super::cluster::pod("p")).await;
    for watch in watches {
        let mut body = watch.into_body();
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let frame = body.frame().await.unwrap().unwrap();
            line.extend_from_slice(frame.data_ref().unwrap());
        }
        assert!(line.starts_with(br#"{"type":"ADDED""#), "{}", String::from_utf8_lossy(&line));
    }
}
