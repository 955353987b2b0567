//! Pods as rows: the STATUS column sums up what the containers do.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use super::column::{AGE, Column, Layout, NAME, name, shown, wide};
use super::value::{NONE, condition, flag, integer, list, text, text_or};

const COLUMNS: &[Column] = &[
    NAME,
    shown("Ready", "How many of the pod's containers are ready."),
    shown("Status", "What the pod's containers are doing, in one word."),
    shown("Restarts", "How often containers of the pod were restarted, and when last."),
    AGE,
    wide("IP", "Address of the pod."),
    wide("Node", "The node that the pod is bound to."),
    wide("Nominated Node", "The node that is being cleared for the pod."),
    wide("Readiness Gates", "How many of the pod's readiness gates are passed."),
];

pub(super) static LAYOUT: Layout =
    Layout { columns: COLUMNS, cells, row_conditions: Some(row_conditions) };

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.clone().into(),
        summary.restarts_told(now).into(),
        super::column::age(pod, now),
        address(pod).into(),
        text_or(pod, "/spec/nodeName", NONE).into(),
        text_or(pod, "/status/nominatedNodeName", NONE).into(),
        readiness_gates(pod).into(),
    ]
}

/// A finished pod is marked, so that clients can grey it out.
fn row_conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

fn address(pod: &Value) -> &str {
    let first = list(pod, "/status/podIPs").first().map(|ip| text(ip, "/ip"));
    match first {
        Some(ip) if !ip.is_empty() => ip,
        _ => text_or(pod, "/status/podIP", NONE),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let passed = gates.iter().filter(|gate| {
        let gate = condition(pod, text(gate, "/conditionType"));
        gate.is_some_and(|condition| text(condition, "/status") == "True")
    });
    format!("{}/{}", passed.count(), gates.len())
}

/// What is counted over the containers of a pod.
struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    reason: String,
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let reason = text_or(pod, "/status/reason", text(pod, "/status/phase"));
        let mut summary = Summary {
            ready: 0,
            total: list(pod, "/spec/containers").len(),
            restarts: 0,
            last_restart: None,
            reason: reason.to_owned(),
        };
        if is_scheduling_gated(pod) {
            "SchedulingGated".clone_into(&mut summary.reason);
        }
        let initializing = summary.add_init_containers(pod);
        let initialized = condition(pod, "Initialized")
            .is_some_and(|condition| text(condition, "/status") == "True");
        if !initializing || initialized {
            summary.add_containers(pod);
        }
        summary.mark_deleted(pod);
        summary
    }

    /// Returns whether init containers hold the pod up.
    fn add_init_containers(&mut self, pod: &Value) -> bool {
        let specs = list(pod, "/spec/initContainers");
        let sidecar = |name: &str| {
            specs
                .iter()
                .any(|spec| text(spec, "/name") == name && text(spec, "/restartPolicy") == "Always")
        };
        self.total += specs.iter().filter(|spec| text(spec, "/restartPolicy") == "Always").count();
        let mut initializing = false;
        for (index, container) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            let is_sidecar = sidecar(text(container, "/name"));
            let counted = !initializing || is_sidecar;
            if counted {
                self.count_restarts(container);
            }
            if is_sidecar && flag(container, "/ready") {
                self.ready += 1;
            }
            let terminated =
                container.pointer("/state/terminated").filter(|state| state.is_object());
            let done = terminated.is_some_and(|state| integer(state, "/exitCode") == 0)
                || (is_sidecar && flag(container, "/started"));
            if done || initializing {
                continue;
            }
            initializing = true;
            let waiting = text(container, "/state/waiting/reason");
            self.reason = if let Some(state) = terminated {
                format!("Init:{}", end_of(state))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", specs.len())
            };
        }
        initializing
    }

    fn add_containers(&mut self, pod: &Value) {
        // Restarts of init containers that are done no longer matter.
        let sidecars = list(pod, "/spec/initContainers")
            .iter()
            .any(|spec| text(spec, "/restartPolicy") == "Always");
        if !sidecars {
            self.restarts = 0;
            self.last_restart = None;
        }
        let mut has_running = false;
        for container in list(pod, "/status/containerStatuses").iter().rev() {
            self.count_restarts(container);
            let waiting = text(container, "/state/waiting/reason");
            let ready = flag(container, "/ready");
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if let Some(state) =
                container.pointer("/state/terminated").filter(|state| state.is_object())
            {
                self.reason = end_of(state);
            } else if ready && container.pointer("/state/running").is_some_and(Value::is_object) {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            let is_ready = condition(pod, "Ready")
                .is_some_and(|condition| text(condition, "/status") == "True");
            self.reason = if is_ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restarts(&mut self, container: &Value) {
        self.restarts += integer(container, "/restartCount");
        let finished = text(container, "/lastState/terminated/finishedAt").parse().ok();
        self.last_restart = self.last_restart.max(finished);
    }

    fn mark_deleted(&mut self, pod: &Value) {
        if text(pod, "/metadata/deletionTimestamp").is_empty() {
            return;
        }
        if text(pod, "/status/reason") == "NodeLost" {
            "Unknown".clone_into(&mut self.reason);
        } else if !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut self.reason);
        }
    }

    fn restarts_told(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(at) if self.restarts > 0 => {
                let ago = age::span(now.as_second() - at.as_second());
                format!("{} ({ago} ago)", self.restarts)
            }
            _ => self.restarts.to_string(),
        }
    }
}

fn is_scheduling_gated(pod: &Value) -> bool {
    condition(pod, "PodScheduled")
        .is_some_and(|condition| text(condition, "/reason") == "SchedulingGated")
}

/// Why a container ended: its reason, or its signal, or its exit code.
fn end_of(state: &Value) -> String {
    let reason = text(state, "/reason");
    let signal = integer(state, "/signal");
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", integer(state, "/exitCode"))
    }
}
