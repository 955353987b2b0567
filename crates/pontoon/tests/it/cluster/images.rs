//! Images that one node has and others need.

use serde_json::{Value, json};

use super::kubectl::{BUSYBOX, box_archive, is_installed};
use crate::world::{World, machines, text, wait};

#[test]
fn a_node_that_lacks_an_image_has_it_from_one_that_has_it() {
    if !is_installed(BUSYBOX) {
        return;
    }
    let Some(world) = machines(&["a", "b", "c"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.join("c", "a", "manager").expect_ok();
    world.wait_for_nodes("a", 3);
    let archive = box_archive(&world);
    world
        .on("a", &["image", "import", &archive, "box:1", "--entrypoint", "/bin/sleep"])
        .expect_ok();
    let imported = digest(&world, "a").unwrap();
    for node in ["b", "c"] {
        assert_eq!(digest(&world, node), None, "{node} has it before anybody asked");
        run_on(&world, node);
    }
    for node in ["b", "c"] {
        let status = wait(&format!("the pod runs on {node}"), || running(&world, node));
        let id = text(&status["imageID"]);
        assert!(id.ends_with(&imported), "{node} runs {id}, imported was {imported}");
        assert_eq!(digest(&world, node).as_ref(), Some(&imported), "{node} has it now");
    }
    the_built_in_image_comes_back(&world);
}

/// One that was removed is made again from the program; nobody is asked for it, nor for what is not built in.
fn the_built_in_image_comes_back(world: &World) {
    world.on("b", &["image", "rm", "pontoon.local/hello"]).expect_ok();
    let pod = |name: &str, image: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": { "nodeName": "b", "containers": [
                { "name": "main", "image": image, "imagePullPolicy": "Never" }] },
        })
    };
    let path = "/api/v1/namespaces/default/pods";
    for pod in [pod("on-b-again", "pontoon.local/hello"), pod("on-b-never", "pontoon.local/no")] {
        let (code, answer) = world.ask("a", "POST", path, &pod).unwrap();
        assert_eq!(code, 201, "{answer}");
    }
    wait("the built-in image runs again", || running(world, "b-again"));
    let why = wait("what is not built in is said to be not", || {
        let (_, pod) = world.ask("a", "GET", &format!("{path}/on-b-never"), &Value::Null).ok()?;
        let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        waiting["message"].as_str().map(str::to_owned)
    });
    assert!(why.contains("only pontoon.local/hello:latest is there"), "{why}");
}

/// The digest of box:1 at a machine, if it has that image.
fn digest(world: &World, machine: &str) -> Option<String> {
    let images = world.json(machine, &["image", "ls"]);
    let mut images = images["images"].as_array().unwrap().iter();
    let found = images.find(|image| text(&image["reference"]).ends_with("box:1"))?;
    Some(text(&found["digest"]))
}

fn run_on(world: &World, node: &str) {
    let container = json!({ "name": "main", "image": "box:1", "args": ["1000"] });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": format!("on-{node}") },
        "spec": { "nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container] },
    });
    let (code, answer) = world.ask("a", "POST", "/api/v1/namespaces/default/pods", &pod).unwrap();
    assert_eq!(code, 201, "{answer}");
}

/// The status of the pod's container, once it runs.
fn running(world: &World, node: &str) -> Option<Value> {
    let path = format!("/api/v1/namespaces/default/pods/on-{node}");
    let (_, pod) = world.ask("a", "GET", &path, &Value::Null).ok()?;
    let status = pod["status"]["containerStatuses"][0].clone();
    status["state"]["running"].is_object().then_some(status)
}
