//! A datagram, and any answer to it. Consul had this after 1.8; without an answer it was critical, as here.

use tokio::net::UdpSocket;

use super::connect::addresses;
use crate::catalog::record::Status;

/// What is sent: something that a service may answer, and that says nothing.
const DATAGRAM: &[u8] = b"\n";

pub(super) async fn ask(address: &str) -> Result<(Status, String), String> {
    let failed = |error: std::io::Error| format!("UDP connect {address}: {error}");
    let found = addresses("udp", address).await?;
    let to = found.first().ok_or_else(|| format!("dial udp {address}: there is no such host"))?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    socket.connect(to).await.map_err(failed)?;
    socket.send(DATAGRAM).await.map_err(failed)?;
    // What it answers does not matter; what is longer is cut off.
    socket.recv(&mut [0]).await.map_err(failed)?;
    Ok((Status::Passing, format!("UDP connect {address}: Success")))
}
