//! Connections of probes: never to an address that only the machine's provider answers at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where providers tell a machine its secrets, beside the link-local addresses.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// A connection to `host:port`.
pub(super) async fn tcp(address: &str) -> Result<TcpStream, String> {
    let mut last = String::new();
    for found in addresses("tcp", address).await? {
        match TcpStream::connect(found).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("dial tcp {address}: {error}"),
        }
    }
    Err(last)
}

/// The addresses of `host:port` that may be probed: at least one.
pub(super) async fn addresses(net: &str, address: &str) -> Result<Vec<SocketAddr>, String> {
    let failed = |words: &dyn std::fmt::Display| format!("dial {net} {address}: {words}");
    let found = tokio::net::lookup_host(address).await.map_err(|error| failed(&error))?;
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        return Err(failed(&"there is no such host"));
    }
    let good: Vec<_> = found.into_iter().filter(|found| !is_closed(found.ip())).collect();
    match good.is_empty() {
        true => Err(failed(&"link-local and metadata addresses are not probed")),
        false => Ok(good),
    }
}

/// True for an address that no probe asks.
fn is_closed(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        // An IPv4 address may be reached through the prefix of NAT64, too.
        IpAddr::V6(ip) => match ip.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let ip = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
                return is_closed(IpAddr::V4(ip));
            }
            _ => ip.is_unicast_link_local(),
        },
    };
    is_link_local || METADATA.contains(&ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_addresses_are_not_asked() {
        for closed in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "fd00:ec2::254",
            "168.63.129.16",
            "100.100.100.200",
        ] {
            assert!(is_closed(closed.parse().unwrap()), "{closed}");
        }
        for open in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "192.0.2.1", "64:ff9b::c000:201"] {
            assert!(!is_closed(open.parse().unwrap()), "{open}");
        }
    }
}
