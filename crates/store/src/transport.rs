//! How members reach each other: a byte stream that someone else authenticates.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::member::Member;

/// What a [`BoxedStream`] must be.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A connection between two members, authenticated and encrypted by whoever made it.
pub type BoxedStream = Box<dyn ByteStream>;

/// Opens connections to other members; the other end hands its side to `Store::serve`.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Connects to `to`. The store bounds the time it waits and calls again later.
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream>;
}
