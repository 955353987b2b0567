//! Nodes, namespaces, configuration and leases as rows.

use serde_json::Value;

use super::column::{AGE, Layout, NAME, age, name, number, shown, wide};
use super::value::{NONE, UNKNOWN, condition, entries, flag, list, or_none, text, text_or};

const ROLE: &str = "node-role.kubernetes.io/";

pub(super) static NODES: Layout = Layout {
    columns: &[
        NAME,
        shown("Status", "Whether the node can run pods."),
        shown("Roles", "What the node is for."),
        AGE,
        shown("Version", "Version of the software on the node."),
        wide("Internal-IP", "Address of the node in the cluster."),
        wide("External-IP", "Address of the node for others."),
        wide("OS-Image", "The node's operating system."),
        wide("Kernel-Version", "The node's kernel."),
        wide("Container-Runtime", "What runs the containers."),
    ],
    cells: |node, now| {
        vec![
            name(node),
            node_status(node).into(),
            roles(node).into(),
            age(node, now),
            text(node, "/status/nodeInfo/kubeletVersion").into(),
            address(node, "InternalIP").into(),
            address(node, "ExternalIP").into(),
            text_or(node, "/status/nodeInfo/osImage", UNKNOWN).into(),
            text_or(node, "/status/nodeInfo/kernelVersion", UNKNOWN).into(),
            text_or(node, "/status/nodeInfo/containerRuntimeVersion", UNKNOWN).into(),
        ]
    },
    row_conditions: None,
};

pub(super) static NAMESPACES: Layout = Layout {
    columns: &[NAME, shown("Status", "Active, or Terminating while it is emptied."), AGE],
    cells: |namespace, now| {
        vec![name(namespace), text(namespace, "/status/phase").into(), age(namespace, now)]
    },
    row_conditions: None,
};

pub(super) static CONFIG_MAPS: Layout = Layout {
    columns: &[NAME, number("Data", "How many entries it has."), AGE],
    cells: |map, now| {
        let count = entries(map, "/data") + entries(map, "/binaryData");
        vec![name(map), count.into(), age(map, now)]
    },
    row_conditions: None,
};

pub(super) static SECRETS: Layout = Layout {
    columns: &[
        NAME,
        shown("Type", "What the secret is for."),
        number("Data", "How many entries it has."),
        AGE,
    ],
    cells: |secret, now| {
        vec![
            name(secret),
            text_or(secret, "/type", "Opaque").into(),
            entries(secret, "/data").into(),
            age(secret, now),
        ]
    },
    row_conditions: None,
};

pub(super) static SERVICE_ACCOUNTS: Layout = Layout {
    columns: &[NAME, number("Secrets", "How many secrets it names."), AGE],
    cells: |account, now| {
        vec![name(account), list(account, "/secrets").len().into(), age(account, now)]
    },
    row_conditions: None,
};

pub(super) static LEASES: Layout = Layout {
    columns: &[NAME, shown("Holder", "Who holds the lease."), AGE],
    cells: |lease, now| {
        vec![name(lease), text(lease, "/spec/holderIdentity").into(), age(lease, now)]
    },
    row_conditions: None,
};

fn node_status(node: &Value) -> String {
    let ready = condition(node, "Ready").map(|condition| text(condition, "/status"));
    let mut words = vec![match ready {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if flag(node, "/spec/unschedulable") {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE) {
            Some(role) if !role.is_empty() => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    or_none(roles.join(","))
}

fn address<'n>(node: &'n Value, kind: &str) -> &'n str {
    let found = list(node, "/status/addresses").iter().find(|a| text(a, "/type") == kind);
    found.map_or(NONE, |address| text(address, "/address"))
}
