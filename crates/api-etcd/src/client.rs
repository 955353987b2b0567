//! A small client of etcd's API, for tests and benchmarks: one HTTP/2 connection, calls of one message or of many.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use futures::stream::unfold;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::grpc::frame;
use crate::status::GRPC_STATUS;

/// What the server may send ahead for each call.
const WINDOW: u32 = 1 << 20;
/// Messages of a stream that wait to be sent.
const QUEUE: usize = 16;
/// The largest answer that is read.
const ANSWER_MAX: usize = 64 << 20;
/// Bytes before each message.
const PREFIX: usize = 5;

type RequestBody = UnsyncBoxBody<Bytes, Infallible>;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The server refused it.
    #[error("refused with code {code}: {message}")]
    Refused {
        /// gRPC's code.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The connection broke, or what came was no answer; what was asked may have been done.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Failure {
    fn broken(error: impl std::fmt::Display) -> Failure {
        Failure::Broken(error.to_string())
    }

    /// How a call ended, by its trailers; `None` if well.
    fn told(trailers: &HeaderMap) -> Option<Failure> {
        let text =
            |name: &str| trailers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let Some(code) = text(GRPC_STATUS.as_str()).and_then(|code| code.parse::<u16>().ok())
        else {
            return Some(Failure::broken("an answer without a status"));
        };
        let message = text("grpc-message").unwrap_or_default().into_owned();
        (code != 0).then_some(Failure::Refused { code, message })
    }
}

/// One connection. Cheap to clone; it ends when all its clones are gone.
#[derive(Clone, Debug)]
pub struct Client {
    sender: SendRequest<RequestBody>,
}

impl Client {
    /// Connects without TLS.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(address: SocketAddr) -> Result<Client, Failure> {
        let stream = TcpStream::connect(address).await.map_err(Failure::broken)?;
        stream.set_nodelay(true).map_err(Failure::broken)?;
        Client::over(stream, WINDOW).await
    }

    /// Speaks over a stream that somebody else opened; the server may send this many bytes ahead for each call.
    ///
    /// # Errors
    /// When the other end does not speak HTTP/2.
    pub async fn over<T>(stream: T, window: u32) -> Result<Client, Failure>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Failure::broken)?;
        // Its end is told to whoever waits for an answer.
        tokio::spawn(connection);
        Ok(Client { sender })
    }

    /// One message for one message.
    ///
    /// # Errors
    /// When the server refuses, or does not answer.
    pub async fn call<A: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
    ) -> Result<A, Failure> {
        let answer = self.send(path, frame(request)).await?;
        A::decode(answer).map_err(Failure::broken)
    }

    /// A body, whatever it is, for one message.
    ///
    /// # Errors
    /// When the server refuses, or does not answer.
    pub async fn send(&self, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let (head, body) = self.open(path, Full::new(body).boxed_unsync()).await?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(Failure::broken)?;
        if let Some(failure) = Failure::told(body.trailers().unwrap_or(&head.headers)) {
            return Err(failure);
        }
        let mut message = body.to_bytes();
        message.advance(message.len().min(PREFIX));
        Ok(message)
    }

    /// Messages both ways. etcd answers nothing before it has heard the first.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn stream(&self, path: &str, first: &impl Message) -> Result<Stream, Failure> {
        let (messages, receiver) = mpsc::channel::<Bytes>(QUEUE);
        messages.try_send(frame(first)).map_err(Failure::broken)?;
        let frames = unfold(receiver, |mut receiver| async {
            let message = receiver.recv().await?;
            Some((Ok(Frame::data(message)), receiver))
        });
        let answer = self.open(path, StreamBody::new(frames).boxed_unsync()).await?;
        // A call that failed before it began has only headers.
        if answer.headers().contains_key(GRPC_STATUS) {
            return Err(
                Failure::told(answer.headers()).unwrap_or_else(|| Failure::broken("it ended"))
            );
        }
        Ok(Stream { messages, answers: answer.into_body(), pending: BytesMut::new() })
    }

    async fn open(&self, path: &str, body: RequestBody) -> Result<Response<Incoming>, Failure> {
        let request = Request::post(format!("http://etcd{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .map_err(Failure::broken)?;
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(Failure::broken)?;
        sender.send_request(request).await.map_err(Failure::broken)
    }
}

/// A call of many messages.
#[derive(Debug)]
pub struct Stream {
    messages: mpsc::Sender<Bytes>,
    answers: Incoming,
    pending: BytesMut,
}

impl Stream {
    /// Says one more thing.
    ///
    /// # Errors
    /// When the call has ended.
    pub async fn say(&self, message: &impl Message) -> Result<(), Failure> {
        self.messages.send(frame(message)).await.map_err(Failure::broken)
    }

    /// The next message; `None` when the call has ended well.
    ///
    /// # Errors
    /// When it has ended otherwise.
    pub async fn hear<A: Message + Default>(&mut self) -> Result<Option<A>, Failure> {
        loop {
            if let Some(message) = self.next_message()? {
                return A::decode(message).map(Some).map_err(Failure::broken);
            }
            let Some(frame) = self.answers.frame().await else {
                return Err(Failure::broken("the call ended without a status"));
            };
            match frame.map_err(Failure::broken)?.into_data() {
                Ok(data) => self.pending.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return Failure::told(&trailers).map_or(Ok(None), Err);
                }
            }
        }
    }

    fn next_message(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(head) = self.pending.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > ANSWER_MAX {
            return Err(Failure::broken(format!("an answer of {length} bytes")));
        }
        if self.pending.len() < PREFIX + length {
            return Ok(None);
        }
        self.pending.advance(PREFIX);
        Ok(Some(self.pending.split_to(length).freeze()))
    }
}
