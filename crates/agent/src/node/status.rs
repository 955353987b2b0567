//! The node's status as Kubernetes words it: pure, from the machine's facts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
    ObjectReference,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pontoon_model::names::{LABEL_ARCH, LABEL_HOSTNAME, LABEL_OS};

use super::facts::Facts;
use crate::config::AgentConfig;
use crate::problems::{self, Part};
use crate::report::NodeEvent;

/// As many pods as a node runs.
pub(crate) const MOST_PODS: u64 = 110;
/// What is left to the system, in bytes: pods are not promised the last of the memory.
const RESERVED_MEMORY: u64 = 100 << 20;
/// The condition of a node whose name server does not answer.
const NAMES_CONDITION: &str = "NamesUnavailable";
/// Less free memory than this is pressure, in bytes.
const LOW_MEMORY: u64 = 100 << 20;
/// Less than a tenth of the disk and less than this is pressure, in bytes.
const LOW_DISK: u64 = 2 << 30;

/// What the node can do now, besides its facts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Health {
    /// Why pods cannot be run, if they cannot: a reason in one word, and a sentence.
    pub cannot_run: Vec<(&'static str, String)>,
    /// Why pods cannot look up names, if they cannot.
    pub names_problem: Option<String>,
}

impl Health {
    /// What of the node's problems is for its status.
    pub(crate) fn of(problems: &problems::All) -> Self {
        let of = |part| problems.get(&part).cloned();
        let parts = [(Part::Cgroups, "CgroupsNotReady"), (Part::Network, "NetworkNotReady")];
        let cannot_run = parts.into_iter().filter_map(|(part, reason)| Some((reason, of(part)?)));
        Self { cannot_run: cannot_run.collect(), names_problem: of(Part::Names) }
    }
}

/// The status at `now`; `before` is the one told last.
pub(crate) fn node_status(
    now: Timestamp,
    config: &AgentConfig,
    facts: &Facts,
    health: &Health,
    before: Option<&NodeStatus>,
) -> NodeStatus {
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    let port = i32::from(config.api_port);
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", config.node_address.to_string()),
            address("Hostname", config.node_name.clone()),
        ]),
        capacity: Some(resources(facts, facts.memory_bytes)),
        allocatable: Some(resources(facts, facts.memory_bytes.saturating_sub(RESERVED_MEMORY))),
        conditions: Some(conditions(now, facts, health, before)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: facts.boot_id.clone(),
            container_runtime_version: format!("pontoon://{}", config.version),
            kernel_version: facts.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: config.kubernetes_version.clone(),
            machine_id: facts.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: facts.os_image.clone(),
            system_uuid: facts.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// The labels that a node gives itself.
pub(crate) fn labels(config: &AgentConfig) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_HOSTNAME.to_owned(), config.node_name.clone()),
        (LABEL_OS.to_owned(), "linux".to_owned()),
        (LABEL_ARCH.to_owned(), architecture().to_owned()),
    ])
}

/// The machine's architecture in Go's words, which image names use too.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn resources(facts: &Facts, memory: u64) -> BTreeMap<String, Quantity> {
    BTreeMap::from([
        ("cpu".to_owned(), Quantity(facts.cpus.to_string())),
        ("memory".to_owned(), Quantity(format!("{}Ki", memory / 1024))),
        ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", facts.disk_bytes / 1024))),
        ("pods".to_owned(), Quantity(MOST_PODS.to_string())),
    ])
}

/// Whether little of the disk is free.
pub(crate) fn has_low_disk(facts: &Facts) -> bool {
    let free = facts.disk_available_bytes;
    free < LOW_DISK && free < facts.disk_bytes / 10
}

fn conditions(
    now: Timestamp,
    facts: &Facts,
    health: &Health,
    before: Option<&NodeStatus>,
) -> Vec<NodeCondition> {
    let low_memory = facts.memory_available_bytes < LOW_MEMORY;
    let low_disk = has_low_disk(facts);
    let low_pids = facts.most_processes > 0
        && facts.processes > facts.most_processes - facts.most_processes / 10;
    let pressure = |what: &str, is: bool, yes: &str, no: &str| {
        let (reason, has) = if is { (yes, "has insufficient") } else { (no, "has sufficient") };
        (is, reason.to_owned(), format!("the node {has} {what}"))
    };
    let ready = match health.cannot_run.first() {
        None => (true, "KubeletReady".to_owned(), "pods can be run".to_owned()),
        Some((reason, _)) => {
            let why = health.cannot_run.iter().map(|(_, problem)| problem.as_str());
            (false, (*reason).to_owned(), why.collect::<Vec<_>>().join("; "))
        }
    };
    let all = [
        (
            "MemoryPressure",
            pressure(
                "memory available",
                low_memory,
                "KubeletHasInsufficientMemory",
                "KubeletHasSufficientMemory",
            ),
        ),
        (
            "DiskPressure",
            pressure("disk space", low_disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
        ),
        (
            "PIDPressure",
            pressure(
                "process ids",
                low_pids,
                "KubeletHasInsufficientPID",
                "KubeletHasSufficientPID",
            ),
        ),
        ("Ready", ready),
    ];
    // Kubernetes has no condition for it, and needs none while nothing is wrong.
    let names = health
        .names_problem
        .as_ref()
        .map(|problem| (NAMES_CONDITION, (true, "NameServerFailed".to_owned(), problem.clone())));
    let told = before.and_then(|status| status.conditions.as_ref());
    all.into_iter()
        .chain(names)
        .map(|(kind, (holds, reason, message))| {
            let status = if holds { "True" } else { "False" }.to_owned();
            let same = told.into_iter().flatten().find(|c| c.type_ == kind && c.status == status);
            NodeCondition {
                type_: kind.to_owned(),
                last_transition_time: same
                    .and_then(|c| c.last_transition_time.clone())
                    .or(Some(Time(now))),
                last_heartbeat_time: Some(Time(now)),
                status,
                reason: Some(reason),
                message: Some(message),
            }
        })
        .collect()
}

/// The events that go with a change of status: what is told here and has no object of its own.
pub(crate) fn news(
    config: &AgentConfig,
    before: Option<&NodeStatus>,
    status: &NodeStatus,
    at: Timestamp,
) -> Option<NodeEvent> {
    let names = |status: &NodeStatus| {
        let mut all = status.conditions.iter().flatten();
        all.find(|condition| condition.type_ == NAMES_CONDITION).cloned()
    };
    let now = names(status)?;
    if before.and_then(names).is_some_and(|before| before.message == now.message) {
        return None;
    }
    let regarding = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(config.node_name.clone()),
        uid: Some(config.node_name.clone()),
        ..ObjectReference::default()
    };
    let message = now.message.unwrap_or_default();
    Some(NodeEvent { regarding, warning: true, reason: "NameServerFailed", message, at })
}

/// Whether two statuses say the same, but for when they were told.
pub(crate) fn is_same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    timeless(a) == timeless(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            cpus: 4,
            memory_bytes: 8 << 30,
            memory_available_bytes: 4 << 30,
            disk_bytes: 100 << 30,
            disk_available_bytes: 50 << 30,
            processes: 100,
            most_processes: 1000,
            ..Facts::default()
        }
    }

    fn tell(facts: &Facts, problem: Option<Part>) -> Vec<(String, String)> {
        let config = AgentConfig::new("n1", "192.168.0.1".parse().unwrap(), "/d", "/r");
        let problems = problem.map(|part| (part, "why".to_owned()));
        let health = Health::of(&problems.into_iter().collect());
        let status = node_status(Timestamp::UNIX_EPOCH, &config, facts, &health, None);
        let conditions = status.conditions.unwrap().into_iter();
        conditions
            .filter(|c| (c.status == "True") != (c.type_ == "Ready"))
            .map(|c| (c.type_, c.reason.unwrap()))
            .collect()
    }

    #[test]
    fn a_healthy_node_has_no_complaints() {
        assert_eq!(tell(&facts(), None), []);
    }

    #[test]
    fn each_pressure_is_told() {
        let check = |facts: Facts, problem, kind: &str| {
            let told = tell(&facts, problem);
            assert_eq!(told.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), [kind]);
            told[0].1.clone()
        };
        check(Facts { memory_available_bytes: 1, ..facts() }, None, "MemoryPressure");
        check(Facts { disk_available_bytes: 1, ..facts() }, None, "DiskPressure");
        check(Facts { processes: 950, ..facts() }, None, "PIDPressure");
        assert_eq!(check(facts(), Some(Part::Network), "Ready"), "NetworkNotReady");
        assert_eq!(check(facts(), Some(Part::Cgroups), "Ready"), "CgroupsNotReady");
    }

    #[test]
    fn a_name_server_that_fails_is_a_condition_and_an_event() {
        let config = AgentConfig::new("n1", "192.168.0.1".parse().unwrap(), "/d", "/r");
        let at = Timestamp::UNIX_EPOCH;
        let tell = |problem: Option<&str>, before: Option<&NodeStatus>| {
            let problem = problem.map(|problem| (Part::Names, problem.to_owned()));
            let health = Health::of(&problem.into_iter().collect());
            let status = node_status(at, &config, &facts(), &health, before);
            let event = news(&config, before, &status, at).map(|event| event.message);
            (status, event)
        };
        let (well, event) = tell(None, None);
        assert_eq!(event, None);
        let (ill, event) = tell(Some("port 53 is taken"), Some(&well));
        assert_eq!(event.as_deref(), Some("port 53 is taken"));
        let condition = ill.conditions.as_ref().unwrap().last().unwrap();
        assert_eq!(
            (condition.type_.as_str(), condition.status.as_str()),
            (NAMES_CONDITION, "True")
        );
        assert_eq!(tell(Some("port 53 is taken"), Some(&ill)).1, None, "it is no news");
    }

    #[test]
    fn capacity_is_more_than_what_is_promised() {
        let config = AgentConfig::new("n1", "192.168.0.1".parse().unwrap(), "/d", "/r");
        let status =
            node_status(Timestamp::UNIX_EPOCH, &config, &facts(), &Health::default(), None);
        let amount = |map: &Option<BTreeMap<String, Quantity>>| {
            let text = &map.as_ref().unwrap()["memory"].0;
            pontoon_model::quantity::bytes(text).unwrap()
        };
        assert_eq!(amount(&status.capacity), 8 << 30);
        assert!(amount(&status.allocatable) < 8 << 30);
        assert_eq!(status.capacity.unwrap()["pods"].0, "110");
        assert_eq!(labels(&config)[LABEL_HOSTNAME], "n1");
    }

    #[test]
    fn only_the_heartbeat_is_no_change() {
        let config = AgentConfig::new("n1", "192.168.0.1".parse().unwrap(), "/d", "/r");
        let at = |second, before: Option<&NodeStatus>| {
            let now = Timestamp::from_second(second).unwrap();
            node_status(now, &config, &facts(), &Health::default(), before)
        };
        let first = at(0, None);
        let second = at(10, Some(&first));
        assert!(first != second && is_same(&first, &second));
    }
}
