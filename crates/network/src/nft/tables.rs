//! The services' table in the kernel, kept in step with what is wanted.

use super::batch::Family;
use super::kernel::{Kernel, check_name, with};
use super::program::Program;
use super::table::{ServiceTable, Synced};
use super::update::{Update, change, rebuild};
use crate::Result;
use crate::conntrack::{self, Front, Fronts, Stale};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

/// The services' table of the namespace in which it was made, whatever thread calls it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tables(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    table: String,
    kernel: Kernel,
    applied: Option<Applied>,
}

/// What the kernel has, as far as we know.
#[derive(Debug)]
struct Applied {
    wanted: Arc<ServiceTable>,
    program: Program,
    /// The kernel's number of our table: another one means that it is not ours any more.
    handle: u64,
}

impl Tables {
    /// Opens the calling thread's namespace; the kernel's table gets this name (1 to 60 letters, digits, `-`, `_`).
    pub fn new(name: &str) -> Result<Self> {
        check_name(name)?;
        let kernel = Kernel::open()?;
        Ok(Self(Arc::new(Mutex::new(State { table: name.to_owned(), kernel, applied: None }))))
    }

    /// Makes the kernel do what `wanted` says, in one transaction that touches only what changed since the last
    /// call; the first call, and one that finds the table gone, replaces whatever is there. Connections in
    /// being stay with their backends, but for UDP and half-open or closed TCP ones of backends that are gone:
    /// those are forgotten.
    pub async fn sync(&self, wanted: Arc<ServiceTable>) -> Result<Synced> {
        with(&self.0, "change the services' table", |state| state.sync(wanted)).await
    }

    /// Forgets every tracked connection that was sent to this pod (once it is dead), established ones too, so that
    /// its clients' next packets find another backend or are refused. Answers how many.
    pub async fn forget(&self, pod: Ipv4Addr) -> Result<usize> {
        with(&self.0, "forget a pod's connections", move |state| {
            conntrack::forget_backend(state.kernel.socket(), pod)
        })
        .await
    }

    /// Whether the kernel has the table: from this process or one before it, since the machine was started.
    pub async fn exist(&self) -> Result<bool> {
        let exist = |state: &mut State| state.kernel.handle(Family::Ipv4, &state.table);
        Ok(with(&self.0, "look for the services' table", exist).await?.is_some())
    }

    /// Removes the table; false: there was none.
    pub async fn remove(&self) -> Result<bool> {
        with(&self.0, "remove the services' table", |state| {
            state.applied = None;
            state.kernel.remove(Family::Ipv4, &state.table)
        })
        .await
    }
}

impl State {
    fn sync(&mut self, wanted: Arc<ServiceTable>) -> Result<Synced> {
        let found = self.kernel.handle(Family::Ipv4, &self.table)?;
        if let Some(applied) = &self.applied
            && Some(applied.handle) == found
            && applied.wanted == wanted
        {
            let not_served = applied.program.not_served.clone();
            return Ok(Synced { not_served, ..Synced::default() });
        }
        let program = Program::compile(&wanted);
        // What is taken is put back only when the kernel has it: after an error the next call rebuilds.
        let before = self.applied.take().filter(|applied| {
            Some(applied.handle) == found
                && applied.wanted.cluster_cidr == wanted.cluster_cidr
                && applied.wanted.service_cidr == wanted.service_cidr
        });
        let changes = self.apply(before.as_ref(), &wanted, &program)?;
        let handle = match (&before, found) {
            (Some(_), Some(found)) => found,
            _ => self.kernel.handle(Family::Ipv4, &self.table)?.unwrap_or(0),
        };
        let known = before.map(|applied| fronts(&applied.wanted));
        let stale = Stale::between(known.as_ref(), &fronts(&wanted));
        let not_served = program.not_served.clone();
        self.applied = Some(Applied { wanted, program, handle });
        // The table is right by now; a kernel that does not show its connections cannot be helped.
        let forgotten = conntrack::forget_stale(self.kernel.socket(), &stale);
        let connections_forgotten = forgotten.unwrap_or_else(|error| {
            tracing::warn!(%error, "connections to backends that are gone stay until they time out");
            0
        });
        Ok(Synced { changes, not_served, connections_forgotten })
    }

    /// Only the difference, or everything where that is not known or the kernel has something else.
    fn apply(
        &mut self,
        before: Option<&Applied>,
        wanted: &ServiceTable,
        program: &Program,
    ) -> Result<usize> {
        if let Some(before) = before {
            let Update { batch, changes } =
                change(&self.table, wanted.cluster_cidr, &before.program, program);
            match self.kernel.commit(batch) {
                Ok(()) => return Ok(changes),
                Err(error) => {
                    tracing::warn!(%error, table = self.table, "the services' table is not as it was left; rebuilding it");
                }
            }
        }
        let Update { batch, changes } = rebuild(&self.table, wanted, program);
        self.kernel.commit(batch).map(|()| changes)
    }
}

fn fronts(table: &ServiceTable) -> Fronts {
    let mut fronts = Fronts::new();
    for service in table.services.values().filter(|service| !service.backends.is_empty()) {
        let protocol = service.protocol;
        let cluster = Front { address: Some(service.ip), protocol, port: service.port };
        let node = service.node_port.map(|port| Front { address: None, protocol, port });
        for front in std::iter::once(cluster).chain(node) {
            fronts.entry(front).or_default().extend(&service.backends);
        }
    }
    for port in &table.host_ports {
        let address = port.host_ip.filter(|ip| !ip.is_unspecified());
        let front = Front { address, protocol: port.protocol, port: port.port };
        fronts.entry(front).or_default().insert(port.target);
    }
    fronts
}
