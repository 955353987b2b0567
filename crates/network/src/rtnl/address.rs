//! IPv4 addresses of links.

use super::{DUMP, INET, REPLACE};
use crate::Result;
use crate::netlink::{Answer, Message, Socket, attributes, ipv4, ne_u32};
use ipnet::Ipv4Net;
use libc::{IFA_ADDRESS, IFA_LOCAL, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR};

/// Bytes of `ifaddrmsg`.
const INFO: usize = 8;
const SCOPE_UNIVERSE: u8 = 0;

/// An address and the link that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) link: u32,
    pub(crate) address: Ipv4Net,
    /// Good for packets that leave the machine.
    pub(crate) global: bool,
}

pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Found>> {
    let message = Message::new(RTM_GETADDR, DUMP, &header(0, 0), "list the addresses");
    socket.dump(message, parse)
}

/// Gives a link an address; it may have it already.
pub(crate) fn add(socket: &mut Socket, link: u32, address: Ipv4Net) -> Result<()> {
    let what = format!("add the address {address} to the network interface with index {link}");
    socket.request(message(RTM_NEWADDR, REPLACE, link, address, what))
}

pub(crate) fn delete(socket: &mut Socket, link: u32, address: Ipv4Net) -> Result<()> {
    let what = format!("remove the address {address} from the network interface with index {link}");
    socket.request(message(RTM_DELADDR, 0, link, address, what))
}

/// Makes `address` the one address of a link.
pub(crate) fn set(socket: &mut Socket, link: u32, address: Ipv4Net) -> Result<()> {
    for found in list(socket)? {
        if found.link == link && found.address != address {
            delete(socket, link, found.address)?;
        }
    }
    add(socket, link, address)
}

fn message(kind: u16, flags: u16, link: u32, address: Ipv4Net, what: String) -> Message {
    let mut message = Message::new(kind, flags, &header(address.prefix_len(), link), what);
    message.put_ipv4(IFA_LOCAL, address.addr()).put_ipv4(IFA_ADDRESS, address.addr());
    message
}

/// `ifaddrmsg`: family, prefix, flags, scope, link.
fn header(prefix: u8, link: u32) -> [u8; INFO] {
    let mut bytes = [0; INFO];
    bytes[0] = INET;
    bytes[1] = prefix;
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes
}

fn parse(answer: Answer<'_>) -> Option<Found> {
    let (info, rest) = answer.payload.split_at_checked(INFO)?;
    if answer.kind != RTM_NEWADDR || info[0] != INET {
        return None;
    }
    let value = |kind| attributes(rest).find(|a| a.kind == kind).and_then(|a| ipv4(a.value));
    let address = value(IFA_LOCAL).or_else(|| value(IFA_ADDRESS))?;
    Some(Found {
        link: ne_u32(&info[4..]),
        address: Ipv4Net::new(address, info[1]).ok()?,
        global: info[3] == SCOPE_UNIVERSE,
    })
}
