//! The next steps of a pod: pure, from what is wanted and what is known. Run again after each step and event.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::spec::{Rule, containers, init_containers, init_rule, is_sidecar, main_rule, spec};
use super::state::{ContainerState, Failure, ImageState, PodState, Run, SandboxState, after};

/// How long a failed pull is shown as such before it is shown as a pause.
pub(crate) const SHOW_PULL_ERROR: std::time::Duration = std::time::Duration::from_secs(2);

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Volumes, shared namespaces, address.
    PrepareSandbox,
    /// Have the container's image here.
    Pull(String),
    /// Make and start the container.
    Start(String),
    /// Ask the container to end, and make it end when its grace is over.
    Stop(String),
    /// The pod as a whole has failed.
    Fail(Failure),
    /// Remove the shared namespaces; logs and status stay.
    TearDown,
    /// Remove the rest and say that the pod is gone.
    Finish,
}

/// What to do now, and when to look again if nothing happens before.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub actions: Vec<Action>,
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// What to do about `pod` at `now`.
pub(crate) fn plan(now: Timestamp, pod: &Pod, state: &PodState) -> Plan {
    let mut plan = Plan::default();
    if state.stop.is_some() || is_over(pod, state) {
        end(pod, state, &mut plan);
        return plan;
    }
    if let Some(failure) = deadline(now, pod, state, &mut plan) {
        plan.act(Action::Fail(failure));
        return plan;
    }
    match state.sandbox {
        SandboxState::Absent => plan.act(Action::PrepareSandbox),
        SandboxState::Failed { retry_at } if retry_at <= now => plan.act(Action::PrepareSandbox),
        SandboxState::Failed { retry_at } => plan.wake(retry_at),
        SandboxState::Ready => run(now, pod, state, &mut plan),
    }
    plan
}

/// Whether nothing of the pod will ever run again although nobody stopped it.
pub(crate) fn is_over(pod: &Pod, state: &PodState) -> bool {
    let stays_ended = |container: &Container, rule: Rule| {
        let state = state.container(&container.name);
        state.exit().is_some_and(|exit| !rule.restarts_after(exit.succeeded()))
    };
    let init_failed = init_containers(pod).iter().filter(|c| !is_sidecar(c)).any(|container| {
        let failed = state.container(&container.name).exit().is_some_and(|e| !e.succeeded());
        failed && stays_ended(container, init_rule(pod, container))
    });
    let all = containers(pod);
    state.failure.is_some()
        || init_failed
        || (!all.is_empty() && all.iter().all(|c| stays_ended(c, main_rule(pod, c))))
}

/// Whether every init container has done its work in this sandbox.
pub(crate) fn is_initialized(pod: &Pod, state: &PodState) -> bool {
    init_containers(pod).iter().all(|container| is_through(container, state))
}

fn is_through(container: &Container, state: &PodState) -> bool {
    let own = state.container(&container.name);
    if is_sidecar(container) {
        return own.passed;
    }
    !own.lost && own.exit().is_some_and(super::state::Exit::succeeded)
}

fn deadline(now: Timestamp, pod: &Pod, state: &PodState, plan: &mut Plan) -> Option<Failure> {
    let seconds = spec(pod).active_deadline_seconds?;
    let ends = state.start_time?.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    if now < ends {
        plan.wake(ends);
        return None;
    }
    Some(Failure {
        reason: "DeadlineExceeded".to_owned(),
        message: "Pod was active on the node longer than the specified deadline".to_owned(),
    })
}

fn run(now: Timestamp, pod: &Pod, state: &PodState, plan: &mut Plan) {
    for container in init_containers(pod) {
        // What it did for the last sandbox, it has to do for this one too.
        let lost = state.container(&container.name).lost;
        let rule = if lost { Rule::Always } else { init_rule(pod, container) };
        let through = is_through(container, state);
        if !through || is_sidecar(container) {
            drive(now, rule, &container.name, state, plan);
        }
        if !through {
            return;
        }
    }
    for container in containers(pod) {
        drive(now, main_rule(pod, container), &container.name, state, plan);
    }
}

/// The next step of one container that shall run.
fn drive(now: Timestamp, rule: Rule, name: &str, state: &PodState, plan: &mut Plan) {
    let own = state.container(name);
    match &own.run {
        Run::Running { .. } if own.doomed.is_some() && !own.stopping => {
            plan.act(Action::Stop(name.to_owned()));
        }
        Run::Running { .. } => {}
        Run::Exited(exit) => {
            let again = rule.restarts_after(exit.succeeded());
            match own.restart_at() {
                Some(at) if again && now < at => plan.wake(at),
                Some(_) if again => start(now, name, &own, plan),
                _ => {}
            }
        }
        Run::Waiting(wait) => match wait.retry_at {
            Some(at) if now < at => plan.wake(at),
            _ => start(now, name, &own, plan),
        },
    }
}

fn start(now: Timestamp, name: &str, own: &ContainerState, plan: &mut Plan) {
    match &own.image {
        ImageState::Unknown => plan.act(Action::Pull(name.to_owned())),
        ImageState::Pulling => {}
        ImageState::Ready => plan.act(Action::Start(name.to_owned())),
        ImageState::Failed { retry_at, .. } if *retry_at <= now => {
            plan.act(Action::Pull(name.to_owned()));
        }
        ImageState::Failed { failed_at, retry_at, .. } => {
            let shown = after(*failed_at, SHOW_PULL_ERROR);
            plan.wake(if now < shown { shown.min(*retry_at) } else { *retry_at });
        }
    }
}

/// Ends a pod: its containers, then those that served them, then what they shared, then the pod.
fn end(pod: &Pod, state: &PodState, plan: &mut Plan) {
    let is_side = |name: &str| init_containers(pod).iter().any(|c| c.name == name && is_sidecar(c));
    let running = |side: bool| {
        state.containers.iter().filter(move |(name, own)| own.is_running() && is_side(name) == side)
    };
    let mut alive = running(false).peekable();
    let any =
        if alive.peek().is_some() { alive.collect::<Vec<_>>() } else { running(true).collect() };
    for (name, own) in &any {
        if !own.stopping {
            plan.act(Action::Stop((*name).clone()));
        }
    }
    if !any.is_empty() {
        return;
    }
    if state.sandbox != SandboxState::Absent || state.holds_address {
        plan.act(Action::TearDown);
    } else if state.stop.as_ref().is_some_and(|order| order.delete) {
        plan.act(Action::Finish);
    }
}

#[cfg(test)]
mod tests;
