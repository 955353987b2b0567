//! Daemons that are down while their machines run: pods outlive them, and are moved only when they stay away.

use super::failure::{leader, other_names};
use super::load::Load;
use super::partition::assigned;
use super::traffic::hello;
use crate::world::{World, cluster, text, wait};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[test]
fn a_daemon_that_is_down_for_a_while_costs_no_pod() {
    let Some(world) = cluster(&NAMES) else { return };
    let pods = hello(&world);
    let names: Vec<String> = pods.into_iter().map(|(pod, _)| pod).collect();
    let led = wait("a leader", || leader(&world, "a"));
    for down in [led.as_str(), other_names(&led)[0]] {
        let at = other_names(down)[1];
        let pods = world.ready_pods(at, "hello");
        let (asker, _) = pods.iter().find(|(_, node)| node == at).unwrap();
        let before = world.containers(at, "hello");
        let processes = world.processes(down);
        assert_eq!(processes.len(), 2, "on {down}");
        let load = Load::new(&world, at, asker);
        let ((), gap) = load.during(|| {
            world.hold_daemon(down);
            wait("the node's state says why", || {
                (ready(&world, at, down)? == ("False".to_owned(), "NodeDaemonDown".to_owned()))
                    .then_some(())
            });
            wait("gossip says so", || (member(&world, at, down)? == "failed").then_some(()));
            // So long it was down: the whole time in which its pods get connections without a prober.
            wait("its pods get no new connections", || {
                (world.ready_pods(at, "hello").len() == 4).then_some(())
            });
            world.release_daemon(down);
            wait("it is a member again", || (member(&world, at, down)? == "alive").then_some(()));
            world.wait_for_nodes(at, 3);
            world.wait_for_pods(at, "hello", 6);
            world.wait_for_adoption(at, before.keys());
        });
        println!("{down}'s daemon was down: no write for {gap:?}");
        let (answered, failed) = load.asked();
        assert!(answered > 0 && failed == 0, "{answered} answers, {failed} failures");
        assert_eq!(world.containers(at, "hello"), before, "no container was restarted");
        assert_eq!(world.processes(down), processes, "the same processes");
        let after = world.ready_pods(at, "hello");
        assert_eq!(after.into_iter().map(|(pod, _)| pod).collect::<Vec<_>>(), names, "none moved");
    }
}

#[test]
fn a_daemon_that_stays_down_loses_its_pods_to_other_nodes() {
    let Some(world) = cluster(&NAMES) else { return };
    hello(&world);
    let led = wait("a leader", || leader(&world, "a"));
    let (down, at) = (other_names(&led)[0], led.as_str());
    world.hold_daemon(down);
    wait("six pods run elsewhere", || {
        let pods = world.ready_pods(at, "hello");
        (pods.len() == 6 && pods.iter().all(|(_, node)| node != down)).then_some(())
    });
    assert_eq!(world.processes(down).len(), 2, "nobody stops them without a daemon");
    world.release_daemon(down);
    world.wait_for_nodes(at, 3);
    wait("its daemon has stopped what was moved", || {
        (world.processes(down).len() == assigned(&world, at, down)?).then_some(())
    });
    assert_eq!(world.ready_pods(at, "hello").len(), 6);
}

/// Status and reason of a node's Ready condition.
fn ready(world: &World, at: &str, node: &str) -> Option<(String, String)> {
    let path = format!("/api/v1/nodes/{node}");
    let (_, node) = world.ask(at, "GET", &path, &serde_json::Value::Null).ok()?;
    let mut conditions = node["status"]["conditions"].as_array()?.iter();
    let ready = conditions.find(|c| c["type"] == "Ready")?;
    Some((text(&ready["status"]), text(&ready["reason"])))
}

/// A member's status as gossip has it at a machine.
pub(super) fn member(world: &World, at: &str, name: &str) -> Option<String> {
    let members = world.json_or_null(at, &["members"]);
    let found = members["members"].as_array()?.iter().find(|member| member["name"] == name)?;
    Some(text(&found["status"]))
}
