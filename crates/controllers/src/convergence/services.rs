//! Endpoints and slices follow pods and nodes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pontoon_model::resource;
use serde_json::json;

use super::{SEEDS, count, deploy, image, key};
use crate::key::Key;
use crate::settings::SERVING_SECONDS;
use crate::simulator::World;
use crate::{Liveness, NOT_READY_SECONDS, Propagation, pod_state};

fn service(world: &mut World) {
    world.create(
        resource::SERVICES,
        Some("default"),
        json!({
            "metadata": {"name": "web", "labels": {"team": "x"}},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.7",
                     "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }),
    );
}

fn all<K: serde::de::DeserializeOwned>(world: &World, r: &'static resource::Resource) -> Vec<K> {
    let objects = world.api.objects.iter().filter(|(k, _)| k.is(r));
    objects.map(|(_, o)| serde_json::from_value(o.clone()).unwrap()).collect()
}

/// The addresses that get connections, by slices and by Endpoints, which must agree.
fn ready(world: &World) -> BTreeSet<String> {
    let slices: Vec<EndpointSlice> = all(world, resource::ENDPOINT_SLICES);
    let endpoints = slices.iter().flat_map(|s| s.endpoints.iter().flatten());
    let ready = endpoints.filter(|e| e.conditions.as_ref().unwrap().ready == Some(true));
    let of_slices: BTreeSet<String> =
        ready.map(|e| e.target_ref.clone().unwrap().uid.unwrap()).collect();
    let classic: Vec<Endpoints> = all(world, resource::ENDPOINTS);
    let subsets = classic.iter().flat_map(|e| e.subsets.iter().flatten());
    let addresses = subsets.flat_map(|s| s.addresses.iter().flatten());
    let of_classic = addresses.map(|a| a.target_ref.clone().unwrap().uid.unwrap()).collect();
    assert_eq!(of_slices, of_classic);
    of_slices
}

fn ready_pods(world: &World) -> BTreeSet<String> {
    let pods = world.pods();
    let ready = pods.iter().filter(|p| pod_state::is_active(p) && pod_state::is_ready(p));
    ready.map(|p| p.metadata.uid.clone().unwrap()).collect()
}

#[test]
fn endpoints_are_the_ready_pods() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 3);
        service(&mut world);
        deploy(&mut world, "web", 5);
        assert_eq!(ready(&world).len(), 5);
        assert_eq!(ready(&world), ready_pods(&world));
        world.patch(&key("web"), image("two"));
        world.settle(30);
        assert_eq!(ready(&world), ready_pods(&world));
        let slices: Vec<EndpointSlice> = all(&world, resource::ENDPOINT_SLICES);
        let labels = slices[0].metadata.labels.as_ref().unwrap();
        assert_eq!(labels["kubernetes.io/service-name"], "web");
        assert_eq!(labels["team"], "x");
        assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
        world
            .delete(&Key::new(resource::SERVICES, Some("default"), "web"), Propagation::Background);
        world.settle(30);
        assert_eq!(count(&world, resource::ENDPOINT_SLICES), 0);
        assert_eq!(count(&world, resource::ENDPOINTS), 0);
    }
}

#[test]
fn pods_of_a_dead_node_are_left_at_once() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 3);
        world.cache.settings.unreachable_seconds = 2;
        service(&mut world);
        deploy(&mut world, "web", 6);
        world.set_alive("b", false);
        // No time goes by: neither a taint's toleration nor a grace period has ended.
        world.settle(0);
        assert_eq!(ready(&world).len(), 4);
        world.set_alive("b", true);
        world.settle(0);
        assert_eq!(ready(&world).len(), 6, "what was not evicted is ready again");
    }
}

#[test]
fn pods_without_their_agent_serve_on_for_a_while_and_are_kept_for_longer() {
    for (seed, liveness) in
        (0..SEEDS).flat_map(|seed| [Liveness::DaemonDown, Liveness::AgentSilent].map(|l| (seed, l)))
    {
        let mut world = World::with_nodes(seed, 3);
        service(&mut world);
        deploy(&mut world, "web", 6);
        let before: BTreeSet<String> = ready(&world);
        world.set_liveness("b", liveness);
        world.settle(SERVING_SECONDS - 1);
        assert_eq!(ready(&world), before, "they are served by their containers");
        world.settle(2);
        assert_eq!(ready(&world).len(), 4, "nobody probes them any more");
        world.settle(NOT_READY_SECONDS - SERVING_SECONDS - 3);
        assert_eq!(world.pods().len(), 6, "none is evicted");
        world.set_liveness("b", Liveness::Alive);
        world.settle(1);
        assert_eq!(ready(&world), before, "the same pods, ready again");
        world.set_liveness("b", liveness);
        world.settle(NOT_READY_SECONDS + 2);
        let nodes = world.ready_by_node();
        assert_eq!((nodes["a"], nodes["c"], nodes.get("b")), (3, 3, None), "they were moved");
        world.set_liveness("b", Liveness::Lost);
        world.settle(1);
        assert_eq!(world.pods().len(), 6, "what waited for the agent is gone with its node");
    }
}

#[test]
fn large_services_have_slices_that_change_one_at_a_time() {
    let mut world = World::with_nodes(3, 3);
    service(&mut world);
    deploy(&mut world, "web", 150);
    let before: Vec<EndpointSlice> = all(&world, resource::ENDPOINT_SLICES);
    let sizes: Vec<usize> = before.iter().map(|s| s.endpoints.as_ref().unwrap().len()).collect();
    assert!(sizes.iter().all(|n| *n <= 100) && sizes.iter().sum::<usize>() == 150, "{sizes:?}");
    let pod = world.api.pods().next().unwrap().0.clone();
    world.delete(&pod, Propagation::Background);
    world.settle(30);
    let after: Vec<EndpointSlice> = all(&world, resource::ENDPOINT_SLICES);
    let same = before.iter().filter(|s| after.contains(s)).count();
    assert!(same + 2 >= before.len(), "{same} of {} are as they were", before.len());
    assert_eq!(ready(&world), ready_pods(&world));
}

/// A service without a selector, with Endpoints that a user wrote.
fn outside(world: &mut World, addresses: &[&str]) -> Key {
    let service = json!({
        "metadata": {"name": "outside"},
        "spec": {"clusterIP": "10.96.0.8", "ports": [{"port": 80}]},
    });
    world.create(resource::SERVICES, Some("default"), service);
    let addresses: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let mine = json!({"metadata": {"name": "outside"},
                      "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]});
    world.create(resource::ENDPOINTS, Some("default"), mine);
    world.settle(10);
    Key::new(resource::ENDPOINTS, Some("default"), "outside")
}

fn mirrored(world: &World) -> Vec<(String, Vec<String>)> {
    let slices: Vec<EndpointSlice> = all(world, resource::ENDPOINT_SLICES);
    let addresses = |s: &EndpointSlice| {
        s.endpoints.iter().flatten().flat_map(|e| e.addresses.clone()).collect()
    };
    let mut mirrored: Vec<_> =
        slices.iter().map(|s| (s.address_type.clone(), addresses(s))).collect();
    mirrored.sort();
    mirrored
}

#[test]
fn endpoints_of_users_are_left_alone_and_mirrored() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 1);
        let mine = outside(&mut world, &["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
        let kept: Vec<Endpoints> = all(&world, resource::ENDPOINTS);
        let subset = &kept[0].subsets.as_ref().unwrap()[0];
        assert_eq!(subset.addresses.as_ref().unwrap()[0].ip, "192.0.2.1");
        let v4 = vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()];
        let v6 = ("IPv6".to_owned(), vec!["2001:db8::1".to_owned()]);
        assert_eq!(mirrored(&world), [("IPv4".to_owned(), v4), v6]);
        let slices: Vec<EndpointSlice> = all(&world, resource::ENDPOINT_SLICES);
        assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(80));

        let fewer =
            json!({"subsets": [{"addresses": [{"ip": "192.0.2.2"}], "ports": [{"port": 80}]}]});
        world.patch(&mine, fewer);
        world.settle(10);
        assert_eq!(mirrored(&world), [("IPv4".to_owned(), vec!["192.0.2.2".to_owned()])]);
        world.delete(&mine, Propagation::Background);
        world.settle(30);
        assert_eq!(mirrored(&world), []);
    }
}

#[test]
fn endpoints_that_say_so_are_not_mirrored() {
    let mut world = World::with_nodes(3, 1);
    let mine = outside(&mut world, &["192.0.2.1"]);
    let skip = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}});
    world.patch(&mine, skip);
    world.settle(10);
    assert_eq!(mirrored(&world), []);
}

#[test]
fn the_api_has_a_service_that_leads_to_the_managers_that_answer() {
    for seed in 0..SEEDS {
        let mut world = World::with_nodes(seed, 1);
        let kubernetes = |r| Key::new(r, Some("default"), "kubernetes");
        assert!(!world.api.objects.contains_key(&kubernetes(resource::SERVICES)), "a worker");
        let manager = |world: &mut World, name: &str, address: &str| {
            let node = json!({
                "metadata": {"name": name, "labels": {"node-role.kubernetes.io/control-plane": ""}},
                "status": {"addresses": [{"type": "InternalIP", "address": address}],
                           "conditions": [{"type": "Ready", "status": "True"}]},
            });
            world.create(resource::NODES, None, node);
            world.set_alive(name, true);
            world.settle(30);
        };
        let addresses = |world: &World| {
            let subset = &world.api.objects[&kubernetes(resource::ENDPOINTS)]["subsets"][0];
            assert_eq!(subset["ports"][0]["port"], 6443);
            let listed = subset["addresses"].as_array().unwrap().iter();
            let of_classic: Vec<String> =
                listed.map(|a| a["ip"].as_str().unwrap().to_owned()).collect();
            let slices: Vec<EndpointSlice> = all(world, resource::ENDPOINT_SLICES);
            let of_slices = slices.into_iter().flat_map(|s| s.endpoints.unwrap_or_default());
            assert_eq!(of_slices.flat_map(|e| e.addresses).collect::<Vec<_>>(), of_classic);
            of_classic
        };
        manager(&mut world, "m1", "192.0.2.9");
        assert_eq!(addresses(&world), ["192.0.2.9"]);
        let service = &world.api.objects[&kubernetes(resource::SERVICES)];
        assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
        manager(&mut world, "m2", "192.0.2.10");
        assert_eq!(addresses(&world), ["192.0.2.9", "192.0.2.10"]);
        world.set_liveness("m1", Liveness::DaemonDown);
        world.settle(30);
        assert_eq!(addresses(&world), ["192.0.2.10"]);
        world.set_alive("m1", true);
        world.delete(&kubernetes(resource::ENDPOINTS), Propagation::Background);
        world.delete(&kubernetes(resource::SERVICES), Propagation::Background);
        world.settle(30);
        assert_eq!(addresses(&world), ["192.0.2.9", "192.0.2.10"]);
        assert!(world.api.objects.contains_key(&kubernetes(resource::SERVICES)));
    }
}
