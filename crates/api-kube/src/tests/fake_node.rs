//! A node's API as far as logs and exec go: it answers on an in-memory stream.

use std::io;
use std::sync::Mutex;

use async_trait::async_trait;
use base64::Engine;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::{NodeProxy, NodeStream};

/// Nodes that remember what they were asked. `n1` answers, `n2` cannot be reached, `n3` refuses exec.
#[derive(Default)]
pub(super) struct FakeNodes {
    pub(super) asked: std::sync::Arc<Mutex<Vec<String>>>,
    /// How many connections are open.
    pub(super) open: std::sync::Arc<tokio::sync::watch::Sender<usize>>,
}

#[async_trait]
impl NodeProxy for FakeNodes {
    async fn connect(&self, node: &str) -> io::Result<NodeStream> {
        if node == "n2" {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens"));
        }
        let refuses_exec = node == "n3";
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (asked, open) = (self.asked.clone(), self.open.clone());
        open.send_modify(|count| *count += 1);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                asked.lock().unwrap().push(request.uri().to_string());
                std::future::ready(Ok::<_, io::Error>(answer(request, refuses_exec)))
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(theirs), service)
                .with_upgrades();
            drop(connection.await);
            open.send_modify(|count| *count -= 1);
        });
        Ok(Box::new(ours))
    }
}

fn answer(request: Request<Incoming>, refuses_exec: bool) -> Response<Full<Bytes>> {
    let text = |code: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = code;
        response
    };
    if request.uri().path().starts_with("/logs/") {
        return text(StatusCode::OK, "one\ntwo\n");
    }
    if refuses_exec {
        return text(StatusCode::FORBIDDEN, "not on this node");
    }
    let key = request.headers().get("sec-websocket-key").unwrap().as_bytes().to_vec();
    let offered = request.headers().get("sec-websocket-protocol").unwrap().to_str().unwrap();
    assert!(offered.contains("v5.channel.k8s.io"), "{offered}");
    let command = request.uri().query().unwrap_or_default().to_owned();
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.unwrap();
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None);
        run(socket.await, &command).await;
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", derive_accept_key(&key))
        .header("sec-websocket-protocol", "v5.channel.k8s.io");
    response.body(Full::default()).unwrap()
}

/// `cat` gives back what it is told, `fail` exits with 7, anything else says hello.
async fn run<S>(mut socket: WebSocketStream<S>, command: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    const STDIN: u8 = 0;
    const CLOSE: u8 = 255;
    let send = async |socket: &mut WebSocketStream<S>, channel: u8, bytes: &[u8]| {
        let message = [&[channel], bytes].concat();
        socket.send(Message::Binary(message.into())).await.unwrap();
    };
    if command.contains("command=cat") {
        while let Some(Ok(Message::Binary(message))) = socket.next().await {
            match message[0] {
                STDIN => send(&mut socket, 1, &message[1..]).await,
                CLOSE => break,
                other => panic!("channel {other}"),
            }
        }
    } else {
        send(&mut socket, 1, b"hello from the node\n").await;
    }
    let status = if command.contains("command=fail") {
        json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with exit code 7",
            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}})
    } else {
        json!({"metadata": {}, "status": "Success"})
    };
    send(&mut socket, 3, status.to_string().as_bytes()).await;
    let end = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    drop(socket.close(Some(end)).await);
}

/// A key as clients send it.
pub(super) fn websocket_key() -> String {
    base64::engine::general_purpose::STANDARD.encode([7; 16])
}
