//! A pod's status as Kubernetes words it: pure, from what is wanted and what is known.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{SHOW_PULL_ERROR, is_initialized, is_over};
use super::qos::qos_class;
use super::spec::{
    PodId, Rule, containers, init_containers, init_rule, is_sidecar, main_rule, spec,
    uses_host_network,
};
use super::state::{ContainerState, Exit, ImageState, PodState, Run, SandboxState, after};

/// The scheme in front of container and image identifiers.
pub(crate) const ID_SCHEME: &str = "pontoon://";

/// The status of `pod` at `now`; `before` is the one told last, for what did not change since. `host_ip` is the
/// node's address.
pub(crate) fn status(
    now: Timestamp,
    pod: &Pod,
    state: &PodState,
    before: Option<&PodStatus>,
    host_ip: &str,
) -> PodStatus {
    let phase = phase(pod, state);
    let init: Vec<_> = init_containers(pod)
        .iter()
        .map(|c| container_status(now, pod, c, state, init_rule(pod, c)))
        .collect();
    let main: Vec<_> = containers(pod)
        .iter()
        .map(|c| container_status(now, pod, c, state, main_rule(pod, c)))
        .collect();
    let ip = if uses_host_network(pod) {
        Some(host_ip.to_owned()).filter(|_| state.start_time.is_some())
    } else {
        state.ip.map(|ip| ip.to_string())
    };
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        host_ip: Some(host_ip.to_owned()),
        host_ips: Some(vec![HostIP { ip: host_ip.to_owned() }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        start_time: state.start_time.map(Time),
        qos_class: Some(qos_class(pod).to_owned()),
        reason: state.failure.as_ref().map(|failure| failure.reason.clone()),
        message: state.failure.as_ref().map(|failure| failure.message.clone()),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    };
    status.conditions = Some(conditions(now, pod, state, (&init, &main), before));
    status.init_container_statuses = Some(init).filter(|all| !all.is_empty());
    status.container_statuses = Some(main);
    status
}

/// `Pending`, `Running`, `Succeeded` or `Failed`.
pub(crate) fn phase(pod: &Pod, state: &PodState) -> &'static str {
    if state.failure.is_some() {
        return "Failed";
    }
    let stopped = state.stop.is_some() && state.sandbox == SandboxState::Absent;
    let ended = stopped && state.containers.values().all(|own| !own.is_running());
    let over = is_over(pod, state);
    if over || ended {
        return if !over && state.containers.values().all(|own| own.exit().is_none()) {
            // Stopped before anything ran.
            "Pending"
        } else if all_succeeded(pod, state) {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    let begun = |container: &Container| {
        let own = state.container(&container.name);
        !matches!(own.run, Run::Waiting(_)) || own.restarts > 0
    };
    // Once the others have begun, an init container that runs again (in a new sandbox) is no step back.
    if containers(pod).iter().all(begun) && !containers(pod).is_empty() {
        "Running"
    } else {
        "Pending"
    }
}

fn all_succeeded(pod: &Pod, state: &PodState) -> bool {
    let ok = |c: &Container| state.container(&c.name).exit().is_none_or(Exit::succeeded);
    let every_main = containers(pod)
        .iter()
        .all(|c| state.container(&c.name).exit().is_some_and(Exit::succeeded));
    every_main && init_containers(pod).iter().filter(|c| !is_sidecar(c)).all(ok)
}

fn container_status(
    now: Timestamp,
    pod: &Pod,
    container: &Container,
    state: &PodState,
    rule: Rule,
) -> ContainerStatus {
    let own = state.container(&container.name);
    let is_init = init_containers(pod).iter().any(|c| c.name == container.name);
    let (shown, last) = shown_state(now, pod, container, state, rule);
    let id = match &own.run {
        Run::Running { container_id, .. } => Some(container_id),
        Run::Exited(exit) => Some(&exit.container_id),
        Run::Waiting(_) => own.previous.as_ref().map(|exit| &exit.container_id),
    };
    let done = is_init && !is_sidecar(container) && own.exit().is_some_and(Exit::succeeded);
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: own.image_id.clone(),
        container_id: id.filter(|id| !id.is_empty()).map(|id| format!("{ID_SCHEME}{id}")),
        ready: done || (own.is_running() && own.ready && own.started),
        started: Some(own.is_running() && own.started),
        restart_count: i32::try_from(own.restarts).unwrap_or(i32::MAX),
        state: Some(shown),
        last_state: Some(last),
        ..ContainerStatus::default()
    }
}

/// What is shown as the container's state and as the one before.
fn shown_state(
    now: Timestamp,
    pod: &Pod,
    container: &Container,
    state: &PodState,
    rule: Rule,
) -> (ApiState, ApiState) {
    let own = state.container(&container.name);
    let previous = own.previous.as_ref().map(terminated).unwrap_or_default();
    match &own.run {
        Run::Running { started_at, .. } => {
            let running = ContainerStateRunning { started_at: Some(Time(*started_at)) };
            (ApiState { running: Some(running), ..ApiState::default() }, previous)
        }
        Run::Exited(exit) => {
            let again = rule.restarts_after(exit.succeeded()) && state.stop.is_none();
            if let Some(wait) = image_wait(now, container, &own).filter(|_| again) {
                (waiting(wait), terminated(exit))
            } else if again && own.restart_at().is_some_and(|at| now < at) {
                (waiting(crash_loop(pod, container, &own)), terminated(exit))
            } else {
                (terminated(exit), previous)
            }
        }
        Run::Waiting(wait) => {
            let shown = image_wait(now, container, &own).unwrap_or_else(|| {
                let reason = if wait.reason.is_empty() {
                    default_reason(pod, state).to_owned()
                } else {
                    wait.reason.clone()
                };
                ContainerStateWaiting { reason: Some(reason), message: wait.message.clone() }
            });
            (waiting(shown), previous)
        }
    }
}

fn default_reason(pod: &Pod, state: &PodState) -> &'static str {
    if init_containers(pod).is_empty() || is_initialized(pod, state) {
        "ContainerCreating"
    } else {
        "PodInitializing"
    }
}

fn crash_loop(pod: &Pod, container: &Container, own: &ContainerState) -> ContainerStateWaiting {
    let id = PodId::of(pod).map(|id| id.to_string()).unwrap_or_default();
    let (pause, name) = (kubernetes_duration(own.pause().as_secs()), &container.name);
    ContainerStateWaiting {
        reason: Some("CrashLoopBackOff".to_owned()),
        message: Some(format!("back-off {pause} restarting failed container={name} pod={id}")),
    }
}

/// `10s`, `2m40s`, `5m0s`: as Go prints it.
fn kubernetes_duration(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

fn image_wait(
    now: Timestamp,
    container: &Container,
    own: &ContainerState,
) -> Option<ContainerStateWaiting> {
    let ImageState::Failed { failed_at, reason, message, .. } = &own.image else { return None };
    let fresh = now < after(*failed_at, SHOW_PULL_ERROR) || *reason != "ErrImagePull";
    let image = container.image.as_deref().unwrap_or_default();
    Some(if fresh {
        ContainerStateWaiting { reason: Some((*reason).to_owned()), message: Some(message.clone()) }
    } else {
        ContainerStateWaiting {
            reason: Some("ImagePullBackOff".to_owned()),
            message: Some(format!("Back-off pulling image \"{image}\": {message}")),
        }
    })
}

fn waiting(wait: ContainerStateWaiting) -> ApiState {
    ApiState { waiting: Some(wait), ..ApiState::default() }
}

fn terminated(exit: &Exit) -> ApiState {
    let terminated = ContainerStateTerminated {
        container_id: Some(format!("{ID_SCHEME}{}", exit.container_id)),
        exit_code: exit.code,
        signal: exit.signal,
        reason: Some(exit.reason.clone()),
        message: exit.message.clone(),
        started_at: exit.started_at.map(Time),
        finished_at: Some(Time(exit.finished_at)),
    };
    ApiState { terminated: Some(terminated), ..ApiState::default() }
}

fn conditions(
    now: Timestamp,
    pod: &Pod,
    state: &PodState,
    (init, main): (&[ContainerStatus], &[ContainerStatus]),
    before: Option<&PodStatus>,
) -> Vec<PodCondition> {
    let phase = phase(pod, state);
    let told = |status: &PodStatus| status.conditions.clone().unwrap_or_default();
    let before = before.or(pod.status.as_ref()).map(told).unwrap_or_default();
    let ready = containers_ready(phase, main);
    let wanted = [
        ("PodReadyToStartContainers", verdict(state.sandbox == SandboxState::Ready)),
        ("Initialized", initialized(pod, state, phase, init)),
        ("Ready", pod_ready(pod, &ready)),
        ("ContainersReady", ready),
        ("PodScheduled", verdict(true)),
    ];
    let mut all: Vec<PodCondition> = wanted
        .into_iter()
        .map(|(kind, (holds, reason, message))| {
            let status = if holds { "True" } else { "False" }.to_owned();
            let same = before.iter().find(|c| c.type_ == kind && c.status == status);
            PodCondition {
                type_: kind.to_owned(),
                last_transition_time: same
                    .and_then(|c| c.last_transition_time.clone())
                    .or(Some(Time(now))),
                status,
                reason,
                message,
                observed_generation: pod.metadata.generation,
                ..PodCondition::default()
            }
        })
        .collect();
    // What others say of the pod (readiness gates, disruption) is theirs to change.
    let others = pod.status.as_ref().map(told).unwrap_or_default();
    let own: Vec<String> = all.iter().map(|condition| condition.type_.clone()).collect();
    all.extend(others.into_iter().filter(|condition| !own.contains(&condition.type_)));
    all
}

type Verdict = (bool, Option<String>, Option<String>);

fn verdict(holds: bool) -> Verdict {
    (holds, None, None)
}

fn refused(reason: &str, message: String) -> Verdict {
    (false, Some(reason.to_owned()), Some(message).filter(|message| !message.is_empty()))
}

fn initialized(pod: &Pod, state: &PodState, phase: &str, init: &[ContainerStatus]) -> Verdict {
    if is_initialized(pod, state) || phase == "Succeeded" {
        return (true, (phase == "Succeeded").then(|| "PodCompleted".to_owned()), None);
    }
    let names = names(init.iter().filter(|own| !own.ready));
    refused("ContainersNotInitialized", format!("containers with incomplete status: [{names}]"))
}

fn containers_ready(phase: &str, main: &[ContainerStatus]) -> Verdict {
    match phase {
        "Succeeded" => return refused("PodCompleted", String::new()),
        "Failed" => return refused("PodFailed", String::new()),
        _ => {}
    }
    let names = names(main.iter().filter(|own| !own.ready));
    if names.is_empty() {
        return verdict(true);
    }
    refused("ContainersNotReady", format!("containers with unready status: [{names}]"))
}

fn pod_ready(pod: &Pod, containers: &Verdict) -> Verdict {
    if !containers.0 {
        return containers.clone();
    }
    let said = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let true_gates: Vec<&str> =
        said.filter(|c| c.status == "True").map(|c| c.type_.as_str()).collect();
    let gates = spec(pod).readiness_gates.iter().flatten().map(|gate| &gate.condition_type);
    let missing: Vec<&String> = gates.filter(|gate| !true_gates.contains(&gate.as_str())).collect();
    if missing.is_empty() {
        return verdict(true);
    }
    let list = missing.iter().map(|gate| format!("\"{gate}\"")).collect::<Vec<_>>().join(", ");
    refused(
        "ReadinessGatesNotReady",
        format!("corresponding conditions of pod readiness gates are not \"True\": [{list}]"),
    )
}

fn names<'a>(statuses: impl Iterator<Item = &'a ContainerStatus>) -> String {
    statuses.map(|own| own.name.as_str()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
