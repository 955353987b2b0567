//! From services to what the kernel shall hold: sets, maps and chains as plain data, so that two states can be
//! compared. Pure.

use super::element::{Data, destination, local, pair, target};
use super::schema::{
    DESTINATIONS, DROPPED_PORTS, HAIRPIN, HOST_PORTS, HOST_PORTS_AT, NODE_PORTS, REFUSED,
    REFUSED_PORTS,
};
use super::table::{HostPort, ServicePortKey, ServiceTable, VirtualService};
use crate::{NetworkError, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

/// A chain's name has this and more room; what is in front of the key is short.
const KEY_BYTES: usize = 200;
/// Affinity is at least a second and at most a day.
const AFFINITY_SECONDS: std::ops::RangeInclusive<u64> = 1..=86_400;
/// The most backends of one service: far above any, far below what the kernel refuses.
const BACKENDS: usize = 20_000;

/// What a chain of ours does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// Send each connection to the next backend.
    Balance { backends: Vec<SocketAddrV4>, affinity: Option<Affinity> },
    /// A node port whose outside clients go only to backends here; all others go on in `inner`.
    External { inner: String, local: Vec<SocketAddrV4>, affinity: Option<Affinity> },
    /// Send to this backend and remember the client.
    Backend { backend: SocketAddrV4, affinity: Affinity },
}

/// Clients of a service keep their backends: each backend has a chain and a set of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Affinity {
    key: String,
    pub(super) seconds: u32,
}

impl Affinity {
    fn of(key: &ServicePortKey, service: &VirtualService) -> Option<Self> {
        let seconds = service.affinity?.as_secs();
        Some(Self { key: key.to_string(), seconds: u32::try_from(seconds).unwrap_or(u32::MAX) })
    }

    /// The name of a backend's set of clients; another time makes another set.
    pub(super) fn clients(&self, backend: SocketAddrV4) -> String {
        let Self { key, seconds } = self;
        format!("clients-{seconds}-{key}-{}-{}", backend.ip(), backend.port())
    }

    /// The name of a backend's chain.
    pub(super) fn chain(&self, backend: SocketAddrV4) -> String {
        format!("backend-{}-{}-{}", self.key, backend.ip(), backend.port())
    }
}

/// Everything in the table that depends on services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Program {
    /// By set, by key.
    pub(super) elements: BTreeMap<&'static str, BTreeMap<Vec<u8>, Data>>,
    pub(super) chains: BTreeMap<String, Body>,
    /// Sets that rules write: name, and seconds that an entry lasts.
    pub(super) clients: BTreeSet<(String, u32)>,
    /// What could not be served: an address or port that is taken, or loopback.
    pub(super) not_served: Vec<String>,
}

impl Program {
    /// One bad service does not stop the others: it is named and left out.
    pub(super) fn compile(table: &ServiceTable) -> Self {
        let mut program = Self::default();
        for (key, service) in &table.services {
            match check(key, service) {
                Ok(()) => program.add_service(key, service),
                Err(error) => program.not_served.push(format!("service {key}: {error}")),
            }
        }
        for port in &table.host_ports {
            program.add_host_port(port);
        }
        program
    }

    fn add_service(&mut self, key: &ServicePortKey, service: &VirtualService) {
        let name = format!("service {key}");
        let front = destination(service.ip, service.protocol, service.port);
        if service.backends.is_empty() {
            self.add(REFUSED, front, Data::Member, &name);
            if let Some(port) = service.node_port {
                self.add(REFUSED_PORTS, local(service.protocol, port), Data::Member, &name);
            }
            return;
        }
        let chain = format!("service-{key}");
        self.add(DESTINATIONS, front, Data::Goto(chain.clone()), &name);
        if let Some(port) = service.node_port {
            let port = local(service.protocol, port);
            let goto = self.node_port_chain(key, service, &port, &chain);
            self.add(NODE_PORTS, port, Data::Goto(goto), &name);
        }
        for backend in &service.backends {
            self.hairpin(*backend);
        }
        let affinity = Affinity::of(key, service);
        for (backend, affinity) in service.backends.iter().zip(affinity.iter().cycle()) {
            self.clients.insert((affinity.clients(*backend), affinity.seconds));
            let body = Body::Backend { backend: *backend, affinity: affinity.clone() };
            self.chains.insert(affinity.chain(*backend), body);
        }
        self.chains.insert(chain, Body::Balance { backends: service.backends.clone(), affinity });
    }

    /// Where a node port's packets go.
    fn node_port_chain(
        &mut self,
        key: &ServicePortKey,
        service: &VirtualService,
        port: &[u8],
        inner: &str,
    ) -> String {
        if !service.external_local {
            return inner.to_owned();
        }
        let backends = &service.backends;
        let local: Vec<_> =
            service.local_backends.iter().filter(|one| backends.contains(one)).copied().collect();
        if local.is_empty() {
            let name = format!("service {key}");
            self.add(DROPPED_PORTS, port.to_vec(), Data::Member, &name);
        }
        let chain = format!("external-{key}");
        let affinity = Affinity::of(key, service);
        let body = Body::External { inner: inner.to_owned(), local, affinity };
        self.chains.insert(chain.clone(), body);
        chain
    }

    fn add_host_port(&mut self, port: &HostPort) {
        let name = format!("host port {}/{} to {}", port.port, port.protocol, port.target);
        let value = Data::Value(target(port.target));
        if port.host_ip.is_some_and(|ip| ip.is_loopback()) {
            self.not_served.push(format!("{name}: loopback addresses lead to no pod"));
            return;
        }
        match port.host_ip.filter(|ip| !ip.is_unspecified()) {
            Some(ip) => {
                self.add(HOST_PORTS_AT, destination(ip, port.protocol, port.port), value, &name);
            }
            None => self.add(HOST_PORTS, local(port.protocol, port.port), value, &name),
        }
        self.hairpin(port.target);
    }

    /// A pod that reaches itself must see another source than itself, or it answers itself directly.
    fn hairpin(&mut self, backend: SocketAddrV4) {
        let key = pair(*backend.ip(), *backend.ip());
        self.elements.entry(HAIRPIN).or_default().insert(key, Data::Member);
    }

    /// The first to come has the key.
    fn add(&mut self, set: &'static str, key: Vec<u8>, data: Data, name: &str) {
        let elements = self.elements.entry(set).or_default();
        if elements.contains_key(&key) {
            self.not_served.push(format!("{name}: its address or port is taken ({set})"));
            return;
        }
        elements.insert(key, data);
    }
}

/// Whether the names and sizes are such as the kernel takes.
fn check(key: &ServicePortKey, service: &VirtualService) -> Result<()> {
    let name = key.to_string();
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    if name.len() > KEY_BYTES || !name.bytes().all(good) {
        return Err(NetworkError::BadName(name, "a service's port"));
    }
    if service.backends.len() > BACKENDS {
        let problem = format!("{name} has {}, more than {BACKENDS}", service.backends.len());
        return Err(NetworkError::Invalid { field: "backends", problem });
    }
    match service.affinity {
        Some(time) if !AFFINITY_SECONDS.contains(&time.as_secs()) => {
            let problem = format!("{} s of {name} are not in 1 to 86400", time.as_secs());
            Err(NetworkError::Invalid { field: "affinity", problem })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, Program};
    use crate::nft::schema::{DESTINATIONS, DROPPED_PORTS, NODE_PORTS, REFUSED, REFUSED_PORTS};
    use crate::nft::table::tests::{key, service, table};
    use std::time::Duration;

    #[test]
    fn a_service_without_backends_is_refused_on_both_fronts() {
        let mut empty = service("10.96.0.1:80", &[]);
        empty.node_port = Some(30_080);
        let program = Program::compile(&table([("a", empty)]));
        assert_eq!(program.elements[REFUSED].len(), 1);
        assert_eq!(program.elements[REFUSED_PORTS].len(), 1);
        assert!(!program.elements.contains_key(DESTINATIONS));
        assert!(program.chains.is_empty());
    }

    #[test]
    fn local_policy_has_a_chain_of_its_own_before_the_services() {
        let mut local = service("10.96.0.1:80", &["10.244.1.2:80", "10.244.2.2:80"]);
        local.node_port = Some(30_080);
        local.external_local = true;
        let program = Program::compile(&table([("a", local.clone())]));
        assert_eq!(program.chains.len(), 2);
        assert_eq!(program.elements[DROPPED_PORTS].len(), 1);
        local.local_backends = vec!["10.244.1.2:80".parse().unwrap()];
        let program = Program::compile(&table([("a", local)]));
        assert!(!program.elements.contains_key(DROPPED_PORTS));
        let Body::External { inner, local, .. } = &program.chains["external-default/a/80"] else {
            panic!("it is an external chain");
        };
        assert_eq!((inner.as_str(), local.len()), ("service-default/a/80", 1));
        assert_eq!(program.elements[NODE_PORTS].len(), 1);
    }

    #[test]
    fn the_first_has_a_contested_address_and_the_loser_is_named() {
        let both = table([
            ("a", service("10.96.0.1:80", &["10.244.1.2:80"])),
            ("b", service("10.96.0.1:80", &["10.244.1.3:80"])),
        ]);
        let program = Program::compile(&both);
        assert_eq!(program.elements[DESTINATIONS].len(), 1);
        assert_eq!(program.not_served.len(), 1);
        assert!(program.not_served[0].contains("default/b/80"), "{:?}", program.not_served);
    }

    #[test]
    fn names_and_times_that_the_kernel_would_not_take_are_left_out() {
        let mut bad = table([]);
        bad.services.insert(key("a b"), service("10.96.0.1:80", &[]));
        assert_eq!(Program::compile(&bad).not_served.len(), 1);
        let mut long = table([]);
        long.services.insert(key(&"a".repeat(200)), service("10.96.0.1:80", &[]));
        assert_eq!(Program::compile(&long).not_served.len(), 1);
        let mut affine = service("10.96.0.1:80", &["10.244.1.2:80"]);
        affine.affinity = Some(Duration::from_secs(90_000));
        let fine = service("10.96.0.2:80", &["10.244.1.2:80"]);
        let program = Program::compile(&table([("a", affine), ("b", fine)]));
        assert_eq!((program.not_served.len(), program.chains.len()), (1, 1));
    }
}
