//! From what the kernel holds to what it shall hold, as one transaction that touches only the difference. Pure.

use super::balance::{write_backend, write_balance};
use super::batch::{Batch, Family, SetSpec, Values};
use super::element::{Data, Field};
use super::program::{Body, Program};
use super::rule::{End, Verdict};
use super::schema;
use super::table::ServiceTable;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;

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
    for (name, seconds) in wanted.clients.difference(&old.clients) {
        let key = &[Field::Address];
        batch.add_set(SetSpec { name, key, values: Values::None, timeout: Some(*seconds) });
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
    for (name, _) in old.clients.difference(&wanted.clients) {
        batch.delete_set(name);
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
        Body::Backend { backend, affinity } => write_backend(batch, name, *backend, affinity),
        Body::Balance { backends, affinity } => {
            // The answer to a client outside the cluster must come back through this node.
            batch.add_rule(name, |rule| {
                rule.if_in(End::Source, cluster, false).mark();
            });
            write_balance(batch, name, backends, affinity.as_ref());
        }
        Body::External { inner, local, affinity } => {
            batch.add_rule(name, |rule| {
                rule.if_in(End::Source, cluster, true).verdict(Verdict::Goto(inner));
            });
            batch.add_rule(name, |rule| {
                rule.if_own(End::Source).verdict(Verdict::Goto(inner));
            });
            write_balance(batch, name, local, affinity.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{change, rebuild};
    use crate::nft::program::Program;
    use crate::nft::table::tests::{service, table};

    #[test]
    fn nothing_changed_is_an_empty_transaction() {
        let wanted = table([("a", service("10.96.0.1:80", &["10.244.1.2:80"]))]);
        let program = Program::compile(&wanted);
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
        let [before, after] = [&old, &new].map(Program::compile);
        let update = change("t", new.cluster_cidr, &before, &after);
        // The chain, one hairpin entry less and one more.
        assert_eq!(update.changes, 3);
        let messages = update.batch.into_messages();
        assert!(messages.iter().all(|m| !m.what().contains("default/a")), "{messages:?}");
        assert!(messages.len() < 10, "{}", messages.len());
        assert!(rebuild("t", &new, &after).batch.into_messages().len() > 30);
    }
}
