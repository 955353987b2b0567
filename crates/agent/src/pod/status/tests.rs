//! Cases for the status, each a state made by hand and what a client would read.

use serde_json::{Value, json};

use super::*;
use crate::pod::state::Wait;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "d", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

fn exit(code: i32) -> Exit {
    Exit {
        container_id: "c1".into(),
        code,
        signal: None,
        reason: if code == 0 { "Completed" } else { "Error" }.into(),
        message: None,
        started_at: Some(at(1)),
        finished_at: at(2),
    }
}

fn ready_state() -> PodState {
    PodState {
        sandbox: SandboxState::Ready,
        ip: Some("10.244.1.5".parse().unwrap()),
        start_time: Some(at(0)),
        ..PodState::default()
    }
}

fn tell(pod: &Pod, state: &PodState, now: i64) -> Value {
    serde_json::to_value(status(at(now), pod, state, None, "192.168.0.1")).unwrap()
}

fn condition(status: &Value, kind: &str) -> (String, String) {
    let all = status["conditions"].as_array().unwrap();
    let found = all.iter().find(|c| c["type"] == kind).unwrap();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

#[test]
fn a_running_pod_is_ready_when_its_containers_are() {
    let (pod, mut state) =
        (pod(json!({"containers": [{"name": "a", "image": "i"}]})), ready_state());
    let own = state.container_mut("a");
    own.began("c1".into(), at(1));
    own.started = true;
    let told = tell(&pod, &state, 5);
    assert_eq!(told["phase"], "Running");
    assert_eq!(condition(&told, "Ready"), ("False".into(), "ContainersNotReady".into()));
    state.container_mut("a").ready = true;
    let told = tell(&pod, &state, 5);
    assert_eq!(condition(&told, "Ready"), ("True".into(), String::new()));
    assert_eq!(told["podIP"], "10.244.1.5");
    assert_eq!(told["hostIP"], "192.168.0.1");
    assert_eq!(told["qosClass"], "BestEffort");
    let container = &told["containerStatuses"][0];
    assert_eq!(container["containerID"], "pontoon://c1");
    assert_eq!(container["state"]["running"]["startedAt"], "1970-01-01T00:00:01Z");
}

#[test]
fn a_crashing_container_is_shown_with_its_pause_and_its_last_end() {
    let (pod, mut state) = (pod(json!({"containers": [{"name": "a"}]})), ready_state());
    let own = state.container_mut("a");
    own.ended(exit(1));
    own.next_run();
    own.ended(exit(1));
    let told = tell(&pod, &state, 5);
    assert_eq!(told["phase"], "Running");
    let container = &told["containerStatuses"][0];
    assert_eq!(container["restartCount"], 1);
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(
        container["state"]["waiting"],
        json!({"reason": "CrashLoopBackOff",
        "message": "back-off 10s restarting failed container=a pod=p_d(u)"})
    );
    // After the pause it is about to be restarted.
    let told = tell(&pod, &state, 12);
    assert_eq!(told["containerStatuses"][0]["state"]["terminated"]["reason"], "Error");
}

#[test]
fn a_pull_that_failed_is_an_error_first_and_a_pause_then() {
    let (pod, mut state) =
        (pod(json!({"containers": [{"name": "a", "image": "none"}]})), ready_state());
    state.container_mut("a").image = ImageState::Failed {
        failed_at: at(10),
        retry_at: at(20),
        reason: "ErrImagePull",
        message: "not found".into(),
    };
    let waiting = |now| tell(&pod, &state, now)["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(waiting(10), json!({"reason": "ErrImagePull", "message": "not found"}));
    assert_eq!(
        waiting(13),
        json!({"reason": "ImagePullBackOff",
        "message": "Back-off pulling image \"none\": not found"})
    );
    assert_eq!(tell(&pod, &state, 13)["phase"], "Pending");
}

#[test]
fn the_phase_follows_the_ends_and_the_policy() {
    for (policy, codes, expected) in [
        ("Never", [0, 0], "Succeeded"),
        ("Never", [0, 3], "Failed"),
        ("OnFailure", [0, 0], "Succeeded"),
        ("OnFailure", [0, 3], "Running"),
        ("Always", [0, 0], "Running"),
    ] {
        let pod =
            pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]}));
        let mut state = ready_state();
        state.container_mut("a").ended(exit(codes[0]));
        state.container_mut("b").ended(exit(codes[1]));
        assert_eq!(phase(&pod, &state), expected, "{policy} {codes:?}");
    }
}

#[test]
fn a_completed_pod_is_not_ready_and_says_why() {
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    let mut state = ready_state();
    state.container_mut("a").ended(exit(0));
    let told = tell(&pod, &state, 5);
    assert_eq!(condition(&told, "Ready"), ("False".into(), "PodCompleted".into()));
    assert_eq!(told["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
}

#[test]
fn init_containers_hold_the_pod_in_pending() {
    let pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    let mut state = ready_state();
    let told = tell(&pod, &state, 5);
    assert_eq!(told["phase"], "Pending");
    let waiting = &told["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "PodInitializing");
    assert_eq!(
        condition(&told, "Initialized"),
        ("False".into(), "ContainersNotInitialized".into())
    );
    state.container_mut("i").ended(exit(0));
    let told = tell(&pod, &state, 5);
    assert_eq!(told["initContainerStatuses"][0]["ready"], true);
    assert_eq!(condition(&told, "Initialized").0, "True");
}

#[test]
fn a_stopped_pod_has_its_last_word_when_all_is_gone() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut state = ready_state();
    state.stop =
        Some(crate::pod::state::StopOrder { grace: std::time::Duration::ZERO, delete: true });
    state.container_mut("a").ended(exit(143));
    assert_eq!(phase(&pod, &state), "Running");
    state.sandbox = SandboxState::Absent;
    assert_eq!(phase(&pod, &state), "Failed");
}

#[test]
fn times_of_conditions_stay_while_they_hold() {
    let (pod, state) = (pod(json!({"containers": [{"name": "a"}]})), ready_state());
    let first = status(at(5), &pod, &state, None, "h");
    let second = status(at(50), &pod, &state, Some(&first), "h");
    assert_eq!(first, second);
}

#[test]
fn gates_and_the_conditions_of_others_are_kept() {
    let mut pod = pod(json!({"readinessGates": [{"conditionType": "example.org/lb"}],
        "containers": [{"name": "a"}]}));
    let mut state = ready_state();
    let own = state.container_mut("a");
    own.began("c".into(), at(1));
    (own.started, own.ready) = (true, true);
    let told = tell(&pod, &state, 5);
    assert_eq!(condition(&told, "Ready"), ("False".into(), "ReadinessGatesNotReady".into()));
    pod.status = serde_json::from_value(json!({"conditions": [
        {"type": "example.org/lb", "status": "True"}]}))
    .unwrap();
    let told = tell(&pod, &state, 5);
    assert_eq!(condition(&told, "Ready").0, "True");
    assert_eq!(condition(&told, "example.org/lb").0, "True");
}

#[test]
fn a_refused_configuration_is_shown_as_such() {
    let (pod, mut state) = (pod(json!({"containers": [{"name": "a"}]})), ready_state());
    state.container_mut("a").run = Run::Waiting(Wait {
        reason: "CreateContainerConfigError".into(),
        message: Some("configmap \"c\" not found".into()),
        retry_at: None,
    });
    let told = tell(&pod, &state, 5);
    let waiting = &told["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "CreateContainerConfigError");
}
