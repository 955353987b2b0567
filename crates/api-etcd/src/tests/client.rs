//! A gRPC client for tests: the messages are ours, the servers are ours and etcd's own.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use futures::stream::unfold;
use http::Request;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::grpc::frame;

type RequestBody = UnsyncBoxBody<Bytes, Infallible>;

/// A failed call: its code and words.
pub(super) type Failure = (String, String);

/// One connection.
#[derive(Clone)]
pub(super) struct Client {
    sender: SendRequest<RequestBody>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Client {
        Client::connect_with(address, 1 << 20).await
    }

    /// A client that takes this many bytes ahead for each call.
    pub(super) async fn connect_with(address: SocketAddr, window: u32) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Client { sender }
    }

    /// One message for one message.
    pub(super) async fn call<Q, A>(&self, path: &str, request: &Q) -> Result<A, Failure>
    where
        Q: Message,
        A: Message + Default,
    {
        self.send(path, frame(request)).await.map(|answer| A::decode(answer).unwrap())
    }

    /// One body, whatever it is, for one message.
    pub(super) async fn send(&self, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let answer = self.open(path, Full::new(body).boxed_unsync()).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|e| ("broken".to_owned(), e.to_string()))?;
        let trailers = body.trailers().cloned().unwrap_or(head.headers);
        let text = |name: &str| {
            let value = trailers.get(name).map(|v| v.to_str().unwrap_or_default().to_owned());
            value.unwrap_or_default()
        };
        match text("grpc-status").as_str() {
            "0" => {
                let mut answer = body.to_bytes();
                answer.advance(answer.len().min(5));
                Ok(answer)
            }
            code => Err((code.to_owned(), text("grpc-message"))),
        }
    }

    /// Messages both ways. etcd answers nothing before it has heard the first.
    pub(super) async fn stream(&self, path: &str, first: &impl Message) -> Stream {
        let (messages, receiver) = mpsc::channel::<Bytes>(16);
        messages.send(frame(first)).await.unwrap();
        let frames = unfold(receiver, |mut receiver| async {
            let message = receiver.recv().await?;
            Some((Ok(Frame::data(message)), receiver))
        });
        let answer = self.open(path, StreamBody::new(frames).boxed_unsync()).await;
        Stream { messages, answers: answer.into_body(), pending: BytesMut::new() }
    }

    async fn open(&self, path: &str, body: RequestBody) -> http::Response<Incoming> {
        let request = Request::post(format!("http://test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        self.sender.clone().send_request(request).await.unwrap()
    }
}

/// A call of many messages.
pub(super) struct Stream {
    messages: mpsc::Sender<Bytes>,
    answers: Incoming,
    pending: BytesMut,
}

impl Stream {
    pub(super) async fn say(&self, message: &impl Message) {
        self.messages.send(frame(message)).await.unwrap();
    }

    /// The next message; how the call ended, when it did.
    pub(super) async fn hear<A: Message + Default>(&mut self) -> Result<A, Option<Failure>> {
        loop {
            if let Some(head) = self.pending.first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.pending.len() >= 5 + length {
                    self.pending.advance(5);
                    return Ok(A::decode(self.pending.split_to(length).freeze()).unwrap());
                }
            }
            let Some(frame) = self.answers.frame().await else { return Err(None) };
            match frame.unwrap().into_data() {
                Ok(data) => self.pending.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    let text = |name: &str| trailers[name].to_str().unwrap().to_owned();
                    if trailers["grpc-status"] == "0" {
                        return Err(None);
                    }
                    return Err(Some((text("grpc-status"), text("grpc-message"))));
                }
            }
        }
    }
}
