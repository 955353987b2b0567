//! Where and as whom an agent runs.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

/// What an agent must know that is not in the cluster's objects.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The node's name.
    pub node_name: String,
    /// The address by which other nodes reach this one.
    pub node_address: Ipv4Addr,
    /// Survives a reboot: pods' records, logs and disk volumes are in `pods/` below it.
    pub data_dir: PathBuf,
    /// Best in memory: Secrets and ConfigMaps of pods are in `pods/` below it.
    pub run_dir: PathBuf,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// All pods' addresses.
    pub cluster_cidr: Ipv4Net,
    /// All Services' addresses.
    pub service_cidr: Ipv4Net,
    /// The bridge's interface name, 1 to 15 bytes.
    pub bridge: String,
    /// The VXLAN device's interface name, 1 to 15 bytes.
    pub vxlan: String,
    /// VXLAN network identifier.
    pub vxlan_id: u32,
    /// VXLAN UDP port.
    pub vxlan_port: u16,
    /// The nftables table's name.
    pub table: String,
    /// Pontoon's version, as `containerRuntimeVersion` tells it.
    pub version: String,
    /// The version of Kubernetes' API that is spoken, as `kubeletVersion` tells it.
    pub kubernetes_version: String,
    /// The node's resolver configuration, for names outside of the cluster.
    pub resolv_conf: PathBuf,
    /// The port of the node API, told in the node's status.
    pub api_port: u16,
}

impl AgentConfig {
    /// A configuration with every default: the cluster's ranges, interface names, ports and system files.
    pub fn new(
        node_name: impl Into<String>,
        node_address: Ipv4Addr,
        data_dir: impl Into<PathBuf>,
        run_dir: impl Into<PathBuf>,
    ) -> Self {
        let range = |text: &str| text.parse().expect("the model's ranges are ranges");
        Self {
            node_name: node_name.into(),
            node_address,
            data_dir: data_dir.into(),
            run_dir: run_dir.into(),
            cluster_domain: pontoon_model::names::CLUSTER_DOMAIN.to_owned(),
            cluster_cidr: range(pontoon_model::names::CLUSTER_CIDR),
            service_cidr: range(pontoon_model::names::SERVICE_CIDR),
            bridge: "pontoon0".to_owned(),
            vxlan: "pontoon-vx".to_owned(),
            vxlan_id: 1,
            vxlan_port: 4789,
            table: "pontoon".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kubernetes_version: format!("v1.32.0+pontoon-{}", env!("CARGO_PKG_VERSION")),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            api_port: 10_250,
        }
    }
}
