//! Keeps the node's wires, packet filter and names as the newest assignments want them: one change at a time,
//! those that come meanwhile together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use pontoon_network::{
    HostPort, Peer, Protocol, ServicePortKey, ServiceTable, Tables, VirtualService,
};
use pontoon_traffic::dns::{DnsServer, Resolver, Upstream, Zone, ZoneSource};
use pontoon_traffic::tables;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::network::{NodeNetwork, own_range, peers};
use crate::assignments::Assignments;
use crate::config::AgentConfig;
use crate::problems::{Part, Problems};
use crate::shared::PodPort;
use crate::wires::{WireError, Wires};

/// Changes that come so soon after each other are done together.
const TOGETHER: Duration = Duration::from_millis(3);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
const DNS_PORT: u16 = 53;

/// The longest affinity that the packet filter takes: a day.
const LONGEST_AFFINITY: Duration = Duration::from_secs(86_400);

/// Keeps wires, packet filter and names.
pub(crate) struct Services {
    pub config: AgentConfig,
    pub network: Arc<NodeNetwork>,
    pub tables: Tables,
    pub assignments: watch::Receiver<Arc<Assignments>>,
    pub ports: watch::Receiver<BTreeMap<String, Vec<PodPort>>>,
    pub problems: Arc<Problems>,
}

/// What was done last, so that only changes are done.
struct Done {
    seen: Option<Arc<Assignments>>,
    table: Option<Arc<ServiceTable>>,
    peers: Option<Vec<Peer>>,
    zone: watch::Sender<Arc<Zone>>,
    dns: Option<(Ipv4Addr, CancellationToken)>,
    /// The name server could not be started.
    dns_failed: bool,
}

impl Services {
    /// Says before the first status is told that a node of which nothing is known can connect no pods: a node that has
    /// just joined is not ready. One that starts again goes on with what it remembers.
    pub(crate) fn begin(&self) {
        let assignments = self.assignments.borrow();
        if !assignments.is_known() {
            self.tell(None);
        }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let (zone, _) = watch::channel(Arc::new(Zone::empty(&self.config.cluster_domain)));
        let mut done =
            Done { seen: None, table: None, peers: None, zone, dns: None, dns_failed: false };
        let mut retry = FIRST_RETRY;
        loop {
            let assignments = self.assignments.borrow_and_update().clone();
            let ports = self.ports.borrow_and_update().clone();
            let kept = if assignments.is_known() {
                self.keep(&assignments, &ports, &mut done, &shutdown).await
            } else {
                Ok(())
            };
            let failed = kept.is_err() || done.dns_failed;
            self.tell(kept.err());
            retry = if failed { (retry * 2).min(LONGEST_RETRY) } else { FIRST_RETRY };
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.assignments.changed() => if changed.is_err() { return },
                changed = self.ports.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(retry), if failed => {}
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    fn tell(&self, error: Option<WireError>) {
        let problem = match error {
            Some(error) => Some(format!("the node's network is not as it should be: {error}")),
            None if self.network.gateway().is_some() => None,
            None => Some(
                "the node waits for its pod range, as it does for a moment after it has joined"
                    .to_owned(),
            ),
        };
        self.problems.set(Part::Network, problem);
    }

    async fn keep(
        &self,
        assignments: &Arc<Assignments>,
        ports: &BTreeMap<String, Vec<PodPort>>,
        done: &mut Done,
        shutdown: &CancellationToken,
    ) -> Result<(), WireError> {
        // Names first: they cost nothing, and a name without its address yet is better than the reverse.
        if !done.seen.as_ref().is_some_and(|seen| same_names(seen, assignments)) {
            done.zone.send_replace(Arc::new(self.zone(assignments)));
            done.seen = Some(assignments.clone());
        }
        // What is remembered may be a moment older than what the kernel has kept since: that stays as it is.
        let is_kept = !assignments.complete && done.table.is_none() && self.tables.exist().await?;
        let peers = peers(assignments, &self.config.node_name);
        let are_new = !is_kept && done.peers.as_ref() != Some(&peers);
        if are_new {
            self.network.admit(&peers).await?;
        }
        if let Some(range) = own_range(assignments, &self.config.node_name) {
            self.network.ensure(range).await?;
        }
        let Some(gateway) = self.network.gateway() else { return Ok(()) };
        self.keep_dns(gateway, done, shutdown).await;
        if are_new {
            self.network.set_peers(peers.clone()).await?;
            done.peers = Some(peers);
        }
        if is_kept {
            return Ok(());
        }
        let table = Arc::new(self.table(assignments, ports));
        if done.table.as_ref() != Some(&table) {
            let synced = self.tables.sync(table.clone()).await?;
            for name in &synced.not_served {
                warn!(
                    name,
                    "a service is not served: its address or port is taken, or it is not valid"
                );
            }
            debug!(changes = synced.changes, "packet filter changed");
            done.table = Some(table);
        }
        Ok(())
    }

    /// Has a name server on the bridge's address; a failure is told, and tried again.
    async fn keep_dns(&self, gateway: Ipv4Addr, done: &mut Done, shutdown: &CancellationToken) {
        if done
            .dns
            .as_ref()
            .is_some_and(|(address, stop)| *address == gateway && !stop.is_cancelled())
        {
            return;
        }
        done.dns_failed = false;
        if let Some((_, old)) = done.dns.take() {
            old.cancel();
        }
        let text = std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
        let upstream = Upstream::from_resolv_conf(&text, &[gateway.into()]);
        let address = SocketAddr::from((gateway, DNS_PORT));
        let resolver = Arc::new(Resolver::new(done.zone.subscribe(), upstream));
        match DnsServer::bind(&[address], resolver).await {
            Ok(server) => {
                let stop = shutdown.child_token();
                tokio::spawn(server.run(stop.clone()));
                info!(%address, "answering names");
                done.dns = Some((gateway, stop));
                self.problems.set(Part::Names, None);
            }
            Err(error) => {
                done.dns_failed = true;
                let problem = format!(
                    "pods cannot look up names: no name server on {address}: {error}; if another program has the \
                     port, have it listen on its own addresses only; trying again"
                );
                self.problems.set(Part::Names, Some(problem));
            }
        }
    }

    fn zone(&self, assignments: &Assignments) -> Zone {
        let pods = assignments.pods.values().chain(assignments.service_pods.values());
        Zone::build(&ZoneSource {
            domain: &self.config.cluster_domain,
            ranges: &[self.config.service_cidr],
            services: assignments.services.values().map(AsRef::as_ref).collect(),
            slices: assignments.slices.values().map(AsRef::as_ref).collect(),
            pods: pods.map(AsRef::as_ref).collect(),
            nodes: assignments.nodes.values().map(AsRef::as_ref).collect(),
        })
    }

    fn table(
        &self,
        assignments: &Assignments,
        ports: &BTreeMap<String, Vec<PodPort>>,
    ) -> ServiceTable {
        let services = assignments.services.values().map(AsRef::as_ref);
        let slices = assignments.slices.values().map(AsRef::as_ref);
        let computed = tables::compute(services, slices, &self.config.node_name);
        ServiceTable {
            cluster_cidr: self.config.cluster_cidr,
            service_cidr: Some(self.config.service_cidr),
            services: computed.services.into_iter().filter_map(translate).collect(),
            host_ports: ports.values().flatten().map(host_port).collect::<BTreeSet<_>>(),
        }
    }
}

/// Whether the same names and addresses follow from both.
fn same_names(a: &Assignments, b: &Assignments) -> bool {
    fn same<K: Ord, T>(a: &BTreeMap<K, Arc<T>>, b: &BTreeMap<K, Arc<T>>) -> bool {
        a.len() == b.len() && a.values().zip(b.values()).all(|(a, b)| Arc::ptr_eq(a, b))
    }
    same(&a.services, &b.services)
        && same(&a.slices, &b.slices)
        && same(&a.pods, &b.pods)
        && same(&a.service_pods, &b.service_pods)
        && same(&a.nodes, &b.nodes)
}

/// From the words of `traffic` to those of `network`; SCTP has none there.
fn translate(
    (key, service): (tables::PortKey, tables::VirtualService),
) -> Option<(ServicePortKey, VirtualService)> {
    let protocol = match key.protocol {
        tables::Protocol::Tcp => Protocol::Tcp,
        tables::Protocol::Udp => Protocol::Udp,
        tables::Protocol::Sctp => {
            warn!(service = key.service, "SCTP services are not served");
            return None;
        }
    };
    let port = if key.port.is_empty() { service.port.to_string() } else { key.port };
    let backends =
        if service.internal_local { service.local_backends.clone() } else { service.backends };
    let virtual_service = VirtualService {
        ip: service.address,
        protocol,
        port: service.port,
        node_port: service.node_port,
        backends,
        local_backends: service.local_backends,
        external_local: service.external_local,
        affinity: service
            .affinity_seconds
            .map(|seconds| Duration::from_secs(seconds.max(1).into()).min(LONGEST_AFFINITY)),
    };
    Some((ServicePortKey { namespace: key.namespace, name: key.service, port }, virtual_service))
}

fn host_port(port: &PodPort) -> HostPort {
    HostPort {
        host_ip: port.host_ip,
        protocol: if port.udp { Protocol::Udp } else { Protocol::Tcp },
        port: port.host_port,
        target: SocketAddrV4::new(port.pod_ip, port.pod_port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_nameless_port_is_called_by_its_number_and_sctp_is_left_out() {
        let service = json!({"metadata": {"name": "web", "namespace": "d"}, "spec": {
            "clusterIP": "10.96.0.9", "internalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
            "ports": [{"port": 80}, {"name": "s", "port": 81, "protocol": "SCTP"}]}});
        let slice = json!({"metadata": {"namespace": "d", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [
                {"addresses": ["10.244.1.2"], "nodeName": "n1"},
                {"addresses": ["10.244.2.2"], "nodeName": "n2"}]});
        let (service, slice) =
            (serde_json::from_value(service).unwrap(), serde_json::from_value(slice).unwrap());
        let computed = tables::compute([&service], [&slice], "n1");
        let translated: Vec<_> = computed.services.into_iter().filter_map(translate).collect();
        let [(key, service)] = translated.as_slice() else { panic!("{translated:?}") };
        assert_eq!(key.to_string(), "d/web/80");
        assert_eq!(service.backends, ["10.244.1.2:8080".parse().unwrap()]);
        assert_eq!(service.affinity, Some(Duration::from_secs(10_800)));
    }

    #[test]
    fn names_are_built_anew_only_when_they_changed() {
        let mut one = Assignments::default();
        one.nodes.insert("n1".into(), Arc::default());
        let mut two = one.clone();
        two.config_maps.insert(("d".into(), "c".into()), Arc::default());
        assert!(same_names(&one, &two));
        two.nodes.insert("n1".into(), Arc::default());
        assert!(!same_names(&one, &two));
    }
}
