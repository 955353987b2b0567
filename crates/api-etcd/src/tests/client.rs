//! The client as tests want it: what must not go wrong fails the test.

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message;
use tokio::net::TcpStream;

use crate::client;

/// A failed call: its code and words.
pub(super) type Failure = (String, String);

fn told(failure: client::Failure) -> Failure {
    match failure {
        client::Failure::Refused { code, message } => (code.to_string(), message),
        client::Failure::Broken(words) => ("broken".to_owned(), words),
    }
}

/// One connection.
#[derive(Clone)]
pub(super) struct Client(client::Client);

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Client {
        Client(client::Client::connect(address).await.unwrap())
    }

    /// A client that takes this many bytes ahead for each call.
    pub(super) async fn connect_with(address: SocketAddr, window: u32) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        Client(client::Client::over(stream, window).await.unwrap())
    }

    /// One message for one message.
    pub(super) async fn call<Q, A>(&self, path: &str, request: &Q) -> Result<A, Failure>
    where
        Q: Message,
        A: Message + Default,
    {
        self.0.call(path, request).await.map_err(told)
    }

    /// One body, whatever it is, for one message.
    pub(super) async fn send(&self, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        self.0.send(path, body).await.map_err(told)
    }

    /// Messages both ways.
    pub(super) async fn stream(&self, path: &str, first: &impl Message) -> Stream {
        Stream(self.0.stream(path, first).await)
    }
}

/// A call of many messages, or why it did not begin.
pub(super) struct Stream(Result<client::Stream, client::Failure>);

impl Stream {
    pub(super) async fn say(&self, message: &impl Message) {
        self.0.as_ref().unwrap().say(message).await.unwrap();
    }

    /// The next message; how the call ended, when it did.
    pub(super) async fn hear<A: Message + Default>(&mut self) -> Result<A, Option<Failure>> {
        let heard = match &mut self.0 {
            Ok(stream) => stream.hear().await,
            Err(failure) => Err(failure.clone()),
        };
        heard.map_err(|failure| Some(told(failure)))?.ok_or(None)
    }
}
