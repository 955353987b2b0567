//! Addresses and ports that only one service may have: a key for each, written in the same
//! transaction as the service.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use pontoon_model::names;
use pontoon_model::status::Status;
use pontoon_store::{Compare, DeleteRange, Op, Put, Range, Read};

use crate::clock;
use crate::failure::of_read;
use crate::objects::Objects;

const ADDRESSES: &str = "/pontoon/reservations/service-address/";
const PORTS: &str = "/pontoon/reservations/node-port/";
/// How many addresses at the low end are left to those who ask for one by number.
const LOW_BAND: u32 = 256;

/// Something that only one service may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reservation {
    Address(Ipv4Addr),
    NodePort(u16),
}

impl Reservation {
    pub(crate) fn key(self) -> String {
        match self {
            Self::Address(address) => format!("{ADDRESSES}{address}"),
            Self::NodePort(port) => format!("{PORTS}{port}"),
        }
    }
}

/// What a write takes and gives back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reservations {
    pub(crate) taken: BTreeSet<Reservation>,
    pub(crate) released: BTreeSet<Reservation>,
}

impl Reservations {
    /// The step from what a service had to what it is to have.
    pub(crate) fn step(old: &BTreeSet<Reservation>, new: &BTreeSet<Reservation>) -> Self {
        Self {
            taken: new.difference(old).copied().collect(),
            released: old.difference(new).copied().collect(),
        }
    }

    pub(crate) fn compares(&self) -> impl Iterator<Item = Compare> {
        self.taken.iter().map(|r| Compare::absent(r.key()))
    }

    /// The writes, with the service's key as the value: who has it can be looked up.
    pub(crate) fn writes(&self, owner: &str) -> impl Iterator<Item = Op> {
        let puts = self.taken.iter().map(move |r| Put::new(r.key(), owner.to_owned()).into());
        puts.chain(self.released.iter().map(|r| DeleteRange::key(r.key()).into()))
    }
}

impl Objects {
    async fn reserved(&self, prefix: &'static str) -> Result<BTreeSet<String>, Status> {
        let range = Range { keys_only: true, ..Range::prefix(prefix) };
        let found = self.store().range(range, Read::Local).await.map_err(|e| of_read(&e))?;
        let name = |key: &[u8]| String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
        Ok(found.kvs.iter().map(|kv| name(&kv.key)).collect())
    }

    /// A service address that is free, as far as this member knows.
    pub(crate) async fn free_address(&self) -> Result<Option<Ipv4Addr>, Status> {
        let taken = self.reserved(ADDRESSES).await?;
        let free = |address: &Ipv4Addr| !taken.contains(&address.to_string());
        Ok(candidates(&self.config().service_cidr, clock::random()).find(free))
    }

    /// A node port that is free, as far as this member knows, and not among `others`.
    pub(crate) async fn free_port(
        &self,
        others: &BTreeSet<Reservation>,
    ) -> Result<Option<u16>, Status> {
        let taken = self.reserved(PORTS).await?;
        let (first, last) = self.config().node_ports;
        let count = u64::from(last.saturating_sub(first)) + 1;
        let start = clock::random() % count;
        let port = |i: u64| first + u16::try_from((start + i) % count).unwrap_or(0);
        Ok((0..count).map(port).find(|port| {
            !taken.contains(&port.to_string()) && !others.contains(&Reservation::NodePort(*port))
        }))
    }
}

/// The addresses to try: from a random one on through the high part, then the low band.
fn candidates(range: &Ipv4Net, random: u64) -> impl Iterator<Item = Ipv4Addr> {
    let base = u32::from(range.network());
    let size = u32::from(range.broadcast()) - base;
    // Neither the network's own address, nor the first, which is the API's, nor the DNS server's.
    let kept = [0, 1, u32::from(names::DNS_ADDRESS) & 0xff];
    let low = if size > 2 * LOW_BAND { LOW_BAND } else { 1 };
    let high = u64::from(size.saturating_sub(low).max(1));
    let at = move |i: u64| low + u32::try_from((random + i) % high).unwrap_or(0);
    let all = (0..high).map(at).chain(1..low);
    all.filter(move |offset| *offset < size && !kept.contains(offset))
        .map(move |offset| Ipv4Addr::from(base + offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_but_the_kept_ones_comes_once() {
        for (range, most) in [("10.96.0.0/24", 256), ("10.96.0.0/22", 1024), ("10.0.0.0/29", 8)] {
            let range: Ipv4Net = range.parse().unwrap();
            let all: Vec<Ipv4Addr> = candidates(&range, 77_777).collect();
            let distinct: BTreeSet<_> = all.iter().collect();
            assert_eq!(all.len(), distinct.len(), "{range}");
            assert!(all.iter().all(|a| range.contains(a) && *a != range.broadcast()));
            let kept = if most > 10 { 4 } else { 3 };
            assert_eq!(all.len(), most - kept, "{range}");
        }
    }
}
