//! The way from the API to a node, for logs and exec.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// Any two-way byte stream.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An authenticated connection to a node's API (port 10250), on which nothing has been said yet.
pub type NodeStream = Box<dyn ByteStream>;

/// Connects to nodes by name. The API speaks HTTP/1.1 on the stream and closes it when the request is done:
/// `GET /logs/{namespace}/{pod}/{container}?follow=true&tailLines=..` and
/// `GET /exec/{namespace}/{pod}/{container}?command=..&stdin=true&tty=true` with a WebSocket upgrade.
#[async_trait]
pub trait NodeProxy: Send + Sync + 'static {
    /// Fails when the node is unknown, cannot be reached, or does not prove to be that node.
    async fn connect(&self, node: &str) -> io::Result<NodeStream>;
}
