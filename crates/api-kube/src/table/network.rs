//! Services, endpoints and endpoint slices as rows.

use serde_json::Value;

use super::column::{AGE, Layout, NAME, age, name, shown, wide};
use super::value::{NONE, integer, list, or_none, pairs, scalar, text, text_or};

/// How many endpoints or ports are told before "+ more".
const TOLD: usize = 3;
const UNSET: &str = "<unset>";

pub(super) static SERVICES: Layout = Layout {
    columns: &[
        NAME,
        shown("Type", "How the service can be reached."),
        shown("Cluster-IP", "Address of the service inside the cluster."),
        shown("External-IP", "Addresses of the service outside the cluster."),
        shown("Port(s)", "Ports of the service, with the ports of nodes where there are."),
        AGE,
        wide("Selector", "Labels of the pods behind the service."),
    ],
    cells: |service, now| {
        vec![
            name(service),
            text_or(service, "/spec/type", "ClusterIP").into(),
            cluster_ip(service).into(),
            external_ip(service).into(),
            service_ports(service).into(),
            age(service, now),
            pairs(service, "/spec/selector").into(),
        ]
    },
    row_conditions: None,
};

pub(super) static ENDPOINTS: Layout = Layout {
    columns: &[NAME, shown("Endpoints", "Addresses and ports behind the service."), AGE],
    cells: |endpoints, now| vec![name(endpoints), addresses(endpoints).into(), age(endpoints, now)],
    row_conditions: None,
};

pub(super) static ENDPOINT_SLICES: Layout = Layout {
    columns: &[
        NAME,
        shown("AddressType", "Family of the addresses."),
        shown("Ports", "Ports of the endpoints."),
        shown("Endpoints", "Addresses of the endpoints."),
        AGE,
    ],
    cells: |slice, now| {
        let ports = list(slice, "/ports").iter().map(|port| {
            Some(integer(port, "/port"))
                .filter(|port| *port != 0)
                .map_or("*".to_owned(), |p| p.to_string())
        });
        let hosts = list(slice, "/endpoints")
            .iter()
            .flat_map(|endpoint| list(endpoint, "/addresses").iter().map(scalar));
        vec![
            name(slice),
            text(slice, "/addressType").into(),
            shortened(ports.collect(), UNSET).into(),
            shortened(hosts.collect(), UNSET).into(),
            age(slice, now),
        ]
    },
    row_conditions: None,
};

fn cluster_ip(service: &Value) -> &str {
    match list(service, "/spec/clusterIPs").first() {
        Some(Value::String(ip)) if !ip.is_empty() => ip,
        _ => text_or(service, "/spec/clusterIP", NONE),
    }
}

fn external_ip(service: &Value) -> String {
    let own: Vec<String> = list(service, "/spec/externalIPs").iter().map(scalar).collect();
    match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let mut all: Vec<String> = list(service, "/status/loadBalancer/ingress")
                .iter()
                .map(|ingress| text_or(ingress, "/ip", text(ingress, "/hostname")).to_owned())
                .collect();
            all.extend(own);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => or_none(own.join(",")),
    }
}

fn service_ports(service: &Value) -> String {
    let ports: Vec<String> = list(service, "/spec/ports")
        .iter()
        .map(|port| {
            let protocol = text_or(port, "/protocol", "TCP");
            match (integer(port, "/port"), integer(port, "/nodePort")) {
                (number, 0) => format!("{number}/{protocol}"),
                (number, node_port) => format!("{number}:{node_port}/{protocol}"),
            }
        })
        .collect();
    or_none(ports.join(","))
}

fn addresses(endpoints: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(endpoints, "/subsets") {
        let ports = list(subset, "/ports");
        for address in list(subset, "/addresses") {
            let ip = text(address, "/ip");
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            for port in ports {
                let port = integer(port, "/port");
                all.push(if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                });
            }
        }
    }
    shortened(all, NONE)
}

fn shortened(all: Vec<String>, empty: &str) -> String {
    match all.len() {
        0 => empty.to_owned(),
        n if n <= TOLD => all.join(","),
        n => format!("{} + {} more...", all[..TOLD].join(","), n - TOLD),
    }
}
