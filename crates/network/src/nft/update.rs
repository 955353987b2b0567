//! From what the kernel holds to what it shall hold, as one transaction that touches only the difference. Pure.

use super::batch::{Batch, Family, SetSpec, Values};
use super::element::{Data, Field};
use super::program::{Affinity, Body, Program};
use super::rule::{End, KEY, Memory, Register, Rule, SetRef, TARGET, Verdict, turns};
use super::schema;
use super::table::ServiceTable;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;

/// Where the turn's number is.
const TURN: Register = KEY;

/// A transaction and how much it changes.
pub(super) struct Update {
    pub(super) batch: Batch,
    pub(super) changes: usize,
}

/// The whole table, whatever was there.
pub(super) fn rebuild(name: &str, table: &ServiceTable, wanted: &Program) -> Update {
    let mut batch = Batch::new(Family::Ipv4, name);
    batch.replace_table();
    schema::add(&mut batch, table);
    let changes = write(&mut batch, table.cluster_cidr, &Program::default(), wanted);
    Update { batch, changes: changes.max(1) }
}

/// Only what changed.
pub(super) fn change(name: &str, cluster: Ipv4Net, old: &Program, wanted: &Program) -> Update {
    let mut batch = Batch::new(Family::Ipv4, name);
    let changes = write(&mut batch, cluster, old, wanted);
    Update { batch, changes }
}

/// New things first, since rules name them; then rules; then what leads packets to them; what is gone last.
fn write(batch: &mut Batch, cluster: Ipv4Net, old: &Program, wanted: &Program) -> usize {
    for affinity in wanted.affinities.difference(&old.affinities) {
        let key = &[Field::Address];
        let (name, values) = (affinity.map.as_str(), Values::Targets);
        batch.add_set(SetSpec { name, key, values, timeout: Some(affinity.seconds) });
    }
    let changed: Vec<(&String, &Body)> =
        wanted.chains.iter().filter(|(name, body)| old.chains.get(*name) != Some(*body)).collect();
    let gone: Vec<&String> =
        old.chains.keys().filter(|name| !wanted.chains.contains_key(*name)).collect();
    for (name, _) in &changed {
        if old.chains.contains_key(*name) {
            batch.flush_chain(name);
        } else {
            batch.add_chain(name);
        }
    }
    for name in &gone {
        batch.flush_chain(name);
    }
    for (name, body) in &changed {
        write_chain(batch, cluster, name, body);
    }
    let elements = write_elements(batch, old, wanted);
    for name in &gone {
        batch.delete_chain(name);
    }
    for affinity in old.affinities.difference(&wanted.affinities) {
        batch.delete_set(&affinity.map);
    }
    changed.len() + gone.len() + elements
}

fn write_elements(batch: &mut Batch, old: &Program, wanted: &Program) -> usize {
    let none = BTreeMap::new();
    let mut count = 0;
    let sets = old.elements.keys().chain(wanted.elements.keys());
    for set in sets.collect::<std::collections::BTreeSet<_>>() {
        let before = old.elements.get(set).unwrap_or(&none);
        let after = wanted.elements.get(set).unwrap_or(&none);
        let stale = |(key, data): &(&Vec<u8>, &Data)| after.get(*key) != Some(*data);
        let fresh = |(key, data): &(&Vec<u8>, &Data)| before.get(*key) != Some(*data);
        let remove: Vec<_> = before.iter().filter(stale).map(|(key, _)| key.clone()).collect();
        let add: Vec<_> =
            after.iter().filter(fresh).map(|(key, data)| (key.clone(), data.clone())).collect();
        count += remove.len() + add.len();
        batch.delete_elements(set, remove);
        batch.add_elements(set, &add);
    }
    count
}

fn write_chain(batch: &mut Batch, cluster: Ipv4Net, name: &str, body: &Body) {
    match body {
        Body::Balance { backends, affinity } => {
            // The answer to a client outside the cluster must come back through this node.
            batch.add_rule(name, |rule| {
                rule.if_in(End::Source, cluster, false).mark();
            });
            if let Some(affinity) = affinity {
                write_affinity(batch, name, affinity, backends);
            }
            write_turn(batch, name, backends, affinity.as_ref());
        }
        Body::External { inner, local } => {
            batch.add_rule(name, |rule| {
                rule.if_in(End::Source, cluster, true).verdict(Verdict::Goto(inner));
            });
            batch.add_rule(name, |rule| {
                rule.if_own(End::Source).verdict(Verdict::Goto(inner));
            });
            write_turn(batch, name, local, None);
        }
    }
}

/// A client that was here goes where it went, if that backend is still one.
fn write_affinity(batch: &mut Batch, chain: &str, affinity: &Affinity, backends: &[SocketAddrV4]) {
    let members: Vec<_> = backends
        .iter()
        .map(|backend| super::element::target(*backend))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .map(|key| (key, Data::Member))
        .collect();
    let key = &[Field::Address, Field::Port];
    let members = batch.add_anonymous(key, Values::None, &members);
    batch.add_rule(chain, |rule| {
        rule.address(End::Source, KEY)
            .lookup(SetRef::Named(&affinity.map), KEY, TARGET)
            .if_member(SetRef::Anonymous(members), TARGET)
            .remember(&affinity.map, Memory::Refresh, affinity.seconds)
            .send_to(TARGET);
    });
}

/// The next connection goes to the next backend.
fn write_turn(
    batch: &mut Batch,
    chain: &str,
    backends: &[SocketAddrV4],
    affinity: Option<&Affinity>,
) {
    let choose: Box<dyn FnOnce(&mut Rule<'_>)> = match backends {
        [] => return,
        [only] => {
            let only = super::element::target(*only);
            Box::new(move |rule| {
                rule.load(&only, TARGET);
            })
        }
        many => {
            let map = batch.add_anonymous(&[Field::Integer], Values::Targets, &turns(many));
            let count = many.len() as u32;
            Box::new(move |rule| {
                rule.next_turn(count, TURN).lookup(SetRef::Anonymous(map), TURN, TARGET);
            })
        }
    };
    batch.add_rule(chain, |rule| {
        choose(rule);
        if let Some(Affinity { map, seconds }) = affinity {
            rule.address(End::Source, KEY).remember(map, Memory::Forget, *seconds).remember(
                map,
                Memory::Refresh,
                *seconds,
            );
        }
        rule.send_to(TARGET);
    });
}

#[cfg(test)]
mod tests {
    use super::{change, rebuild};
    use crate::nft::program::Program;
    use crate::nft::table::tests::{service, table};

    #[test]
    fn nothing_changed_is_an_empty_transaction() {
        let wanted = table([("a", service("10.96.0.1:80", &["10.244.1.2:80"]))]);
        let program = Program::compile(&wanted).unwrap();
        let update = change("t", wanted.cluster_cidr, &program, &program);
        assert_eq!(update.changes, 0);
        assert!(update.batch.into_messages().is_empty());
    }

    #[test]
    fn a_change_touches_only_its_own_service() {
        let old = table([
            ("a", service("10.96.0.1:80", &["10.244.1.2:80", "10.244.2.2:80"])),
            ("b", service("10.96.0.2:80", &["10.244.1.3:80", "10.244.2.3:80"])),
        ]);
        let new = table([
            ("a", service("10.96.0.1:80", &["10.244.1.2:80", "10.244.2.2:80"])),
            ("b", service("10.96.0.2:80", &["10.244.1.3:80", "10.244.2.9:80"])),
        ]);
        let [before, after] = [&old, &new].map(|table| Program::compile(table).unwrap());
        let update = change("t", new.cluster_cidr, &before, &after);
        // The chain, one hairpin entry less and one more.
        assert_eq!(update.changes, 3);
        let messages = update.batch.into_messages();
        assert!(messages.iter().all(|m| !m.what().contains("default/a")), "{messages:?}");
        assert!(messages.len() < 10, "{}", messages.len());
        assert!(rebuild("t", &new, &after).batch.into_messages().len() > 30);
    }
}
