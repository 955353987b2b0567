//! Cases for the next steps. Each starts from a pod written as JSON and a state made by hand.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::pod::state::{Exit, StopOrder, Wait};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "d", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

fn one(policy: &str) -> Pod {
    pod(json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}]}))
}

fn ready() -> PodState {
    PodState { sandbox: SandboxState::Ready, ..PodState::default() }
}

fn set_running(state: &mut PodState, name: &str) {
    let own = state.container_mut(name);
    own.began(format!("{name}-id"), at(0));
    own.started = true;
    own.passed = true;
}

fn set_exited(state: &mut PodState, name: &str, code: i32, second: i64) {
    state.container_mut(name).ended(Exit {
        container_id: format!("{name}-id"),
        code,
        signal: None,
        reason: String::new(),
        message: None,
        started_at: Some(at(second - 1)),
        finished_at: at(second),
    });
}

fn set_image_ready(state: &mut PodState, name: &str) {
    state.container_mut(name).image = ImageState::Ready;
}

#[track_caller]
fn check(now: i64, pod: &Pod, state: &PodState, actions: &[Action], wake: Option<i64>) {
    let expected = Plan { actions: actions.to_vec(), wake_at: wake.map(at) };
    assert_eq!(plan(at(now), pod, state), expected);
}

fn pull(name: &str) -> Action {
    Action::Pull(name.to_owned())
}

fn start(name: &str) -> Action {
    Action::Start(name.to_owned())
}

fn stop(name: &str) -> Action {
    Action::Stop(name.to_owned())
}

#[test]
fn a_new_pod_gets_its_sandbox_then_its_image_then_runs() {
    let (pod, mut state) = (one("Always"), PodState::default());
    check(0, &pod, &state, &[Action::PrepareSandbox], None);
    state.sandbox = SandboxState::Ready;
    check(0, &pod, &state, &[pull("a")], None);
    state.container_mut("a").image = ImageState::Pulling;
    check(0, &pod, &state, &[], None);
    set_image_ready(&mut state, "a");
    check(0, &pod, &state, &[start("a")], None);
    set_running(&mut state, "a");
    check(0, &pod, &state, &[], None);
}

#[test]
fn failures_wait_for_their_next_attempt() {
    let (pod, mut state) = (one("Always"), PodState::default());
    state.sandbox = SandboxState::Failed { retry_at: at(9) };
    check(1, &pod, &state, &[], Some(9));
    check(9, &pod, &state, &[Action::PrepareSandbox], None);
    state.sandbox = SandboxState::Ready;
    state.container_mut("a").image = ImageState::Failed {
        failed_at: at(0),
        retry_at: at(10),
        reason: "ErrImagePull",
        message: String::new(),
    };
    check(0, &pod, &state, &[], Some(2));
    check(5, &pod, &state, &[], Some(10));
    check(10, &pod, &state, &[pull("a")], None);
    set_image_ready(&mut state, "a");
    state.container_mut("a").run = Run::Waiting(Wait { retry_at: Some(at(20)), ..Wait::default() });
    check(15, &pod, &state, &[], Some(20));
    check(20, &pod, &state, &[start("a")], None);
}

#[test]
fn a_crashed_container_restarts_at_once_and_then_after_a_pause() {
    let (pod, mut state) = (one("Always"), ready());
    set_exited(&mut state, "a", 1, 5);
    check(5, &pod, &state, &[pull("a")], None);
    set_exited(&mut state, "a", 1, 6);
    check(7, &pod, &state, &[], Some(16));
    check(16, &pod, &state, &[pull("a")], None);
}

#[test]
fn the_restart_policy_decides() {
    for (policy, code, restarts) in
        [("Always", 0, true), ("OnFailure", 0, false), ("OnFailure", 1, true), ("Never", 1, false)]
    {
        let (pod, mut state) = (one(policy), ready());
        set_exited(&mut state, "a", code, 5);
        let expected = if restarts { pull("a") } else { Action::TearDown };
        check(5, &pod, &state, &[expected], None);
        state.sandbox = SandboxState::Absent;
        let expected = if restarts { vec![Action::PrepareSandbox] } else { vec![] };
        check(5, &pod, &state, &expected, None);
    }
}

#[test]
fn init_containers_run_one_after_the_other() {
    let pod = pod(json!({"initContainers": [{"name": "i1"}, {"name": "i2"}],
        "containers": [{"name": "a"}, {"name": "b"}]}));
    let mut state = ready();
    check(0, &pod, &state, &[pull("i1")], None);
    set_running(&mut state, "i1");
    check(0, &pod, &state, &[], None);
    set_exited(&mut state, "i1", 0, 1);
    check(1, &pod, &state, &[pull("i2")], None);
    set_exited(&mut state, "i2", 0, 2);
    check(2, &pod, &state, &[pull("a"), pull("b")], None);
    // In a new sandbox they run again.
    state.sandbox_lost(at(3));
    state.sandbox = SandboxState::Ready;
    check(3, &pod, &state, &[pull("i1")], None);
}

#[test]
fn a_failed_init_container_is_repeated_or_fails_the_pod() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let mut state = ready();
    set_exited(&mut state, "i", 1, 1);
    check(1, &pod(spec("Always")), &state, &[pull("i")], None);
    check(1, &pod(spec("Never")), &state, &[Action::TearDown], None);
}

#[test]
fn a_sidecar_lets_the_others_start_once_it_has_started() {
    let pod = pod(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]}));
    let mut state = ready();
    state.container_mut("s").began("s-id".into(), at(0));
    check(0, &pod, &state, &[], None);
    set_running(&mut state, "s");
    check(0, &pod, &state, &[pull("a")], None);
    set_running(&mut state, "a");
    set_exited(&mut state, "s", 0, 1);
    state.container_mut("s").next_run();
    check(1, &pod, &state, &[pull("s")], None);
    // It ends with the last of the others.
    set_running(&mut state, "s");
    set_exited(&mut state, "a", 0, 2);
    check(2, &pod, &state, &[stop("s")], None);
}

#[test]
fn a_doomed_container_is_stopped_once() {
    let (pod, mut state) = (one("Always"), ready());
    set_running(&mut state, "a");
    state.container_mut("a").doomed = Some("liveness".into());
    check(0, &pod, &state, &[stop("a")], None);
    state.container_mut("a").stopping = true;
    check(0, &pod, &state, &[], None);
}

#[test]
fn a_stopped_pod_ends_its_containers_then_its_sandbox_then_itself() {
    let (pod, mut state) = (one("Always"), ready());
    set_running(&mut state, "a");
    state.stop = Some(StopOrder { grace: Duration::from_secs(30), delete: true });
    check(0, &pod, &state, &[stop("a")], None);
    state.container_mut("a").stopping = true;
    check(0, &pod, &state, &[], None);
    set_exited(&mut state, "a", 0, 1);
    check(1, &pod, &state, &[Action::TearDown], None);
    state.sandbox = SandboxState::Absent;
    check(1, &pod, &state, &[Action::Finish], None);
    state.stop = Some(StopOrder { grace: Duration::ZERO, delete: false });
    check(1, &pod, &state, &[], None);
}

#[test]
fn a_lost_container_that_never_restarts_is_not_started_again() {
    let (pod, mut state) = (one("Never"), ready());
    set_running(&mut state, "a");
    state.sandbox_lost(at(1));
    check(1, &pod, &state, &[], None);
    assert!(is_over(&pod, &state));
    state.holds_address = true;
    check(1, &pod, &state, &[Action::TearDown], None);
}

#[test]
fn the_deadline_fails_the_pod() {
    let pod = pod(json!({"activeDeadlineSeconds": 10, "containers": [{"name": "a"}]}));
    let mut state = ready();
    set_running(&mut state, "a");
    state.start_time = Some(at(0));
    check(9, &pod, &state, &[], Some(10));
    let plan = plan(at(10), &pod, &state);
    let [Action::Fail(failure)] = plan.actions.as_slice() else { panic!("{plan:?}") };
    assert_eq!(failure.reason, "DeadlineExceeded");
    state.failure = Some(failure.clone());
    check(10, &pod, &state, &[stop("a")], None);
}
