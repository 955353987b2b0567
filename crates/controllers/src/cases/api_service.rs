//! Which managers the service of the cluster's API leads to.

use pontoon_model::{names, resource};
use serde_json::{Value, json};

use super::{now, put};
use crate::api_service::reconcile;
use crate::cache::{Cache, Liveness};
use crate::key::Key;
use crate::plan::Action;

const ADDRESS: &str = "10.96.0.1";

fn manager(cache: &mut Cache, name: &str, address: &str) {
    let node = json!({
        "metadata": {"name": name, "uid": name, "labels": {names::LABEL_CONTROL_PLANE: ""}},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    });
    put(cache, resource::NODES, node, 1);
}

/// Two managers, of whom nothing is known, and a service with these endpoints.
fn cache(cluster_ip: &str, told: Option<&[&str]>) -> Cache {
    let mut cache = Cache::default();
    manager(&mut cache, "a", "192.0.2.1");
    manager(&mut cache, "b", "192.0.2.2");
    let metadata = json!({"name": "kubernetes", "namespace": "default", "uid": "k"});
    let service = json!({"metadata": metadata, "spec": {"clusterIP": cluster_ip}});
    put(&mut cache, resource::SERVICES, service, 2);
    if let Some(told) = told {
        let addresses: Vec<Value> = told.iter().map(|ip| json!({"ip": ip})).collect();
        let subsets = json!([{"addresses": addresses,
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}]);
        let endpoints = json!({"metadata": metadata, "subsets": subsets});
        put(&mut cache, resource::ENDPOINTS, endpoints, 3);
    }
    cache
}

/// The addresses that are written; none when nothing is.
fn written(cache: &Cache) -> Option<Vec<String>> {
    let key = Key::new(resource::SERVICES, Some("default"), "kubernetes");
    let plan = reconcile(now(), &key, cache);
    let (Action::Create { body, .. } | Action::Update { body, .. }) = plan.actions.first()? else {
        panic!("{plan:?}")
    };
    let addresses = body["subsets"][0]["addresses"].as_array().unwrap();
    Some(addresses.iter().map(|a| a["ip"].as_str().unwrap().to_owned()).collect())
}

#[test]
fn who_answers_is_told() {
    let mut cache = cache(ADDRESS, None);
    assert_eq!(written(&cache), None, "nobody is known to answer");
    cache.set_liveness("b", Liveness::Alive);
    assert_eq!(written(&cache).unwrap(), ["192.0.2.2"]);
}

#[test]
fn what_a_new_leader_does_not_know_stays_as_it_was() {
    let mut cache = cache(ADDRESS, Some(&["192.0.2.2"]));
    assert_eq!(written(&cache), None);
    cache.set_liveness("a", Liveness::Alive);
    assert_eq!(written(&cache).unwrap(), ["192.0.2.1", "192.0.2.2"]);
    cache.set_liveness("b", Liveness::Lost);
    assert_eq!(written(&cache).unwrap(), ["192.0.2.1"]);
}

#[test]
fn a_service_of_a_user_is_left_alone() {
    for cluster_ip in ["10.96.0.77", "None"] {
        let mut cache = cache(cluster_ip, Some(&["198.51.100.1"]));
        cache.set_liveness("a", Liveness::Alive);
        assert_eq!(written(&cache), None, "{cluster_ip}");
    }
}
