//! Sealed frames over TCP: a length of four bytes, then the sealed bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::exchange::{Exchange, MAX_EXCHANGE};
use crate::seal::{OVERHEAD, Purpose, Seal};

pub(crate) async fn send<W>(stream: &mut W, seal: &Seal, exchange: &Exchange) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let sealed = seal.seal(Purpose::Frame, &exchange.encode()).ok_or(io::ErrorKind::Other)?;
    let length = u32::try_from(sealed.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&sealed).await?;
    stream.flush().await
}

pub(crate) async fn receive<R>(stream: &mut R, seal: &Seal) -> io::Result<Exchange>
where
    R: AsyncRead + Unpin,
{
    let length = stream.read_u32().await? as usize;
    if length > MAX_EXCHANGE + OVERHEAD {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // Read as it comes: a peer that claims much and sends little costs little.
    let mut sealed = Vec::new();
    stream.take(length as u64).read_to_end(&mut sealed).await?;
    if sealed.len() != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let opened = seal.open(Purpose::Frame, &mut sealed);
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not sealed with our gossip key");
    Exchange::decode(opened.ok_or_else(invalid)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
