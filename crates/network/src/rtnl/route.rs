//! IPv4 routes of the main table.

use super::{DUMP, INET, REPLACE};
use crate::Result;
use crate::netlink::{Answer, Message, Socket, attributes, ipv4, ne_u32};
use crate::types::Route;
use ipnet::Ipv4Net;
use libc::{
    RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PREFSRC,
    RTA_PRIORITY, RTA_TABLE, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, RTN_UNICAST,
};
use std::net::Ipv4Addr;

/// Bytes of `rtmsg`.
const INFO: usize = 12;
/// "The gateway is on this link, whatever the addresses say."
const RTNH_F_ONLINK: u32 = 4;
/// "Made by an administrator": no routing daemon will touch it.
const RTPROT_STATIC: u8 = 4;

pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Route>> {
    let mut header = [0; INFO];
    header[0] = INET;
    socket.dump(Message::new(RTM_GETROUTE, DUMP, &header, "list the routes"), parse)
}

/// To `destination` through a link: by a gateway on it that need not be in its subnet, or directly.
pub(crate) fn add(
    socket: &mut Socket,
    destination: Ipv4Net,
    link: u32,
    gateway: Option<Ipv4Addr>,
) -> Result<()> {
    let by = gateway.map_or_else(String::new, |gateway| format!(" by {gateway}"));
    let what = format!("add the route to {destination}{by}");
    socket.request(message(RTM_NEWROUTE, REPLACE, destination, (link, gateway), what))
}

/// Removes the route; it may be gone already.
pub(crate) fn delete(socket: &mut Socket, destination: Ipv4Net, link: u32) -> Result<()> {
    let what = format!("remove the route to {destination}");
    match socket.request(message(RTM_DELROUTE, 0, destination, (link, None), what)) {
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

fn message(
    kind: u16,
    flags: u16,
    destination: Ipv4Net,
    (link, gateway): (u32, Option<Ipv4Addr>),
    what: String,
) -> Message {
    let mut header = [0; INFO];
    header[0] = INET;
    header[1] = destination.prefix_len();
    header[4] = RT_TABLE_MAIN;
    if kind == RTM_NEWROUTE {
        header[5] = RTPROT_STATIC;
        header[6] = if gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
        header[7] = RTN_UNICAST;
    } else {
        header[6] = libc::RT_SCOPE_NOWHERE;
    }
    if gateway.is_some() {
        header[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    let mut message = Message::new(kind, flags, &header, what);
    message.put_ipv4(RTA_DST, destination.network()).put_u32(RTA_OIF, link);
    if let Some(gateway) = gateway {
        message.put_ipv4(RTA_GATEWAY, gateway);
    }
    message
}

fn parse(answer: Answer<'_>) -> Option<Route> {
    let (info, rest) = answer.payload.split_at_checked(INFO)?;
    if answer.kind != RTM_NEWROUTE || info[0] != INET || info[7] != RTN_UNICAST {
        return None;
    }
    let (mut to, mut table) = (Ipv4Addr::UNSPECIFIED, u32::from(info[4]));
    let (mut gateway, mut link, mut metric, mut source) = (None, 0, 0, None);
    for attribute in attributes(rest) {
        match attribute.kind {
            RTA_DST => to = ipv4(attribute.value)?,
            RTA_TABLE => table = ne_u32(attribute.value),
            RTA_GATEWAY => gateway = ipv4(attribute.value),
            RTA_OIF => link = ne_u32(attribute.value),
            RTA_PRIORITY => metric = ne_u32(attribute.value),
            RTA_PREFSRC => source = ipv4(attribute.value),
            _ => {}
        }
    }
    if table != u32::from(RT_TABLE_MAIN) {
        return None;
    }
    Some(Route { destination: Ipv4Net::new(to, info[1]).ok()?, gateway, link, metric, source })
}
