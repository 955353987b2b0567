//! What probes ask without gRPC.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bed, bed};

impl Bed {
    /// Status and body of an answer over HTTP/1.1.
    async fn asks(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_told_whether_the_member_is_healthy() {
    let bed = bed().await;
    let healthy = (200, r#"{"health":"true","reason":""}"#.to_owned());
    assert_eq!(bed.asks("GET", "/health").await, healthy);
    let version = (200, r#"{"etcdserver":"3.5.21","etcdcluster":"3.5.0"}"#.to_owned());
    assert_eq!(bed.asks("GET", "/version").await, version);
    assert_eq!(bed.asks("POST", "/health").await.0, 405);
    for path in ["/", "/metrics", "/v3/kv/range", "/healthz"] {
        let (status, words) = bed.asks("GET", path).await;
        assert_eq!(status, 404, "{path}");
        assert!(words.contains("/health"), "{path}: {words}");
    }
    // A gRPC path is no page, and is never "good" for one who does not speak it.
    for path in ["/etcdserverpb.KV/Range", "/v3lockpb.Lock/Lock"] {
        assert_eq!(bed.asks("POST", path).await.0, 415, "{path}");
    }
    bed.store.shutdown().await;
    assert_eq!(bed.asks("GET", "/health").await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_ends_the_connection() {
    let bed = bed().await;
    for bytes in [&b"\0\0\0\0"[..], b"GET / HTTP/1.1\r\nx", &[b'a'; 100_000]] {
        let mut stream = TcpStream::connect(bed.address).await.unwrap();
        // It may be closed before all is written.
        stream.write_all(bytes).await.ok();
        stream.shutdown().await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
}
