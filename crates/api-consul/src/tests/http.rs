//! Over a real connection: what `curl` reads, and what a connection may do.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Bed, bed};

/// A connection to a server that takes one.
async fn connect(bed: &Bed) -> (TcpStream, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    (stream, tokio::spawn(bed.server.clone().serve(accepted)))
}

/// Sends a request, and reads until the connection is closed.
async fn exchange(bed: &Bed, request: &str) -> String {
    let (mut stream, _serving) = connect(bed).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_transcript() {
    let bed = bed().await;
    let put = "PUT /v1/kv/group1/key1 HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nConnection: close\r\n\r\nvalue1";
    let answer = exchange(&bed, put).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\ntrue"), "{answer}");
    let get = "GET /v1/kv/group1/key1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = exchange(&bed, get).await;
    let value = "[{\"LockIndex\":0,\"Key\":\"group1/key1\",\"Flags\":0,\"Value\":\"dmFsdWUx\",\"CreateIndex\":";
    assert!(answer.contains(value), "{answer}");
    for header in [
        "Content-Type: application/json\r\n",
        "X-Consul-Index: ",
        "X-Consul-Knownleader: true\r\n",
        "X-Consul-Lastcontact: 0\r\n",
        "X-Consul-Effective-Consistency: leader\r\n",
        "Vary: Accept-Encoding\r\n",
    ] {
        assert!(answer.contains(header), "{header} in {answer}");
    }
    let leader = "GET /v1/status/leader HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(exchange(&bed, leader).await.ends_with("\"127.0.0.1:8300\""));
}

#[tokio::test]
async fn access_control_is_off() {
    let bed = bed().await;
    for (method, uri) in [("PUT", "/v1/acl/bootstrap"), ("GET", "/v1/acl/tokens")] {
        let said = bed.ask(method, uri, "").await;
        assert_eq!((said.status, said.text()), (StatusCode::UNAUTHORIZED, "ACL support disabled"));
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_limited() {
    let bed = bed().await;
    let put = async |pieces: usize| {
        let piece = |_| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; 64 << 10])));
        let body = StreamBody::new(futures::stream::iter((0..pieces).map(piece)));
        let request = Request::put("/v1/kv/a").body(body).unwrap();
        bed.server.clone().answer(request).await.status()
    };
    assert_eq!(put(8).await, StatusCode::OK);
    assert_eq!(put(9).await, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let bed = bed().await;
    let (mut stream, _serving) = connect(&bed).await;
    let request = format!("GET /v1/kv/{} HTTP/1.1\r\nHost: x\r\n\r\n", "k".repeat(2 << 20));
    drop(stream.write_all(request.as_bytes()).await);
    let mut answer = vec![0; 64];
    // It hangs up, with or without a word that arrives.
    if let Ok(length) = stream.read(&mut answer).await {
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_waits_no_more() {
    let bed = bed().await;
    assert!(bed.put("/v1/kv/a", "1").await);
    let index = bed.get("/v1/kv/a").await.index();
    let (mut stream, serving) = connect(&bed).await;
    let request = format!("GET /v1/kv/a?index={index} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(stream);
    serving.await.unwrap();
}
