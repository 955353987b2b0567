//! Pods, names and services across three nodes.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{World, cluster, text, wait};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Six pods of the built-in image with a service.
pub(super) fn hello(world: &World) -> Vec<(String, String)> {
    world.on("a", &["run", "hello", "--replicas", "6", "--port", "80:8080"]).expect_ok();
    world.wait_for_pods("a", "hello", 6)
}

#[test]
fn six_pods_spread_over_three_nodes_and_answer_in_turn() {
    let Some(world) = cluster(&NAMES) else { return };
    let pods = hello(&world);
    let mut on: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, node) in &pods {
        *on.entry(node).or_default() += 1;
    }
    assert_eq!(on.into_iter().collect::<Vec<_>>(), [("a", 2), ("b", 2), ("c", 2)]);
    for asker in one_pod_a_node(&pods) {
        let answers = wait("all six answer", || {
            let answers = world.answers("a", &asker, "http://hello/", 18);
            let all = answers.iter().collect::<BTreeSet<_>>().len() == 6;
            (answers.len() == 18 && all).then_some(answers)
        });
        assert_eq!(answers[..6].iter().collect::<BTreeSet<_>>().len(), 6, "{answers:?}");
        assert_eq!(answers[..6], answers[6..12], "the turn is not strict: {answers:?}");
        assert_eq!(answers[..6], answers[12..], "the turn is not strict: {answers:?}");
    }
    every_pod_reaches_every_pod(&world, &pods);
    a_node_port_answers_on_every_node(&world);
}

fn one_pod_a_node(pods: &[(String, String)]) -> Vec<String> {
    let by_node: BTreeMap<&String, &String> = pods.iter().map(|(pod, node)| (node, pod)).collect();
    by_node.into_values().cloned().collect()
}

fn every_pod_reaches_every_pod(world: &World, pods: &[(String, String)]) {
    let all = world.json("a", &["ps"]);
    let addresses: Vec<(String, String)> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| (text(&pod["metadata"]["name"]), text(&pod["status"]["podIP"])))
        .collect();
    for asker in one_pod_a_node(pods) {
        for (name, address) in &addresses {
            let by_address = world.answers("a", &asker, &format!("http://{address}:8080/"), 1);
            assert_eq!(by_address, [name.as_str()], "{asker} asks {address}");
            let dashed = address.replace('.', "-");
            let by_name = world.answers(
                "a",
                &asker,
                &format!("http://{dashed}.default.pod.cluster.local:8080/"),
                1,
            );
            assert_eq!(by_name, [name.as_str()], "{asker} asks {name} by name");
        }
        for name in ["hello.default", "hello.default.svc", "hello.default.svc.cluster.local"] {
            let answers = world.answers("a", &asker, &format!("http://{name}/"), 1);
            assert_eq!(answers.len(), 1, "{asker} asks {name}");
        }
    }
}

fn a_node_port_answers_on_every_node(world: &World) {
    world.on("a", &["run", "open", "--port", "80:8080", "--node-port"]).expect_ok();
    world.wait_for_pods("a", "open", 1);
    let services = world.json("a", &["service", "ls"]);
    let open = services["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["metadata"]["name"] == "open")
        .unwrap();
    let port = open["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let nodes = world.json("a", &["node", "ls"]);
    for node in nodes["nodes"].as_array().unwrap() {
        let url = format!("http://{}:{port}/", text(&node["address"]));
        for machine in NAMES {
            wait(&format!("{machine} reaches {url}"), || {
                let program = crate::world::program().to_str().unwrap();
                let done = world.inside(machine, &[program, "hello", "get", &url]);
                done.out.contains("\"pod\":\"open-").then_some(())
            });
        }
    }
}
