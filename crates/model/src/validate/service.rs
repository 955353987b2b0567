//! Services.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::container::PROTOCOLS;
use super::faults::Faults;
use super::kinds::Check;
use super::path::Path;
use super::{meta, name, probe};

const SPEC: Path<'static> = Path::root("spec");
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES: &[&str] = &["Cluster", "Local"];
/// A day, in seconds: the longest a client may stick.
const MAX_AFFINITY: i32 = 86_400;

fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or_default()
}

fn headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

impl Check for Service {
    fn check(&self, faults: &mut Faults) {
        let Some(spec) = &self.spec else {
            faults.required(&SPEC, "");
            return;
        };
        faults.one_of(&SPEC.child("type"), kind(spec), TYPES);
        let affinity = spec.session_affinity.as_deref().unwrap_or_default();
        faults.one_of(&SPEC.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
        let client = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        if let Some(seconds) = client.and_then(|c| c.timeout_seconds)
            && !(1..=MAX_AFFINITY).contains(&seconds)
        {
            let at = Path::root("spec.sessionAffinityConfig.clientIP.timeoutSeconds");
            faults.invalid(&at, seconds, "must be greater than 0 and less than 86400");
        }
        if let Some(selector) = &spec.selector {
            meta::labels(&SPEC.child("selector"), selector, faults);
        }
        by_kind(spec, faults);
        ports(spec, faults);
        addresses(spec, faults);
        for (field, policy) in [
            ("externalTrafficPolicy", &spec.external_traffic_policy),
            ("internalTrafficPolicy", &spec.internal_traffic_policy),
        ] {
            if let Some(policy) = policy.as_deref() {
                faults.one_of(&SPEC.child(field), policy, POLICIES);
            }
        }
    }

    fn check_update(&self, old: &Self, faults: &mut Faults) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else { return };
        if kind(new) == "ExternalName" || kind(old) == "ExternalName" {
            return;
        }
        let before = old.cluster_ip.as_deref().unwrap_or_default();
        let now = new.cluster_ip.as_deref().unwrap_or_default();
        if !before.is_empty() && before != now {
            let at = SPEC.child("clusterIPs");
            if now.is_empty() {
                faults.invalid(&at.index(0), now, "primary clusterIP can not be unset");
            } else {
                faults.invalid(&at.index(0), now, "may not change once set");
            }
        }
    }
}

fn by_kind(spec: &ServiceSpec, faults: &mut Faults) {
    match kind(spec) {
        "ExternalName" => {
            let at = SPEC.child("externalName");
            let target = spec.external_name.as_deref().unwrap_or_default();
            if target.is_empty() {
                faults.required(&at, "");
            } else {
                let plain = target.trim_end_matches('.');
                faults.all_invalid(&at, target, name::dns_subdomain(plain));
            }
            if spec.cluster_ip.as_deref().is_some_and(|ip| !ip.is_empty()) {
                let why = "may not be set when `type` is 'ExternalName'";
                faults.forbidden(&SPEC.child("clusterIPs"), why);
            }
        }
        "NodePort" | "LoadBalancer" if headless(spec) => {
            let why = format!("may not be set to 'None' for {} services", kind(spec));
            faults.invalid(&SPEC.child("clusterIPs").index(0), "None", &why);
        }
        _ => {}
    }
    if kind(spec) == "ClusterIP" {
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            if port.node_port.is_some_and(|p| p != 0) {
                let at = SPEC.child("ports");
                let why = "may not be used when `type` is 'ClusterIP'";
                faults.forbidden(&at.index(i).child("nodePort"), why);
            }
        }
    }
}

fn ports(spec: &ServiceSpec, faults: &mut Faults) {
    let at = SPEC.child("ports");
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !headless(spec) && kind(spec) != "ExternalName" {
        faults.required(&at, "");
    }
    let (mut names, mut numbers, mut on_nodes) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (i, port) in ports.iter().enumerate() {
        let at = at.index(i);
        one_port(&at, port, ports.len() > 1, faults);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() && !names.insert(name) {
            faults.duplicate(&at.child("name"), name);
        }
        let protocol = port.protocol.as_deref();
        if !numbers.insert((protocol, port.port)) {
            faults.duplicate(&at, port);
        }
        if let Some(number) = port.node_port.filter(|p| *p != 0)
            && !on_nodes.insert((protocol, number))
        {
            faults.duplicate(&at.child("nodePort"), number);
        }
    }
}

fn one_port(at: &Path<'_>, port: &ServicePort, name_needed: bool, faults: &mut Faults) {
    let name = port.name.as_deref().unwrap_or_default();
    if !name.is_empty() {
        faults.all_invalid(&at.child("name"), name, name::dns_label(name));
    } else if name_needed {
        faults.required(&at.child("name"), "");
    }
    if !(1..=65535).contains(&port.port) {
        faults.invalid(&at.child("port"), port.port, "must be between 1 and 65535, inclusive");
    }
    let protocol = port.protocol.as_deref().unwrap_or_default();
    faults.one_of(&at.child("protocol"), protocol, PROTOCOLS);
    if let Some(target) = &port.target_port {
        probe::port(&at.child("targetPort"), target, faults);
    }
    if let Some(number) = port.node_port.filter(|p| !(0..=65535).contains(p)) {
        faults.invalid(&at.child("nodePort"), number, "must be between 1 and 65535, inclusive");
    }
}

fn addresses(spec: &ServiceSpec, faults: &mut Faults) {
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let at = SPEC.child("clusterIPs");
    if !["", "None"].contains(&ip) && !matches!(ip.parse(), Ok(IpAddr::V4(_))) {
        let why = "must be a valid IP address, (e.g. 10.9.8.7); this cluster's services have IPv4 addresses";
        faults.invalid(&at.index(0), ip, why);
    }
    let all = spec.cluster_ips.as_deref().unwrap_or_default();
    if let Some(first) = all.first()
        && first != ip
    {
        faults.invalid(&at, all, "first value must match `clusterIP`");
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    if let Some(family) = families.iter().find(|f| *f != "IPv4") {
        let at = SPEC.child("ipFamilies");
        faults.invalid(&at.index(0), family, "not configured on this cluster");
    }
    for (i, ip) in spec.external_ips.iter().flatten().enumerate() {
        if !matches!(ip.parse(), Ok(IpAddr::V4(_))) {
            let at = SPEC.child("externalIPs");
            faults.invalid(&at.index(i), ip, "must be a valid IP address, (e.g. 10.9.8.7)");
        }
    }
}
