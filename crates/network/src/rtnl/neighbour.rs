//! Permanent neighbours: IPv4 address to MAC, and a VXLAN device's MAC to underlay address.

use super::{BRIDGE, DUMP, INET, REPLACE};
use crate::Result;
use crate::netlink::{Answer, Message, Socket, attributes, ipv4, ne_u32};
use libc::{
    NDA_DST, NDA_LLADDR, NTF_SELF, NUD_PERMANENT, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH,
};
use std::net::Ipv4Addr;

/// Bytes of `ndmsg`.
const INFO: usize = 12;

/// Which of a link's two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Who has this IPv4 address.
    Arp,
    /// Behind which underlay address a MAC is.
    Forwarding,
}

impl Table {
    fn family(self) -> u8 {
        match self {
            Self::Arp => INET,
            Self::Forwarding => BRIDGE,
        }
    }
}

/// An entry of either table: an IPv4 address and a MAC that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: [u8; 6],
}

/// The entries of one link; those without both an address and a MAC are left out.
pub(crate) fn list(socket: &mut Socket, table: Table, link: u32) -> Result<Vec<Neighbour>> {
    let message = Message::new(RTM_GETNEIGH, DUMP, &header(table, 0), "list the neighbours");
    socket.dump(message, |answer| parse(answer, table, link))
}

pub(crate) fn add(socket: &mut Socket, table: Table, link: u32, entry: Neighbour) -> Result<()> {
    socket.request(message(RTM_NEWNEIGH, REPLACE, table, link, entry))
}

/// Removes the entry; it may be gone already.
pub(crate) fn delete(socket: &mut Socket, table: Table, link: u32, entry: Neighbour) -> Result<()> {
    match socket.request(message(RTM_DELNEIGH, 0, table, link, entry)) {
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

fn message(kind: u16, flags: u16, table: Table, link: u32, entry: Neighbour) -> Message {
    let verb = if kind == RTM_NEWNEIGH { "add" } else { "remove" };
    let what = format!("{verb} the neighbour {} {}", entry.address, crate::mac::Shown(entry.mac));
    let mut message = Message::new(kind, flags, &header(table, link), what);
    message.put_ipv4(NDA_DST, entry.address).put(NDA_LLADDR, &entry.mac);
    message
}

/// `ndmsg`: family, link, state, flags, type.
fn header(table: Table, link: u32) -> [u8; INFO] {
    let mut bytes = [0; INFO];
    bytes[0] = table.family();
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    if table == Table::Forwarding {
        bytes[10] = NTF_SELF;
    }
    bytes
}

fn parse(answer: Answer<'_>, table: Table, link: u32) -> Option<Neighbour> {
    let (info, rest) = answer.payload.split_at_checked(INFO)?;
    if answer.kind != RTM_NEWNEIGH || info[0] != table.family() || ne_u32(&info[4..]) != link {
        return None;
    }
    let value = |kind| attributes(rest).find(|a| a.kind == kind).map(|a| a.value);
    Some(Neighbour { address: ipv4(value(NDA_DST)?)?, mac: value(NDA_LLADDR)?.try_into().ok()? })
}
