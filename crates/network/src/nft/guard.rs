//! The overlay's door: VXLAN frames are taken from the other nodes' addresses only.

use super::batch::{Batch, Family, Hook, SetSpec, Values};
use super::element::{Data, Field};
use super::kernel::{Kernel, check_name, with};
use super::rule::{End, KEY, SetRef, Verdict};
use crate::Result;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

/// Before all other filters of what is for this machine itself; fragments are put together by then.
const HOOK: Hook =
    Hook { chain: "input", kind: "filter", number: libc::NF_INET_LOCAL_IN, priority: -300 };
const NODES: &str = "nodes";

/// The table that drops datagrams to the overlay's port that come from no node. VXLAN itself believes anybody: a
/// frame from elsewhere would reach pods as if one of them had sent it. Who can send from a node's address is not
/// kept out. The table belongs to the namespace in which it was made, whatever thread calls it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OverlayGuard {
    table: Arc<str>,
    port: u16,
    kernel: Arc<Mutex<Kernel>>,
}

impl OverlayGuard {
    /// Opens the calling thread's namespace; the table gets this name (1 to 60 letters, digits, `-`, `_`).
    pub fn new(table: &str, port: u16) -> Result<Self> {
        check_name(table)?;
        Ok(Self { table: Arc::from(table), port, kernel: Arc::new(Mutex::new(Kernel::open()?)) })
    }

    /// Lets in what comes from these addresses and nothing else, from one packet to the next.
    pub async fn admit(&self, nodes: BTreeSet<Ipv4Addr>) -> Result<()> {
        let (table, port) = (Arc::clone(&self.table), self.port);
        let admit = move |kernel: &mut Kernel| kernel.commit(door(&table, port, &nodes));
        with(&self.kernel, "guard the overlay", admit).await
    }

    /// Removes the table; false: there was none.
    pub async fn remove(&self) -> Result<bool> {
        let table = Arc::clone(&self.table);
        let remove = move |kernel: &mut Kernel| kernel.remove(Family::Ipv4, &table);
        with(&self.kernel, "stop guarding the overlay", remove).await
    }
}

fn door(table: &str, port: u16, nodes: &BTreeSet<Ipv4Addr>) -> Batch {
    let mut batch = Batch::new(Family::Ipv4, table);
    batch.replace_table();
    let key = &[Field::Address];
    batch.add_set(SetSpec { name: NODES, key, values: Values::None, timeout: None });
    let elements: Vec<_> =
        nodes.iter().map(|node| (node.octets().to_vec(), Data::Member)).collect();
    batch.add_elements(NODES, &elements);
    batch.add_hook(HOOK);
    batch.add_rule(HOOK.chain, |rule| {
        rule.if_udp_to(port)
            .address(End::Source, KEY)
            .if_no_member(SetRef::Named(NODES), KEY)
            .verdict(Verdict::Drop);
    });
    batch
}
