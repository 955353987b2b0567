//! From a question to its answer: pure, given the zone and whose turn it is.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::TTL_SECONDS;
use super::records::{Entry, Port};
use super::request::{Unanswerable, question, reply_to, with_code};
use super::zone::{Found, Zone};

/// An address record whose owner is the question's name.
const SMALLEST_RECORD_BYTES: usize = 16;

/// What to do with a request.
#[derive(Debug)]
pub enum Outcome {
    /// Send this back.
    Reply(Box<Message>),
    /// Ask the upstream servers and pass on what they say.
    Forward,
    /// Send this back with the upstream servers' addresses for the name it leads to.
    Chase { reply: Box<Message>, target: Name },
    /// Say nothing: the packet was itself an answer.
    Ignore,
}

/// Whose turn it is to be first, one counter for names that hash alike. Only questions for addresses
/// turn it, so that a client's paired question for IPv6 does not eat every second turn.
pub struct Rotation {
    turns: [AtomicUsize; 256],
    hasher: BuildHasherDefault<DefaultHasher>,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { turns: [const { AtomicUsize::new(0) }; 256], hasher: BuildHasherDefault::default() }
    }
}

impl Rotation {
    fn next(&self, entry: &Entry) -> usize {
        let slot = self.hasher.hash_one(&entry.addresses) % self.turns.len() as u64;
        let slot = usize::try_from(slot).unwrap_or_default();
        self.turns[slot].fetch_add(1, Ordering::Relaxed)
    }
}

/// What `zone` says to `request`.
pub fn answer(zone: &Zone, request: &Message, rotation: &Rotation) -> Outcome {
    let query = match question(request) {
        Ok(query) => query,
        Err(Unanswerable::Ignore) => return Outcome::Ignore,
        Err(Unanswerable::Refuse(reply)) => return Outcome::Reply(reply),
    };
    let mut reply = able_reply_to(request);
    match zone.find(query.name()) {
        Found::Foreign => Outcome::Forward,
        Found::Nothing => deny(zone, reply, ResponseCode::NXDomain),
        Found::Empty => apex(zone, reply, query),
        Found::Pod(address) => {
            add_addresses(&mut reply, query, &[address], 0);
            finish(zone, reply)
        }
        Found::Address(names) => {
            if wants(query, RecordType::PTR) {
                for name in names {
                    push(&mut reply, query.name(), RData::PTR(PTR(name.clone())));
                }
            }
            finish(zone, reply)
        }
        Found::Name(entry) => with_entry(zone, reply, query, entry, rotation),
    }
}

/// A failure to send when the upstream servers did not answer.
pub(super) fn failure(request: &Message) -> Message {
    with_code(able_reply_to(request), ResponseCode::ServFail)
}

/// A reply of somebody who can ask others.
fn able_reply_to(request: &Message) -> Message {
    let mut reply = reply_to(request);
    reply.metadata.recursion_available = true;
    reply
}

fn deny(zone: &Zone, mut reply: Message, code: ResponseCode) -> Outcome {
    reply.metadata.authoritative = true;
    reply.metadata.response_code = code;
    let soa = soa(zone);
    reply.add_authority(soa);
    Outcome::Reply(Box::new(reply))
}

/// The reply as it is, or a denial of the type when it has no answer.
fn finish(zone: &Zone, mut reply: Message) -> Outcome {
    if reply.answers.is_empty() {
        return deny(zone, reply, ResponseCode::NoError);
    }
    reply.metadata.authoritative = true;
    Outcome::Reply(Box::new(reply))
}

fn apex(zone: &Zone, mut reply: Message, query: &Query) -> Outcome {
    if wants(query, RecordType::SOA) && zone.apex().eq_ignore_root(query.name()) {
        let soa = soa(zone);
        reply.add_answer(soa);
    }
    finish(zone, reply)
}

fn with_entry(
    zone: &Zone,
    mut reply: Message,
    query: &Query,
    entry: &Entry,
    rotation: &Rotation,
) -> Outcome {
    if let Some(target) = &entry.alias {
        push(&mut reply, query.name(), RData::CNAME(CNAME(target.clone())));
        return alias(zone, reply, query, target, rotation);
    }
    if wants(query, RecordType::A) {
        add_addresses(&mut reply, query, &entry.addresses, rotation.next(entry));
    }
    if wants(query, RecordType::SRV) {
        add_ports(&mut reply, query, &entry.ports);
    }
    finish(zone, reply)
}

/// An alias leads into the zone once at most, so that two that name each other end here.
fn alias(
    zone: &Zone,
    mut reply: Message,
    query: &Query,
    target: &Name,
    rotation: &Rotation,
) -> Outcome {
    if !matches!(query.query_type(), RecordType::A | RecordType::AAAA) {
        return finish(zone, reply);
    }
    match zone.find(target) {
        Found::Foreign => {
            reply.metadata.authoritative = true;
            Outcome::Chase { reply: Box::new(reply), target: target.clone() }
        }
        Found::Name(entry) if query.query_type() == RecordType::A => {
            let turn = rotation.next(entry);
            let query = Query::query(target.clone(), RecordType::A);
            add_addresses(&mut reply, &query, &entry.addresses, turn);
            finish(zone, reply)
        }
        _ => finish(zone, reply),
    }
}

fn wants(query: &Query, kind: RecordType) -> bool {
    query.query_type() == kind || query.query_type() == RecordType::ANY
}

fn push(reply: &mut Message, name: &Name, data: RData) {
    reply.add_answer(Record::from_rdata(name.clone(), TTL_SECONDS, data));
}

fn add_addresses(reply: &mut Message, query: &Query, addresses: &[Ipv4Addr], turn: usize) {
    if !wants(query, RecordType::A) || addresses.is_empty() {
        return;
    }
    let (end, start) = addresses.split_at(turn % addresses.len());
    for address in start.iter().chain(end) {
        push(reply, query.name(), RData::A(A(*address)));
    }
}

fn add_ports(reply: &mut Message, query: &Query, ports: &[Port]) {
    let weight = 100_usize.checked_div(ports.len()).and_then(|w| u16::try_from(w.max(1)).ok());
    for port in ports {
        let data = SRV::new(0, weight.unwrap_or(1), port.number, port.target.clone());
        push(reply, query.name(), RData::SRV(data));
    }
    let mut seen = HashSet::new();
    for port in ports {
        if seen.insert(&port.target) {
            let data = RData::A(A(port.address));
            reply.add_additional(Record::from_rdata(port.target.clone(), TTL_SECONDS, data));
        }
    }
}

fn soa(zone: &Zone) -> Record {
    let below = |label: &str| zone.apex().prepend_label(label).unwrap_or_else(|_| Name::root());
    // The refresh times are for secondary servers, which do not exist; the last figure bounds how long a denial
    // is kept.
    let data = SOA::new(below("ns"), below("hostmaster"), 1, 7200, 1800, 86_400, TTL_SECONDS);
    Record::from_rdata(zone.apex().clone(), TTL_SECONDS, RData::SOA(data))
}

/// The reply in bytes, no more than `limit` of them: records that do not fit are left out and the reply is
/// marked as truncated. `None` if even that cannot be encoded.
pub(super) fn encode(reply: &mut Message, limit: usize) -> Option<Vec<u8>> {
    let most = limit / SMALLEST_RECORD_BYTES + 1;
    if reply.answers.len() > most {
        reply.answers.truncate(most);
        reply.metadata.truncation = true;
    }
    let mut bytes = reply.to_vec().ok()?;
    if bytes.len() > limit && !reply.additionals.is_empty() {
        // What the client did not ask for goes first, without a mark.
        reply.additionals.clear();
        bytes = reply.to_vec().ok()?;
    }
    while bytes.len() > limit {
        if reply.answers.is_empty() && reply.authorities.is_empty() {
            return None;
        }
        reply.metadata.truncation = true;
        reply.authorities.clear();
        let keep = reply.answers.len() * limit / bytes.len();
        reply.answers.truncate(keep.min(reply.answers.len().saturating_sub(1)));
        bytes = reply.to_vec().ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
