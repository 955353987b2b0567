//! A pod's life against a runtime, images and wires that are only played, with a clock that jumps.

mod played;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pontoon_container::ContainerState as RuntimeState;
use serde_json::json;

use super::*;
use played::{Stage, pod};

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_says_so() {
    let mut stage = Stage::new();
    let handle = stage.begin(&pod(json!({"containers": [{"name": "a", "image": "i"}]})));
    let status = stage.status(|status| status.phase.as_deref() == Some("Running")).await;
    assert_eq!(status.pod_ip.as_deref(), Some("10.244.1.2"));
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert!(container.ready);
    assert_eq!(container.container_id.as_deref(), Some("pontoon://u-1.a.0"));
    assert_eq!(stage.calls(), ["sandbox u-1", "attach u-1", "create a.0", "start a.0"]);
    assert_eq!(stage.events(), ["Pulling", "Pulled", "Created", "Started"]);
    assert!(handle.view().unwrap().containers["a"].1.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_is_restarted_with_growing_pauses() {
    let mut stage = Stage::new();
    let handle = stage.begin(&pod(json!({"containers": [{"name": "a", "image": "i"}]})));
    let mut starts = Vec::new();
    for restart in 0..4 {
        let id = format!("a.{restart}");
        stage.started(&id).await;
        starts.push(stage.now());
        stage.exit(&handle, &id, 1);
    }
    let pauses: Vec<i64> =
        starts.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
    assert_eq!(pauses, [0, 10, 20]);
    let status = stage
        .status(|status| {
            let container = &status.container_statuses.as_ref().unwrap()[0];
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            container.restart_count == 3 && waiting.is_some()
        })
        .await;
    let container = &status.container_statuses.as_ref().unwrap()[0];
    let waiting = container.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    assert!(stage.events().contains(&"BackOff".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn after_a_power_cut_nobody_waits_for_what_was_before_it() {
    let mut stage = Stage::new();
    let wanted =
        pod(json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}));
    let mut handle = stage.begin(&wanted);
    // One had a bad hour long ago, and is well.
    for restart in 0..3 {
        let id = format!("a.{restart}");
        stage.started(&id).await;
        stage.exit(&handle, &id, 1);
    }
    stage.started("a.3").await;
    // The other waits for the end of its pause.
    for restart in 0..4 {
        let id = format!("b.{restart}");
        stage.started(&id).await;
        stage.exit(&handle, &id, 1);
    }
    let in_back_off = |status: &PodStatus| {
        let state = status.container_statuses.as_ref().unwrap()[1].state.as_ref();
        let reason = state.and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
        reason == Some("CrashLoopBackOff")
    };
    stage.status(in_back_off).await;
    for cut in 1..=2 {
        drop(handle);
        let on_again = stage.now();
        handle = stage.switch_on("u-1", &wanted);
        stage.started(&format!("a.{}", 3 + cut)).await;
        stage.started(&format!("b.{}", 3 + cut)).await;
        assert!(stage.now().duration_since(on_again).as_secs() < 10, "they wait for nothing");
    }
    let counts = |status: &PodStatus| -> Vec<i32> {
        status.container_statuses.iter().flatten().map(|c| c.restart_count).collect()
    };
    let status = stage.status(|status| counts(status) == [5, 5]).await;
    let last = status.container_statuses.unwrap()[0].last_state.clone().unwrap();
    assert_eq!(last.terminated.unwrap().reason.as_deref(), Some("ContainerStatusUnknown"));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_asked_to_end_and_then_gone() {
    let mut stage = Stage::new();
    let mut wanted = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let handle = stage.begin(&wanted);
    stage.started("a.0").await;
    wanted.metadata.deletion_timestamp = Some(Time(stage.now()));
    stage.order(&handle, &wanted);
    stage.gone().await;
    let calls = stage.calls();
    assert_eq!(calls[4..], ["kill a.0 15", "remove u-1", "detach u-1"]);
    assert!(!stage.pod_directory("u-1").exists());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_end_is_killed_when_its_grace_is_over() {
    let mut stage = Stage::new();
    stage.engine.ignore_term();
    let mut wanted = pod(json!({"terminationGracePeriodSeconds": 7,
        "containers": [{"name": "a", "image": "i"}]}));
    let handle = stage.begin(&wanted);
    stage.started("a.0").await;
    let asked = stage.now();
    wanted.metadata.deletion_timestamp = Some(Time(asked));
    stage.order(&handle, &wanted);
    stage.gone().await;
    assert_eq!(stage.now().duration_since(asked), SignedDuration::from_secs(7));
    assert!(stage.calls().contains(&"kill all a.0 9".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_grace_beyond_the_clock_is_no_fault() {
    let mut stage = Stage::new();
    stage.engine.ignore_term();
    let mut wanted = pod(json!({"terminationGracePeriodSeconds": i64::MAX,
        "containers": [{"name": "a", "image": "i"}]}));
    let handle = stage.begin(&wanted);
    stage.started("a.0").await;
    wanted.metadata.deletion_timestamp = Some(Time(stage.now()));
    stage.order(&handle, &wanted);
    stage.called("kill a.0 15").await;
    wanted.metadata.deletion_grace_period_seconds = Some(3);
    stage.order(&handle, &wanted);
    let asked = stage.now();
    stage.gone().await;
    assert_eq!(stage.now().duration_since(asked), SignedDuration::from_secs(3));
    assert!(!stage.events().contains(&"InternalError".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_task_loses_nothing_that_runs() {
    let mut stage = Stage::new();
    let mut wanted =
        pod(json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}));
    let handle = stage.begin(&wanted);
    stage.started("b.0").await;
    stage.engine.break_down(3);
    stage.exit(&handle, "b.0", 1);
    stage.event("InternalError").await;
    assert!(!handle.is_finished());
    stage.started("b.1").await;
    let calls = stage.calls();
    assert_eq!(calls.iter().filter(|call| *call == "sandbox u-1").count(), 1, "{calls:?}");
    assert_eq!(stage.engine.state("a.0"), Some(RuntimeState::Running));
    wanted.metadata.deletion_timestamp = Some(Time(stage.now()));
    stage.order(&handle, &wanted);
    stage.gone().await;
    assert!(stage.calls().contains(&"remove u-1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_not_gone_while_something_of_it_is_left() {
    let mut stage = Stage::new();
    let mut wanted = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let handle = stage.begin(&wanted);
    stage.started("a.0").await;
    stage.engine.get_stuck(3);
    wanted.metadata.deletion_timestamp = Some(Time(stage.now()));
    let asked = stage.now();
    stage.order(&handle, &wanted);
    stage.event("FailedKillPod").await;
    assert!(stage.pod_directory("u-1").exists());
    stage.gone().await;
    assert_eq!(stage.now().duration_since(asked), SignedDuration::from_secs(1 + 2 + 4));
}

#[tokio::test(start_paused = true)]
async fn an_address_is_nobody_elses_while_something_has_it() {
    let mut stage = Stage::new();
    let mut wanted = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let handle = stage.begin(&wanted);
    stage.started("a.0").await;
    drop(handle);
    stage.engine.get_stuck(3);
    wanted.metadata.deletion_timestamp = Some(Time(stage.now()));
    let _handle = stage.switch_on("u-1", &wanted);
    stage.event("FailedKillPod").await;
    assert!(!stage.calls().contains(&"detach u-1".to_owned()));
    stage.gone().await;
    assert_eq!(stage.calls().last().map(String::as_str), Some("detach u-1"));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_uses_up_the_grace_leaves_two_seconds_to_end_well() {
    let mut stage = Stage::new();
    stage.engine.ignore_term();
    let lifecycle = json!({"preStop": {"sleep": {"seconds": 100}}});
    let mut wanted = pod(json!({"terminationGracePeriodSeconds": 5,
        "containers": [{"name": "a", "image": "i", "lifecycle": lifecycle}]}));
    let handle = stage.begin(&wanted);
    stage.started("a.0").await;
    let asked = stage.now();
    wanted.metadata.deletion_timestamp = Some(Time(asked));
    stage.order(&handle, &wanted);
    stage.called("kill a.0 15").await;
    assert_eq!(stage.now().duration_since(asked), SignedDuration::from_secs(5));
    stage.called("kill all a.0 9").await;
    assert_eq!(stage.now().duration_since(asked), SignedDuration::from_secs(7));
    stage.gone().await;
    assert!(stage.events().contains(&"FailedPreStopHook".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn without_any_grace_a_container_is_killed_at_once() {
    let mut stage = Stage::new();
    let lifecycle = json!({"preStop": {"sleep": {"seconds": 100}}});
    let mut wanted =
        pod(json!({"containers": [{"name": "a", "image": "i", "lifecycle": lifecycle}]}));
    let handle = stage.begin(&wanted);
    stage.started("a.0").await;
    let asked = stage.now();
    wanted.metadata.deletion_timestamp = Some(Time(asked));
    stage.order(&handle, &wanted);
    stage.event("Killing").await;
    wanted.metadata.deletion_grace_period_seconds = Some(0);
    stage.order(&handle, &wanted);
    stage.gone().await;
    assert_eq!(stage.now().duration_since(asked), SignedDuration::ZERO);
    assert!(!stage.calls().contains(&"kill a.0 15".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_is_heeded_while_the_pod_ends() {
    let mut stage = Stage::new();
    stage.engine.ignore_term();
    let mut wanted = pod(json!({"terminationGracePeriodSeconds": 600,
        "containers": [{"name": "a", "image": "i"}]}));
    let handle = stage.begin(&wanted);
    stage.started("a.0").await;
    let asked = stage.now();
    wanted.metadata.deletion_timestamp = Some(Time(asked));
    stage.order(&handle, &wanted);
    stage.event("Killing").await;
    wanted.metadata.deletion_grace_period_seconds = Some(1);
    stage.order(&handle, &wanted);
    stage.gone().await;
    assert_eq!(stage.now().duration_since(asked), SignedDuration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_said_and_waited_for() {
    let mut stage = Stage::new();
    let env = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    let wanted = pod(json!({"containers": [{"name": "a", "image": "i", "env": env}]}));
    let handle = stage.begin(&wanted);
    let reason = |status: &PodStatus| {
        let state = status.container_statuses.as_ref()?[0].state.clone()?;
        state.waiting?.reason
    };
    stage.status(|status| reason(status).as_deref() == Some("CreateContainerConfigError")).await;
    stage.add_config_map("c", "k", "v");
    stage.order(&handle, &wanted);
    stage.started("a.0").await;
    assert!(stage.engine.environment("a.0").contains(&("X".to_owned(), "v".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_there_is_asked_for_again() {
    let mut stage = Stage::new();
    stage.images.lose();
    let begun = stage.now();
    let _handle = stage.begin(&pod(json!({"containers": [{"name": "a", "image": "i"}]})));
    let reason = |status: &PodStatus| {
        let state = status.container_statuses.as_ref()?[0].state.clone()?;
        state.waiting?.reason
    };
    stage.status(|status| reason(status).as_deref() == Some("ErrImagePull")).await;
    stage.status(|status| reason(status).as_deref() == Some("ImagePullBackOff")).await;
    stage.images.find();
    stage.started("a.0").await;
    assert_eq!(stage.now().duration_since(begun), SignedDuration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_pull_without_its_secret_is_tried_and_tried_again_once_the_secret_is_there() {
    let mut stage = Stage::new();
    stage.images.lose();
    let wanted = pod(json!({"imagePullSecrets": [{"name": "s"}],
        "containers": [{"name": "a", "image": "i"}]}));
    let handle = stage.begin(&wanted);
    stage.event("FailedToRetrieveImagePullSecret").await;
    stage.event("BackOff").await;
    let asked = stage.now();
    let config = r#"{"auths": {"r.example": {"username": "u", "password": "p"}}}"#;
    stage.images.find();
    stage.add_pull_secret("s", config);
    stage.order(&handle, &wanted);
    stage.started("a.0").await;
    assert_eq!(stage.now(), asked, "it does not wait for its next turn");
    let keychain = pontoon_image::Keychain::of_config_json(config.as_bytes()).unwrap();
    assert_eq!(stage.images.keychains(), [Default::default(), keychain]);
}

#[tokio::test(start_paused = true)]
async fn a_new_daemon_takes_over_without_a_restart() {
    let mut stage = Stage::new();
    let wanted =
        pod(json!({"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}));
    let handle = stage.begin(&wanted);
    stage.started("b.0").await;
    stage.status(|status| status.phase.as_deref() == Some("Running")).await;
    drop(handle);
    // While nobody looks, one of them ends.
    stage.engine.end_unseen("b.0", 3);
    let calls = stage.calls();
    let _handle = stage.take_over("u-1", &wanted);
    stage.started("b.1").await;
    let after = stage.calls();
    assert_eq!(after[calls.len()..], ["delete b.0", "create b.1", "start b.1"]);
    let status = stage.status(|status| status.container_statuses.as_ref().unwrap()[1].ready).await;
    let containers = status.container_statuses.unwrap();
    assert_eq!((containers[0].restart_count, containers[1].restart_count), (0, 1));
    let last = containers[1].last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(last.exit_code, 3);
    assert_eq!(stage.engine.state("a.0"), Some(RuntimeState::Running));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_fails_its_liveness_probe_is_restarted() {
    let mut stage = Stage::new();
    stage.engine.answer(1);
    let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 2});
    let handle = stage.begin(&pod(json!({"containers": [
        {"name": "a", "image": "i", "livenessProbe": probe}]})));
    stage.started("a.1").await;
    assert_eq!(stage.engine.state("a.0"), None, "the run before is removed");
    assert!(stage.calls().contains(&"kill a.0 15".to_owned()));
    assert!(stage.events().contains(&"Unhealthy".to_owned()));
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn a_readiness_probe_decides_about_ready_only() {
    let mut stage = Stage::new();
    stage.engine.answer(1);
    let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 1});
    let _handle = stage.begin(&pod(json!({"containers": [
        {"name": "a", "image": "i", "readinessProbe": probe}]})));
    let ready = |status: &PodStatus| status.container_statuses.as_ref().unwrap()[0].ready;
    let status = stage.status(|status| status.phase.as_deref() == Some("Running")).await;
    assert!(!ready(&status));
    stage.engine.answer(0);
    stage.status(ready).await;
    stage.engine.answer(1);
    stage.status(|status| !ready(status)).await;
    assert_eq!(stage.calls().iter().filter(|call| call.starts_with("kill")).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dead_sandbox_is_made_anew() {
    let mut stage = Stage::new();
    let handle = stage.begin(&pod(json!({"containers": [{"name": "a", "image": "i"}]})));
    stage.started("a.0").await;
    handle.notes.send(Note::SandboxDied).unwrap();
    stage.started("a.1").await;
    let calls = stage.calls();
    assert_eq!(calls.iter().filter(|call| *call == "sandbox u-1").count(), 2);
    assert!(stage.events().contains(&"SandboxChanged".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn hooks_run_after_the_start_and_before_the_end() {
    let mut stage = Stage::new();
    let lifecycle = json!({"postStart": {"exec": {"command": ["hello"]}},
        "preStop": {"exec": {"command": ["goodbye"]}}});
    let mut wanted =
        pod(json!({"containers": [{"name": "a", "image": "i", "lifecycle": lifecycle}]}));
    let handle = stage.begin(&wanted);
    stage.status(|status| status.container_statuses.as_ref().unwrap()[0].ready).await;
    wanted.metadata.deletion_timestamp = Some(Time(stage.now()));
    stage.order(&handle, &wanted);
    stage.gone().await;
    let calls = stage.calls();
    let at = |wanted: &str| calls.iter().position(|call| call == wanted).unwrap();
    assert!(at("start a.0") < at("run a.0 hello"));
    assert!(at("run a.0 goodbye") < at("kill a.0 15"));
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_cannot_be_made_is_tried_again() {
    let mut stage = Stage::new();
    stage.engine.refuse_sandboxes(2);
    let begun = stage.now();
    let _handle = stage.begin(&pod(json!({"containers": [{"name": "a", "image": "i"}]})));
    stage.started("a.0").await;
    assert_eq!(stage.now().duration_since(begun), SignedDuration::from_secs(3));
    assert!(stage.events().contains(&"FailedCreatePodSandBox".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_ended_keeps_its_status_and_not_its_sandbox() {
    let mut stage = Stage::new();
    let handle = stage.begin(&pod(json!({"restartPolicy": "Never",
        "containers": [{"name": "a", "image": "i"}]})));
    stage.started("a.0").await;
    stage.exit(&handle, "a.0", 0);
    stage.status(|status| status.phase.as_deref() == Some("Succeeded")).await;
    stage.called("remove u-1").await;
    assert!(!handle.is_finished());
    assert!(stage.pod_directory("u-1").join("record.json").exists());
}

#[tokio::test(start_paused = true)]
async fn root_is_refused_where_it_must_not_be() {
    let mut stage = Stage::new();
    let _handle = stage.begin(&pod(json!({"securityContext": {"runAsNonRoot": true},
        "containers": [{"name": "a", "image": "i"}]})));
    let message = |status: &PodStatus| {
        let state = status.container_statuses.as_ref()?[0].state.clone()?;
        state.waiting?.message
    };
    stage.status(|status| message(status).is_some_and(|m| m.contains("runAsNonRoot"))).await;
    assert!(!stage.calls().contains(&"start a.0".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn of_a_deleted_pod_that_was_never_here_only_the_end_is_told() {
    let mut stage = Stage::new();
    let mut wanted = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    wanted.metadata.deletion_timestamp = Some(Time(stage.now()));
    let _handle = stage.begin(&wanted);
    stage.gone().await;
    assert_eq!(stage.calls(), [""; 0]);
    assert!(stage.told_nothing_but_the_end());
}

#[tokio::test(start_paused = true)]
async fn the_echo_of_a_status_does_not_hasten_the_next_attempt() {
    let mut stage = Stage::new();
    stage.engine.refuse_sandboxes(1000);
    let wanted = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let handle = stage.begin(&wanted);
    stage.event("FailedCreatePodSandBox").await;
    let before = stage.engine.refusals_left();
    for _ in 0..10 {
        stage.order(&handle, &wanted);
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.engine.refusals_left(), before);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_ends_and_says_why_and_leaves_no_volumes() {
    let mut stage = Stage::new();
    let handle = stage.begin(&pod(json!({"volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "a", "image": "i"}]})));
    stage.started("a.0").await;
    let volume = stage.pod_directory("u-1").join("volumes/v");
    assert!(volume.exists());
    let failure = crate::pod::state::Failure { reason: "Evicted".into(), message: "full".into() };
    let note = Note::Evicted { failure, at_once: true };
    handle.notes.send(note).unwrap();
    stage.called("detach u-1").await;
    let status = stage.status(|status| status.phase.as_deref() == Some("Failed")).await;
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert!(!stage.calls().contains(&"kill a.0 15".to_owned()), "it was given no time");
    assert!(stage.events().contains(&"Evicted".to_owned()));
    assert!(!handle.is_finished(), "its object stays");
    let gone = || (!volume.exists()).then_some(());
    while gone().is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_corrected_image_waits_for_nothing() {
    let mut stage = Stage::new();
    stage.images.lose();
    let begun = stage.now();
    let handle = stage.begin(&pod(json!({"containers": [{"name": "a", "image": "wrong"}]})));
    stage.event("BackOff").await;
    stage.images.find();
    stage.order(&handle, &pod(json!({"containers": [{"name": "a", "image": "right"}]})));
    stage.started("a.0").await;
    assert_eq!(stage.now(), begun);
}
