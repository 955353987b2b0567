//! Connection tracking: connections that were sent to a backend which is gone are forgotten, so that their next
//! packets are sent anew.

use crate::Result;
use crate::netlink::{Answer, Attribute, Message, Socket, attributes, be_u16, ipv4};
use crate::nft::Protocol;
use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_CTNETLINK as u16;
const GET: u16 = 1;
const DELETE: u16 = 2;
/// `nfgenmsg` for IPv4.
const HEADER: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_STATE: u16 = 4;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_SOURCE: u16 = 1;
const IP_DESTINATION: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const STATE_TCP: u16 = 1;
const TCP_STATE: u16 = 1;

/// `IPS_DST_NAT`: its destination was translated.
const TRANSLATED: u32 = 1 << 5;
/// TCP's states before the backend answered, and after the connection's end.
const HALF_OPEN_OR_OVER: [u8; 5] = [0, 1, 7, 8, 9];

/// Where clients connect to: a service's address, or a port on every address of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Front {
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// What a change of services makes of tracked connections.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// Backends that a front no longer has.
    pub(crate) removed: HashMap<Front, HashSet<SocketAddrV4>>,
    /// UDP fronts that are new: what a client sent there before went nowhere, and would go on doing so.
    pub(crate) fresh: HashSet<Front>,
}

impl Stale {
    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.fresh.is_empty()
    }

    fn covers(&self, flow: &Flow) -> bool {
        let fronts = [Some(*flow.destination.ip()), None].map(|address| Front {
            address,
            protocol: flow.protocol,
            port: flow.destination.port(),
        });
        if !flow.translated {
            return flow.protocol == Protocol::Udp && fronts.iter().any(|f| self.fresh.contains(f));
        }
        // An established connection may be one that its backend, on its way out, still serves.
        let idle = flow.protocol == Protocol::Udp || HALF_OPEN_OR_OVER.contains(&flow.tcp_state);
        let gone = |front| self.removed.get(front).is_some_and(|gone| gone.contains(&flow.backend));
        idle && fronts.iter().any(gone)
    }
}

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flow {
    protocol: Protocol,
    /// Where the client sent it.
    destination: SocketAddrV4,
    /// Who answers.
    backend: SocketAddrV4,
    translated: bool,
    tcp_state: u8,
    /// What names it to the kernel: the original tuple and the number.
    tuple: Vec<u8>,
    id: Vec<u8>,
}

/// Forgets what a change made stale; answers how many.
pub(crate) fn forget_stale(socket: &mut Socket, stale: &Stale) -> Result<usize> {
    if stale.is_empty() {
        return Ok(0);
    }
    forget(socket, |flow| stale.covers(flow))
}

/// Forgets all connections that were sent to this address, established ones too; answers how many.
pub(crate) fn forget_backend(socket: &mut Socket, address: Ipv4Addr) -> Result<usize> {
    forget(socket, |flow| flow.translated && *flow.backend.ip() == address)
}

fn forget(socket: &mut Socket, which: impl Fn(&Flow) -> bool) -> Result<usize> {
    let list = Message::new(
        SUBSYSTEM << 8 | GET,
        libc::NLM_F_DUMP as u16,
        &HEADER,
        "list the tracked connections",
    );
    let flows = socket.dump(list, |answer| parse(&answer).filter(&which))?;
    let mut forgotten = 0;
    for flow in flows {
        let what = format!("forget a connection to {}", flow.destination);
        let mut message = Message::new(SUBSYSTEM << 8 | DELETE, 0, &HEADER, what);
        message.nest(TUPLE_ORIGINAL, |m| {
            m.raw(&flow.tuple);
        });
        message.put(ID, &flow.id);
        match socket.request(message) {
            Ok(()) => forgotten += 1,
            Err(error) if error.is_missing() => {} // it ended meanwhile
            Err(error) => return Err(error),
        }
    }
    Ok(forgotten)
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|a: &Attribute<'_>| a.kind == kind).map(|a| a.value)
}

fn parse(answer: &Answer<'_>) -> Option<Flow> {
    let rest = answer.payload.get(HEADER.len()..)?;
    let tuple = find(rest, TUPLE_ORIGINAL)?;
    let reply = find(rest, TUPLE_REPLY)?;
    let protocol = match find(find(tuple, TUPLE_PROTOCOL)?, PROTOCOL_NUMBER)?.first()? {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return None,
    };
    let status = find(rest, STATUS)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
    let tcp_state = find(rest, PROTOCOL_STATE)
        .and_then(|state| find(state, STATE_TCP))
        .and_then(|state| find(state, TCP_STATE))
        .and_then(|state| state.first().copied());
    Some(Flow {
        protocol,
        destination: end(tuple, IP_DESTINATION, DESTINATION_PORT)?,
        backend: end(reply, IP_SOURCE, SOURCE_PORT)?,
        translated: status & TRANSLATED != 0,
        tcp_state: tcp_state.unwrap_or(0),
        tuple: tuple.to_vec(),
        id: find(rest, ID)?.to_vec(),
    })
}

/// One end of a tuple.
fn end(tuple: &[u8], address: u16, port: u16) -> Option<SocketAddrV4> {
    let address = ipv4(find(find(tuple, TUPLE_IP)?, address)?)?;
    let port = be_u16(find(find(tuple, TUPLE_PROTOCOL)?, port)?);
    Some(SocketAddrV4::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::{Flow, Front, Protocol, Stale};
    use std::collections::{HashMap, HashSet};

    fn flow(protocol: Protocol, tcp_state: u8) -> Flow {
        Flow {
            protocol,
            destination: "10.96.0.1:80".parse().unwrap(),
            backend: "10.244.1.2:8080".parse().unwrap(),
            translated: true,
            tcp_state,
            tuple: Vec::new(),
            id: Vec::new(),
        }
    }

    fn stale(protocol: Protocol, backend: &str) -> Stale {
        let front = Front { address: Some([10, 96, 0, 1].into()), protocol, port: 80 };
        let gone = HashSet::from([backend.parse().unwrap()]);
        Stale { removed: HashMap::from([(front, gone)]), fresh: HashSet::new() }
    }

    #[test]
    fn only_what_no_living_connection_needs_is_forgotten() {
        let gone = stale(Protocol::Tcp, "10.244.1.2:8080");
        assert!(gone.covers(&flow(Protocol::Tcp, 1)), "a SYN without an answer");
        assert!(gone.covers(&flow(Protocol::Tcp, 7)), "TIME_WAIT");
        assert!(!gone.covers(&flow(Protocol::Tcp, 3)), "established");
        assert!(!gone.covers(&flow(Protocol::Udp, 0)), "another protocol");
        assert!(stale(Protocol::Udp, "10.244.1.2:8080").covers(&flow(Protocol::Udp, 0)));
        assert!(!stale(Protocol::Udp, "10.244.1.3:8080").covers(&flow(Protocol::Udp, 0)));
    }

    #[test]
    fn a_new_udp_front_takes_over_what_went_nowhere() {
        let front = Front { address: None, protocol: Protocol::Udp, port: 80 };
        let fresh = Stale { removed: HashMap::new(), fresh: HashSet::from([front]) };
        let mut direct = flow(Protocol::Udp, 0);
        assert!(!fresh.covers(&direct), "it is translated already");
        direct.translated = false;
        assert!(fresh.covers(&direct));
    }
}
