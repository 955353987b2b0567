//! Masquerade for a subnet behind this namespace: local machines reach the outside.

use super::batch::{Batch, Family, Hook};
use super::kernel::{Kernel, check_name, with};
use super::rule::End;
use crate::Result;
use ipnet::Ipv4Net;
use std::sync::{Arc, Mutex};

const HOOK: Hook = Hook {
    chain: "postrouting",
    kind: "nat",
    number: libc::NF_INET_POST_ROUTING,
    priority: libc::NF_IP_PRI_NAT_SRC,
};

/// A table that gives packets that leave a subnet the address of the interface they leave by. It belongs to the
/// namespace in which it was made, whatever thread calls it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Masquerade {
    table: Arc<str>,
    subnet: Ipv4Net,
    kernel: Arc<Mutex<Kernel>>,
}

impl Masquerade {
    /// Opens the calling thread's namespace; the table gets this name (1 to 60 letters, digits, `-`, `_`).
    pub fn new(table: &str, subnet: Ipv4Net) -> Result<Self> {
        check_name(table)?;
        let kernel = Arc::new(Mutex::new(Kernel::open()?));
        Ok(Self { table: Arc::from(table), subnet, kernel })
    }

    /// Makes the table, or makes it anew.
    pub async fn ensure(&self) -> Result<()> {
        let mut batch = Batch::new(Family::Ipv4, &self.table);
        batch.replace_table();
        batch.add_hook(HOOK);
        batch.add_rule(HOOK.chain, |rule| {
            rule.if_in(End::Source, self.subnet, true)
                .if_in(End::Destination, self.subnet, false)
                .masquerade();
        });
        with(&self.kernel, "masquerade a subnet", |kernel| kernel.commit(batch)).await
    }

    /// Removes the table; false: there was none.
    pub async fn remove(&self) -> Result<bool> {
        let table = Arc::clone(&self.table);
        with(&self.kernel, "stop masquerading a subnet", move |kernel| {
            kernel.remove(Family::Ipv4, &table)
        })
        .await
    }
}
