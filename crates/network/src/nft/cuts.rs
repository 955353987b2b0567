//! A partition between machines on one bridge: packets between two addresses are dropped.

use super::batch::{Batch, Family, Hook, SetSpec, Values};
use super::element::{Data, Field, pair};
use super::kernel::{Kernel, check_name, with};
use super::rule::{KEY, SetRef, Verdict};
use crate::Result;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

/// `NF_BR_FORWARD`: a frame on its way from one port to another; before all other filters.
const HOOK: Hook = Hook { chain: "forward", kind: "filter", number: 2, priority: -300 };
const PAIRS: &str = "pairs";

/// The bridge table that drops IPv4 packets between pairs of addresses, for tests and for a machine that shall be
/// cut off. It belongs to the namespace in which it was made, the one with the bridge. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cuts {
    table: Arc<str>,
    kernel: Arc<Mutex<Kernel>>,
}

impl Cuts {
    /// Opens the calling thread's namespace; the table gets this name (1 to 60 letters, digits, `-`, `_`).
    pub fn new(table: &str) -> Result<Self> {
        check_name(table)?;
        Ok(Self { table: Arc::from(table), kernel: Arc::new(Mutex::new(Kernel::open()?)) })
    }

    /// Drops packets from the first address of a pair to the second, in that direction only (give both pairs for
    /// a full cut), and no others. An empty set heals everything and removes the table.
    pub async fn set(&self, pairs: BTreeSet<(Ipv4Addr, Ipv4Addr)>) -> Result<()> {
        let table = Arc::clone(&self.table);
        with(&self.kernel, "cut machines off", move |kernel| {
            if pairs.is_empty() {
                return kernel.remove(Family::Bridge, &table).map(|_| ());
            }
            kernel.commit(cut(&table, &pairs))
        })
        .await
    }
}

fn cut(table: &str, pairs: &BTreeSet<(Ipv4Addr, Ipv4Addr)>) -> Batch {
    let mut batch = Batch::new(Family::Bridge, table);
    batch.replace_table();
    let key = &[Field::Address, Field::Address];
    batch.add_set(SetSpec { name: PAIRS, key, values: Values::None, timeout: None });
    let elements: Vec<_> =
        pairs.iter().map(|(from, to)| (pair(*from, *to), Data::Member)).collect();
    batch.add_elements(PAIRS, &elements);
    batch.add_hook(HOOK);
    batch.add_rule(HOOK.chain, |rule| {
        rule.if_ipv4()
            .address_pair(KEY)
            .if_member(SetRef::Named(PAIRS), KEY)
            .verdict(Verdict::Drop);
    });
    batch
}
