//! The reconcilers together, in a simulated cluster: what they come to, and what holds on the way.

mod cluster;
mod daemons;
mod rollouts;
mod services;

use k8s_openapi::api::apps::v1::Deployment;
use pontoon_model::resource;
use serde_json::{Value, json};

use crate::key::Key;
use crate::simulator::World;

/// As many runs of each test, each with its own order of steps.
const SEEDS: u64 = 12;

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image}], "unknownField": {"kept": true}},
            },
        },
    })
}

fn key(name: &str) -> Key {
    Key::new(resource::DEPLOYMENTS, Some("default"), name)
}

fn deploy(world: &mut World, name: &str, replicas: i32) {
    world.create(resource::DEPLOYMENTS, Some("default"), deployment(name, replicas, "one"));
    world.settle(30);
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn read(world: &World, name: &str) -> Deployment {
    serde_json::from_value(world.api.objects[&key(name)].clone()).unwrap()
}

/// How many objects of a resource the API has.
fn count(world: &World, resource: &'static resource::Resource) -> usize {
    world.api.objects.keys().filter(|k| k.is(resource)).count()
}

fn condition(world: &World, name: &str, type_: &str) -> (String, String) {
    let status = read(world, name).status.unwrap();
    let conditions = status.conditions.unwrap();
    let found = conditions.iter().find(|c| c.type_.as_deref() == Some(type_)).unwrap();
    (found.status.clone().unwrap(), found.reason.clone().unwrap())
}
