//! Machines that fail, one and all; daemons that are killed; networks that part and heal.

use std::collections::BTreeSet;

use super::traffic::hello;
use crate::world::{World, cluster, text, wait};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Who leads, as a machine knows.
pub(super) fn leader(world: &World, at: &str) -> Option<String> {
    let status = world.json_or_null(at, &["status"]);
    status["leader"].as_str().filter(|name| *name != "none").map(str::to_owned)
}

/// The two of the three machines that are not this one.
pub(super) fn other_names(name: &str) -> [&'static str; 2] {
    let others: Vec<&str> = NAMES.into_iter().filter(|other| *other != name).collect();
    others.try_into().unwrap()
}

#[test]
fn a_lost_machine_is_not_missed_even_when_it_led() {
    let Some(world) = cluster(&NAMES) else { return };
    hello(&world);
    let lost = wait("a leader", || leader(&world, "a"));
    let left = other_names(&lost);
    world.kill(&lost);
    wait("writes go on", || {
        let done = world.on(left[0], &["run", "later", "--image", "pontoon.local/hello"]);
        (done.ok || done.err.contains("already exists")).then_some(())
    });
    wait("six pods run elsewhere", || {
        let pods = world.ready_pods(left[0], "hello");
        (pods.len() == 6 && pods.iter().all(|(_, node)| *node != lost)).then_some(())
    });
    let (asker, _) = world.ready_pods(left[0], "hello").remove(0);
    let answers = wait("only living pods are asked", || {
        let answers = world.answers(left[0], &asker, "http://hello/", 12);
        (answers.len() == 12).then_some(answers)
    });
    let living: BTreeSet<String> =
        world.ready_pods(left[0], "hello").into_iter().map(|(pod, _)| pod).collect();
    assert!(answers.iter().all(|pod| living.contains(pod)), "{answers:?} of {living:?}");
    world.start(&lost);
    world.wait_for_nodes(left[0], 3);
    wait("the machine that came back is a member again", || {
        (world.json_or_null(&lost, &["node", "ls"])["nodes"].as_array()?.len() == 3).then_some(())
    });
}

#[test]
fn after_a_power_cut_everything_comes_back() {
    let Some(world) = cluster(&NAMES) else { return };
    let before = hello(&world);
    let revision = world.json("a", &["status"])["revision"].as_u64().unwrap();
    for name in NAMES {
        world.kill(name);
    }
    for name in NAMES {
        world.start(name);
    }
    wait("the store answers", || {
        let now = world.json_or_null("a", &["status"])["revision"].as_u64()?;
        (now >= revision).then_some(())
    });
    world.wait_for_nodes("a", 3);
    let after = world.wait_for_pods("a", "hello", 6);
    let names = |pods: &[(String, String)]| pods.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "the same pods");
    let services = world.json("a", &["service", "ls"]);
    assert!(services["items"].as_array().unwrap().iter().any(|s| s["metadata"]["name"] == "hello"));
}

#[test]
fn containers_outlive_the_daemon() {
    let Some(world) = cluster(&["a"]) else { return };
    world.on("a", &["run", "hello", "--replicas", "2", "--port", "80:8080"]).expect_ok();
    world.wait_for_pods("a", "hello", 2);
    let started = |world: &World| -> Vec<(String, u64, String)> {
        let pods = world.json_or_null("a", &["ps"]);
        let mut found: Vec<_> = pods["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pod| {
                let status = &pod["status"]["containerStatuses"][0];
                let restarts = status["restartCount"].as_u64().unwrap_or(99);
                (
                    text(&pod["metadata"]["name"]),
                    restarts,
                    text(&status["state"]["running"]["startedAt"]),
                )
            })
            .collect();
        found.sort();
        found
    };
    let before = started(&world);
    let pids = |world: &World| world.inside("a", &["pgrep", "-f", "pontoon hello"]).out;
    let before_pids = pids(&world);
    assert_eq!(before_pids.lines().count(), 2, "{before_pids}");
    world.inside("a", &["pkill", "-KILL", "-f", "pontoon daemon"]).expect_ok();
    wait("the daemon is back", || world.on("a", &["status"]).ok.then_some(()));
    world.wait_for_nodes("a", 1);
    world.wait_for_pods("a", "hello", 2);
    assert_eq!(started(&world), before);
    assert_eq!(pids(&world), before_pids, "the same processes");
}
