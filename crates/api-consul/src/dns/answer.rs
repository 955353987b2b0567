//! From a question to its answer: a look-up in one table.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use pontoon_traffic::dns::request::{reply_to, with_code};
use rand::seq::SliceRandom;

use super::fit::{Draft, Part, Room};
use super::name::{Asked, Zone};
use super::table::{Instance, NodeNames, Place, Selection, Table};

/// How long answers may be kept unless a prepared query says so: as by Consul, not at all.
const TTL_SECONDS: u32 = 0;
/// As many names are followed that lead to others in the domain.
const MOST_ALIASES: usize = 3;
/// As many name servers are told.
const MOST_SERVERS: usize = 3;

/// An answer with a code and nothing else.
pub(super) fn failed(request: &Message, code: ResponseCode) -> Draft {
    let reply = with_code(reply_to(request), code);
    Draft { reply, parts: Vec::new(), are_alike: false }
}

/// What the table says to a request's question.
pub(super) fn answer(
    table: &Table,
    zone: &Zone,
    request: &Message,
    query: &Query,
    room: &Room,
) -> Draft {
    let kind = query.query_type();
    let mut found = Found::none(table, zone, kind, room.most(true));
    let mut reply = reply_to(request);
    reply.metadata.authoritative = true;
    match (zone.asked(query.name()), kind) {
        (Asked::Foreign, _) => return failed(request, ResponseCode::Refused),
        (Asked::Reverse(address), _) => match table.by_address.get(&address) {
            Some(name) => found.reverse(query.name(), name),
            None => return failed(request, ResponseCode::Refused),
        },
        (_, RecordType::SOA | RecordType::NS) => add_servers(&mut reply, table, zone, kind),
        (asked, _) => {
            if !found.resolve(query.name(), &asked, 0) {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
            if found.fixed.is_empty() && found.parts.is_empty() {
                reply.add_authority(soa(zone));
            }
        }
    }
    reply.add_answers(found.fixed);
    Draft { reply, parts: found.parts, are_alike: found.are_alike }
}

/// The answers that were found so far.
struct Found<'t> {
    table: &'t Table,
    zone: &'t Zone,
    kind: RecordType,
    /// More instances than these are of no use.
    most: usize,
    are_alike: bool,
    /// How long they may be kept.
    ttl_seconds: u32,
    /// Aliases on the way, which must stay.
    fixed: Vec<Record>,
    parts: Vec<Part>,
}

impl<'t> Found<'t> {
    fn none(table: &'t Table, zone: &'t Zone, kind: RecordType, most: usize) -> Found<'t> {
        let (fixed, parts) = (Vec::new(), Vec::new());
        let are_alike = false;
        Found { table, zone, kind, most, are_alike, ttl_seconds: TTL_SECONDS, fixed, parts }
    }

    /// Adds what is known of a name; false if there is no such name.
    fn resolve(&mut self, owner: &Name, asked: &Asked, aliases: usize) -> bool {
        match asked {
            Asked::Node(name) => {
                let Some(node) = self.table.nodes.get(name) else { return false };
                self.node(owner, node, aliases);
                true
            }
            Asked::Service { name, tag } => {
                let selection = self.table.services.get(name);
                selection.is_some_and(|found| self.instances(owner, found, tag.as_deref(), aliases))
            }
            Asked::Query(name) => {
                let selection = self.table.queries.get(name);
                selection.is_some_and(|found| self.instances(owner, found, None, aliases))
            }
            Asked::Address(address) => {
                let place = Place::at(*address);
                self.parts.extend(self.address(owner, &place).map(Part::alone));
                true
            }
            Asked::Between => true,
            Asked::Reverse(_) | Asked::Nowhere | Asked::Foreign => false,
        }
    }

    fn reverse(&mut self, owner: &Name, name: &Name) {
        if matches!(self.kind, RecordType::PTR | RecordType::ANY) {
            let answer = self.record(owner, RData::PTR(PTR(name.clone())));
            self.parts.push(Part::alone(answer));
        }
    }

    fn node(&mut self, owner: &Name, node: &NodeNames, aliases: usize) {
        let texts = node.texts.iter().map(|text| self.record(owner, text.clone()));
        let texts: Vec<Record> = texts.collect();
        if self.kind == RecordType::TXT {
            self.parts.extend(texts.into_iter().map(Part::alone));
        } else if let Some(alias) = &node.place.alias {
            self.alias(owner, alias, aliases);
        } else if let Some(answer) = self.address(owner, &node.place) {
            // Of a name that another led to nobody asked for more than the address.
            let texts = if aliases > 0 { Vec::new() } else { texts };
            match self.kind {
                RecordType::ANY => {
                    self.parts.extend([answer].into_iter().chain(texts).map(Part::alone));
                }
                _ => self.parts.push(Part { answer, additional: texts }),
            }
        }
    }

    /// False if there is none with the tag, as if the name were not there.
    fn instances(
        &mut self,
        owner: &Name,
        selection: &Selection,
        tag: Option<&str>,
        aliases: usize,
    ) -> bool {
        let has_tag =
            |instance: &&Instance| tag.is_none_or(|tag| instance.tags.iter().any(|own| own == tag));
        let mut instances: Vec<&Instance> = selection.instances.iter().filter(has_tag).collect();
        if instances.is_empty() {
            return false;
        }
        self.are_alike = true;
        if !selection.is_sorted {
            instances.shuffle(&mut rand::rng());
        }
        if aliases == 0 {
            self.ttl_seconds = selection.ttl_seconds;
        }
        if self.kind == RecordType::SRV {
            self.ports(owner, &instances);
            return true;
        }
        let mut seen = HashSet::new();
        let places = instances.iter().map(|instance| &instance.place);
        let addresses = places.clone().filter_map(|place| self.address(owner, place));
        let distinct = addresses.filter(|answer| seen.insert(answer.data.clone()));
        let parts: Vec<Part> = distinct.take(self.most).map(Part::alone).collect();
        self.parts.extend(parts);
        // One name leads to one other: to that of the first, if none has an address.
        if places.clone().all(|place| place.any.is_none())
            && let Some(alias) = places.clone().find_map(|place| place.alias.as_ref())
        {
            self.alias(owner, alias, aliases);
        }
        true
    }

    /// Where the instances listen, with their addresses and what is known of their nodes.
    fn ports(&mut self, owner: &Name, instances: &[&Instance]) {
        let (mut seen, mut targets, mut nodes) = (HashSet::new(), HashSet::new(), HashSet::new());
        for instance in instances {
            if self.parts.len() >= self.most {
                return;
            }
            let target = &instance.target;
            if !seen.insert((target, instance.port)) {
                continue;
            }
            let data = SRV::new(1, instance.weight, instance.port, target.clone());
            let answer = self.record(owner, RData::SRV(data));
            let mut additional = Vec::new();
            if targets.insert(target) {
                additional.extend(self.addresses(instance));
            }
            if let Some(full) = &instance.node.full
                && nodes.insert(full)
            {
                let texts = instance.node.texts.iter();
                additional.extend(texts.map(|text| self.record(full, text.clone())));
            }
            self.parts.push(Part { answer, additional });
        }
    }

    /// The addresses of what a SRV record names, if they are known.
    fn addresses(&self, instance: &Instance) -> Vec<Record> {
        let mut found = Found::none(self.table, self.zone, RecordType::ANY, self.most);
        found.ttl_seconds = self.ttl_seconds;
        match &instance.place.alias {
            Some(alias) => drop(found.resolve(alias, &self.zone.asked(alias), 1)),
            None => {
                let answer = found.address(&instance.target, &instance.place);
                found.parts.extend(answer.map(Part::alone));
            }
        }
        let answers = found.parts.into_iter().map(|part| part.answer);
        found.fixed.into_iter().chain(answers).collect()
    }

    /// An alias, and where it leads if that is in the domain.
    fn alias(&mut self, owner: &Name, alias: &Name, aliases: usize) {
        if self.fixed.iter().any(|there| there.name == *owner) {
            return;
        }
        self.fixed.push(self.record(owner, RData::CNAME(CNAME(alias.clone()))));
        let is_wanted = matches!(self.kind, RecordType::A | RecordType::AAAA | RecordType::ANY);
        if is_wanted && aliases < MOST_ALIASES {
            self.resolve(alias, &self.zone.asked(alias), aliases + 1);
        }
    }

    /// The address of a place for who asks.
    fn address(&self, owner: &Name, place: &Place) -> Option<Record> {
        let address = match self.kind {
            RecordType::A => IpAddr::V4(place.v4?),
            RecordType::AAAA => IpAddr::V6(place.v6?),
            RecordType::ANY => place.any?,
            _ => return None,
        };
        Some(self.record(owner, address_data(address)))
    }

    fn record(&self, owner: &Name, data: RData) -> Record {
        Record::from_rdata(owner.clone(), self.ttl_seconds, data)
    }
}

impl Part {
    fn alone(answer: Record) -> Part {
        Part { answer, additional: Vec::new() }
    }
}

/// Adds the name servers of the domain, some of them each time, with their addresses; and the domain's own record before
/// them, if that was asked for.
fn add_servers(reply: &mut Message, table: &Table, zone: &Zone, kind: RecordType) {
    let mut servers: Vec<_> = table.servers.iter().collect();
    servers.shuffle(&mut rand::rng());
    let mut names = Vec::new();
    for server in servers.into_iter().take(MOST_SERVERS) {
        let Some(full) = &server.full else { continue };
        let data = RData::NS(NS(full.clone()));
        names.push(Record::from_rdata(zone.apex().clone(), TTL_SECONDS, data));
        let (v4, v6) = (server.place.v4.map(IpAddr::V4), server.place.v6.map(IpAddr::V6));
        let record = |address| Record::from_rdata(full.clone(), TTL_SECONDS, address_data(address));
        reply.add_additionals(v4.into_iter().chain(v6).map(record));
    }
    if kind == RecordType::SOA {
        reply.add_answer(soa(zone));
        reply.add_authorities(names);
    } else {
        reply.add_answers(names);
    }
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn soa(zone: &Zone) -> Record {
    let below = |label| zone.below(label).unwrap_or_else(Name::root);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // The times are for secondary servers, which do not exist; the last figure is how long a denial may be kept.
    let serial = u32::try_from(now & u64::from(u32::MAX)).unwrap_or_default();
    let data = SOA::new(below("ns"), below("hostmaster"), serial, 3600, 600, 86_400, TTL_SECONDS);
    Record::from_rdata(zone.apex().clone(), TTL_SECONDS, RData::SOA(data))
}
