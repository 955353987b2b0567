//! What sets and maps hold: keys of four-byte fields, as the kernel's registers have them.

use super::table::Protocol;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Every field of a concatenated key fills a register of four bytes.
const FIELD: usize = 4;

/// One field of a key or value; the numbers are `nft`'s, which only `nft list` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Integer = 4,
    Address = 7,
    Protocol = 12,
    Port = 13,
}

/// The number of a concatenated type: six bits a field.
pub(super) fn type_number(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| number << 6 | *field as u32)
}

/// The bytes of a concatenated key.
pub(super) fn type_length(fields: &[Field]) -> u32 {
    (fields.len() * FIELD) as u32
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    /// A set's element: nothing.
    Member,
    /// A map's value: registers.
    Value(Vec<u8>),
    /// A verdict map's value: go on in that chain.
    Goto(String),
}

fn port_field(port: u16) -> [u8; FIELD] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn protocol_field(protocol: Protocol) -> [u8; FIELD] {
    [protocol.number(), 0, 0, 0]
}

/// address . protocol . port
pub(super) fn destination(address: Ipv4Addr, protocol: Protocol, port: u16) -> Vec<u8> {
    [address.octets(), protocol_field(protocol), port_field(port)].concat()
}

/// protocol . port
pub(super) fn local(protocol: Protocol, port: u16) -> Vec<u8> {
    [protocol_field(protocol), port_field(port)].concat()
}

/// address . port
pub(super) fn target(target: SocketAddrV4) -> Vec<u8> {
    [target.ip().octets(), port_field(target.port())].concat()
}

/// source . destination
pub(super) fn pair(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    [source.octets(), destination.octets()].concat()
}

/// A position that `numgen` made: it writes the machine's byte order.
pub(super) fn turn(position: u32) -> Vec<u8> {
    position.to_ne_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::{Field, destination, target, turn, type_length, type_number};
    use crate::nft::Protocol;
    use std::net::{Ipv4Addr, SocketAddrV4};

    #[test]
    fn fields_fill_registers() {
        let ip = Ipv4Addr::new(10, 96, 0, 1);
        assert_eq!(destination(ip, Protocol::Tcp, 443), [10, 96, 0, 1, 6, 0, 0, 0, 1, 187, 0, 0]);
        assert_eq!(target(SocketAddrV4::new(ip, 80)), [10, 96, 0, 1, 0, 80, 0, 0]);
        assert_eq!(turn(1), 1_u32.to_ne_bytes());
    }

    #[test]
    fn types_are_nfts() {
        let key = [Field::Address, Field::Protocol, Field::Port];
        assert_eq!(type_number(&key), 7 << 12 | 12 << 6 | 13);
        assert_eq!(type_length(&key), 12);
    }
}
