//! A worker whose daemon starts while no manager is there: names and services go on.

use std::fs;
use std::path::Path;

use super::damage::kill_daemon;
use super::joining::tables;
use crate::world::{World, machines, text, wait};

const ASKER: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"asker"},"spec":{"nodeName":"b","containers":[
    {"name":"asker","image":"pontoon.local/hello","command":["/pontoon","hello","get","http://hello/","--times","100000000"]}]}}"#;

/// How many answers the asker had; its logs are what is below these directories.
fn answers(world: &World, uid: &str) -> usize {
    let logs = logs(&world.data_dir("b").join("pods").join(uid));
    logs.iter().map(|log| log.matches("\"pod\":\"hello-").count()).sum()
}

fn logs(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(logs(&path));
        } else if path.to_string_lossy().contains(".log") {
            found.extend(fs::read_to_string(path));
        }
    }
    found
}

#[test]
fn names_and_services_go_on_when_a_daemon_starts_without_managers() {
    let Some(world) = machines(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    world.on("a", &["node", "drain", "a"]).expect_ok();
    world.on("a", &["run", "hello", "--replicas", "4", "--port", "80:8080"]).expect_ok();
    let pods = world.wait_for_pods("a", "hello", 4);
    assert!(pods.iter().all(|(_, node)| node == "b"), "{pods:?}");
    let asker: serde_json::Value = serde_json::from_str(ASKER).unwrap();
    let (code, made) = world.ask("a", "POST", "/api/v1/namespaces/default/pods", &asker).unwrap();
    assert_eq!(code, 201, "{made}");
    let uid = text(&made["metadata"]["uid"]);
    wait("the service answers", || (answers(&world, &uid) > 2).then_some(()));
    let names = world.data_dir("b").join("names.json");
    wait("names are remembered", || {
        let text = fs::read_to_string(&names).unwrap_or_default();
        (text.matches(r#""ready":true"#).count() >= pods.len()).then_some(())
    });
    world.kill("a");
    kill_daemon(&world, "b");
    wait("the daemon is back", || world.on("b", &["status"]).ok.then_some(()));
    // What was asked before its name server was there has failed: each of these was asked anew, by name.
    let before = answers(&world, &uid);
    wait("the name and the service are answered", || {
        (answers(&world, &uid) > before + 5).then_some(())
    });
    // Power-off: no pod runs then, for a manager may have had them made elsewhere; the network is there.
    world.kill("b");
    world.start("b");
    wait("the node's own wires are there", || {
        let links = world.inside("b", &["ip", "-o", "link"]).out;
        (links.contains("pontoon-vx") && tables(&world, "b").len() == 2).then_some(())
    });
    assert_eq!(world.inside("b", &["pgrep", "-f", "pontoon hello"]).out, "");
    world.start("a");
    world.wait_for_nodes("a", 2);
    world.wait_for_pods("a", "hello", 4);
    world.on("b", &["leave"]).expect_ok();
    assert!(!names.exists(), "nothing is left");
}
