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
    Draft { reply, parts: Vec::new(), kind: RecordType::ANY }
}

/// What the table says to a request's question.
pub(super) fn answer(
    table: &Table,
    zone: &Zone,
    request: &Message,
    query: &Query,
    room: &Room,
) -> Draft {
    let asked = zone.asked(query.name());
    if asked == Asked::Foreign {
        return failed(request, ResponseCode::Refused);
    }
    let kind = query.query_type();
    let mut reply = reply_to(request);
    reply.metadata.authoritative = true;
    let mut found = Found::none(table, zone, kind, room.most(kind));
    let exists = match (&asked, kind) {
        (Asked::Reverse(address), _) => {
            let Some(name) = table.by_address.get(address) else {
                return failed(request, ResponseCode::Refused);
            };
            if matches!(kind, RecordType::PTR | RecordType::ANY) {
                let answer = found.record(query.name(), RData::PTR(PTR(name.clone())));
                found.parts.push(Part::alone(answer));
            }
            true
        }
        (_, RecordType::SOA) => {
            let soa = soa(zone);
            reply.add_answer(soa);
            let (servers, addresses) = servers(table, zone);
            reply.add_authorities(servers);
            reply.add_additionals(addresses);
            true
        }
        (_, RecordType::NS) => {
            let (servers, addresses) = servers(table, zone);
            reply.add_answers(servers);
            reply.add_additionals(addresses);
            true
        }
        _ => found.resolve(query.name(), &asked, 0),
    };
    let Found { fixed, parts, .. } = found;
    reply.add_answers(fixed);
    if !exists {
        reply = with_code(reply, ResponseCode::NXDomain);
    }
    if reply.answers.is_empty() && parts.is_empty() {
        reply.add_authority(soa(zone));
    }
    Draft { reply, parts, kind }
}

/// The answers that were found so far.
struct Found<'t> {
    table: &'t Table,
    zone: &'t Zone,
    kind: RecordType,
    /// More than these are of no use.
    most: usize,
    /// How long they may be kept.
    ttl_seconds: u32,
    /// Aliases on the way, which must stay.
    fixed: Vec<Record>,
    parts: Vec<Part>,
}

impl<'t> Found<'t> {
    fn none(table: &'t Table, zone: &'t Zone, kind: RecordType, most: usize) -> Found<'t> {
        let (fixed, parts) = (Vec::new(), Vec::new());
        Found { table, zone, kind, most, ttl_seconds: TTL_SECONDS, fixed, parts }
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
        for instance in &instances {
            if self.parts.len() >= self.most {
                break;
            }
            if let Some(answer) = self.address(owner, &instance.place)
                && seen.insert(answer.data.clone())
            {
                self.parts.push(Part::alone(answer));
            }
        }
        // One name leads to one other: to the first of the instances, if none has an address.
        if instances.iter().all(|instance| instance.place.any.is_none())
            && let Some(alias) = instances.iter().find_map(|instance| instance.place.alias.as_ref())
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

/// The name servers of the domain, in another order each time, and their addresses.
fn servers(table: &Table, zone: &Zone) -> (Vec<Record>, Vec<Record>) {
    let mut servers: Vec<_> = table.servers.iter().collect();
    servers.shuffle(&mut rand::rng());
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for server in servers.into_iter().take(MOST_SERVERS) {
        let Some(full) = &server.full else { continue };
        let data = RData::NS(NS(full.clone()));
        names.push(Record::from_rdata(zone.apex().clone(), TTL_SECONDS, data));
        let (v4, v6) = (server.place.v4.map(IpAddr::V4), server.place.v6.map(IpAddr::V6));
        let record = |address| Record::from_rdata(full.clone(), TTL_SECONDS, address_data(address));
        addresses.extend(v4.into_iter().chain(v6).map(record));
    }
    (names, addresses)
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
