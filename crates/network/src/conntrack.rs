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

/// The backends of fronts.
pub(crate) type Fronts = HashMap<Front, HashSet<SocketAddrV4>>;

/// Which tracked connections are wrong after a change of services.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// Fronts that may have lost backends, with those that they have now: who was sent elsewhere is stale.
    kept: Fronts,
    /// UDP fronts that are new: what a client sent there before went nowhere, and would go on doing so.
    fresh: HashSet<Front>,
    /// All fronts of one address, before or after; they come before those of every address.
    exact: HashSet<Front>,
}

impl Stale {
    /// Compares what was with what is; without what was, every front may have lost backends.
    pub(crate) fn between(before: Option<&Fronts>, after: &Fronts) -> Self {
        let exact = before.into_iter().flatten().chain(after).map(|(front, _)| *front);
        let mut stale = Self::default();
        stale.exact.extend(exact.filter(|front| front.address.is_some()));
        let Some(before) = before else {
            stale.kept.clone_from(after);
            return stale;
        };
        for (front, backends) in before {
            let now = after.get(front).cloned().unwrap_or_default();
            if !backends.is_subset(&now) {
                stale.kept.insert(*front, now);
            }
        }
        let fresh = after.keys().filter(|f| f.protocol == Protocol::Udp && !before.contains_key(f));
        stale.fresh.extend(fresh);
        stale
    }

    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.fresh.is_empty()
    }

    fn covers(&self, flow: &Flow) -> bool {
        let front = Front {
            address: Some(*flow.destination.ip()),
            protocol: flow.protocol,
            port: flow.destination.port(),
        };
        let front = match self.exact.contains(&front) {
            true => front,
            false => Front { address: None, ..front },
        };
        if !flow.translated {
            return flow.protocol == Protocol::Udp && self.fresh.contains(&front);
        }
        // An established connection may be one that its backend, on its way out, still serves.
        let idle = flow.protocol == Protocol::Udp || HALF_OPEN_OR_OVER.contains(&flow.tcp_state);
        idle && self.kept.get(&front).is_some_and(|kept| !kept.contains(&flow.backend))
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
    use super::{Flow, Front, Fronts, Protocol, Stale};

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

    fn front(protocol: Protocol) -> Front {
        Front { address: Some([10, 96, 0, 1].into()), protocol, port: 80 }
    }

    fn fronts(protocol: Protocol, backends: &[&str]) -> Fronts {
        let backends = backends.iter().map(|backend| backend.parse().unwrap()).collect();
        Fronts::from([(front(protocol), backends)])
    }

    #[test]
    fn only_what_no_living_connection_needs_is_forgotten() {
        let before = fronts(Protocol::Tcp, &["10.244.1.2:8080", "10.244.1.3:8080"]);
        let after = fronts(Protocol::Tcp, &["10.244.1.3:8080"]);
        let gone = Stale::between(Some(&before), &after);
        assert!(gone.covers(&flow(Protocol::Tcp, 1)), "a SYN without an answer");
        assert!(gone.covers(&flow(Protocol::Tcp, 7)), "TIME_WAIT");
        assert!(!gone.covers(&flow(Protocol::Tcp, 3)), "established");
        assert!(!gone.covers(&flow(Protocol::Udp, 0)), "another protocol");
        assert!(Stale::between(Some(&after), &before).is_empty(), "one more takes none away");
        assert!(!Stale::between(None, &before).covers(&flow(Protocol::Tcp, 1)), "it is right");
        assert!(
            Stale::between(None, &after).covers(&flow(Protocol::Tcp, 1)),
            "from before a restart"
        );
    }

    #[test]
    fn a_udp_client_of_a_removed_service_is_forgotten() {
        let before = fronts(Protocol::Udp, &["10.244.1.2:8080"]);
        let gone = Stale::between(Some(&before), &Fronts::new());
        assert!(gone.covers(&flow(Protocol::Udp, 0)));
    }

    #[test]
    fn a_new_udp_front_takes_over_what_went_nowhere() {
        let after = fronts(Protocol::Udp, &["10.244.1.2:8080"]);
        let fresh = Stale::between(Some(&Fronts::new()), &after);
        let mut direct = flow(Protocol::Udp, 0);
        assert!(!fresh.covers(&direct), "it is translated already");
        direct.translated = false;
        assert!(fresh.covers(&direct));
    }

    #[test]
    fn a_port_of_every_address_says_nothing_of_a_services_own() {
        let anywhere = Front { address: None, ..front(Protocol::Udp) };
        let mut before = fronts(Protocol::Udp, &["10.244.1.2:8080"]);
        let after = before.clone();
        before.insert(anywhere, ["10.244.1.9:8080".parse().unwrap()].into());
        let change = Stale::between(Some(&before), &after);
        assert!(!change.covers(&flow(Protocol::Udp, 0)));
        let mut to_node = flow(Protocol::Udp, 0);
        to_node.destination = "172.30.0.1:80".parse().unwrap();
        to_node.backend = "10.244.1.9:8080".parse().unwrap();
        assert!(change.covers(&to_node));
    }
}
