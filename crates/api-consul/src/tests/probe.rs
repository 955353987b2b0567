//! Probes over UDP, gRPC and TLS, against servers made here.

use std::convert::Infallible;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use crate::agent::probe::look;
use crate::cluster::{Probe, Status};

#[tokio::test]
async fn udp_needs_an_answer() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let answering = tokio::spawn(async move {
        let (length, from) = socket.recv_from(&mut [0; 64]).await.unwrap();
        socket.send_to(&[b'x'; 9], from).await.unwrap();
        length
    });
    let wanted = (Status::Passing, format!("UDP connect {address}: Success"));
    assert_eq!(look(&Probe::Udp(address.clone())).await, wanted);
    assert_eq!(answering.await.unwrap(), 1);
    // Nobody listens there any more: the kernel says so.
    assert_eq!(look(&Probe::Udp(address)).await.0, Status::Critical);
    assert_eq!(look(&Probe::Udp("169.254.169.254:53".to_owned())).await.0, Status::Critical);
}

/// What a gRPC server answers: its health, after which service it is asked.
async fn health(
    request: Request<Incoming>,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    let (status, code) = match &asked[5..] {
        b"" => (1, "0"),
        b"\x0a\x03bad" => (2, "0"),
        _ => (0, "5"),
    };
    let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
    Ok(Response::new(StreamBody::new(futures::stream::iter(frames))))
}

#[tokio::test]
async fn grpc_says_how_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service_fn(health)));
        }
    });
    let ask =
        async |target: String| look(&Probe::Grpc { target, tls: false, skip_verify: false }).await;
    let good = ask(address.clone()).await;
    assert_eq!(good, (Status::Passing, format!("gRPC check {address}: success")));
    let bad = ask(format!("{address}/bad")).await;
    assert_eq!((bad.0, bad.1.contains("NOT_SERVING")), (Status::Critical, true), "{}", bad.1);
    let unknown = ask(format!("{address}/none")).await;
    assert_eq!(
        (unknown.0, unknown.1.contains("code 5")),
        (Status::Critical, true),
        "{}",
        unknown.1
    );
    assert_eq!(ask("127.0.0.1:1".to_owned()).await.0, Status::Critical);
}

#[tokio::test]
async fn https_verifies_unless_it_is_told_not_to() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await
                && stream.read(&mut [0; 1024]).await.is_ok()
            {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await);
            }
        }
    });
    let url = format!("https://127.0.0.1:{port}/");
    let ask = async |skip_verify| {
        let (method, header, body) = ("GET".to_owned(), Default::default(), String::new());
        look(&Probe::Http { url: url.clone(), method, header, body, skip_verify }).await
    };
    let good = ask(true).await;
    assert_eq!(good, (Status::Passing, format!("HTTP GET {url}: 200 OK Output: ok")));
    let bad = ask(false).await;
    assert_eq!(
        (bad.0, bad.1.starts_with("TLS with 127.0.0.1: ")),
        (Status::Critical, true),
        "{}",
        bad.1
    );
}
