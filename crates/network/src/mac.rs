//! Hardware addresses that follow from IPv4 addresses, so that no node must tell another its own.

use std::fmt;
use std::net::Ipv4Addr;

/// Locally administered, unicast, with the address in the last four bytes.
pub(crate) fn of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// A MAC as people write it.
pub(crate) struct Shown(pub(crate) [u8; 6]);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Shown, of};
    use std::net::Ipv4Addr;

    #[test]
    fn the_address_is_in_it() {
        assert_eq!(Shown(of(Ipv4Addr::new(10, 244, 1, 0))).to_string(), "0a:58:0a:f4:01:00");
    }
}
