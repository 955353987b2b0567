//! Certificates that near their end are renewed with no hand: by the only manager for itself, and by a worker
//! who asks a manager with the old one.

use std::fs;
use std::io;
use std::sync::Arc;

use pontoon_store::{BoxedStream, Member, Range, Read, Store, StoreConfig, Transport};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, date_time_ymd};
use serde_json::Value;

use crate::world::{World, machines, text, wait};

/// Nobody is there to be connected to.
struct Alone;

#[async_trait::async_trait]
impl Transport for Alone {
    async fn connect(&self, _: &Member) -> io::Result<BoxedStream> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

#[test]
fn old_certificates_are_renewed_by_themselves() {
    let Some(world) = machines(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    for machine in ["b", "a"] {
        world.kill(machine);
    }
    let authority = authority(&world, "a");
    let aged = ["a", "b"].map(|machine| {
        let mut node = membership(&world, machine);
        age(&mut node, &authority);
        fs::write(world.data_dir(machine).join("node.json"), node.to_string()).unwrap();
        text(&node["credentials"]["certificate_pem"])
    });
    for (machine, old) in ["a", "b"].into_iter().zip(aged) {
        world.start(machine);
        wait(&format!("{machine}'s certificate is renewed"), || {
            let node = membership(&world, machine);
            (text(&node["credentials"]["certificate_pem"]) != old).then_some(())
        });
    }
    world.wait_for_nodes("a", 2);
    world.on("a", &["run", "hello", "--replicas", "2"]).expect_ok();
    let pods = world.wait_for_pods("a", "hello", 2);
    let (on_b, _) = pods.iter().find(|(_, node)| node == "b").unwrap();
    world.on("a", &["exec", on_b, "--", "/pontoon", "--version"]).expect_ok();
}

#[test]
fn a_certificate_that_expired_while_its_node_was_off_is_replaced_for_a_while() {
    let Some(world) = machines(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    for machine in ["b", "a"] {
        world.kill(machine);
    }
    let authority = authority(&world, "a");
    let expire = |machine: &str, days: i64| {
        let mut node = membership(&world, machine);
        let today = jiff::Zoned::now().date();
        let day = |days: i64| {
            let date = today.saturating_sub(jiff::Span::new().days(days));
            let (month, day) =
                (u8::try_from(date.month()).unwrap(), u8::try_from(date.day()).unwrap());
            date_time_ymd(i32::from(date.year()), month, day)
        };
        certify(&mut node, &authority, |params| {
            (params.not_before, params.not_after) = (day(days + 90), day(days));
        });
        fs::write(world.data_dir(machine).join("node.json"), node.to_string()).unwrap();
        text(&node["credentials"]["certificate_pem"])
    };
    let is_renewed = |machine: &str, old: &str| {
        wait(&format!("{machine}'s certificate is replaced"), || {
            let node = membership(&world, machine);
            (text(&node["credentials"]["certificate_pem"]) != old).then_some(())
        });
    };
    // A manager holds the authority itself; however long it was off.
    for (machine, days) in [("a", 400), ("b", 20)] {
        let old = expire(machine, days);
        world.start(machine);
        is_renewed(machine, &old);
    }
    world.wait_for_nodes("a", 2);
    world.kill("b");
    expire("b", 40);
    world.start("b");
    let problem = wait("the node says that it is too late", || {
        let status = world.json_or_null("b", &["status"]);
        let told = status["problem"].as_str().map(str::to_owned);
        told.filter(|problem| problem.contains("expired"))
    });
    assert!(problem.contains("pontoon leave --force"), "{problem}");
    wait("it is removed", || world.on("a", &["node", "rm", "b", "--force"]).ok.then_some(()));
    world.on("b", &["leave", "--force"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
}

fn membership(world: &World, machine: &str) -> Value {
    let bytes = fs::read(world.data_dir(machine).join("node.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The cluster's authority, from the state of a manager that is switched off.
fn authority(world: &World, machine: &str) -> Value {
    let number = membership(world, machine)["store"].as_u64().unwrap();
    let config = StoreConfig::new(world.data_dir(machine).join("store"), number);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(config, Arc::new(Alone)).await.unwrap();
        let found = store.range(Range::key("/pontoon/cluster"), Read::Linearizable).await.unwrap();
        let cluster: Value = serde_json::from_slice(&found.kvs[0].value).unwrap();
        store.shutdown().await;
        cluster["authority"].clone()
    })
}

/// Gives a membership a certificate of the same holder with most of its life behind it (until the year 2046).
fn age(node: &mut Value, authority: &Value) {
    certify(node, authority, |params| {
        (params.not_before, params.not_after) =
            (date_time_ymd(1980, 1, 1), date_time_ymd(2046, 1, 1));
    });
}

/// Gives a membership another certificate of the same holder.
fn certify(node: &mut Value, authority: &Value, set: impl FnOnce(&mut CertificateParams)) {
    let key = KeyPair::from_pem(&text(&authority["key_pem"])).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&text(&authority["certificate_pem"]), key).unwrap();
    let (name, role) = (text(&node["node"]), text(&node["role"]));
    let names = match role.as_str() {
        "manager" => {
            vec![format!("{name}.node.pontoon.internal"), "manager.pontoon.internal".to_owned()]
        }
        _ => vec![format!("{name}.node.pontoon.internal")],
    };
    let mut params = CertificateParams::new(names).unwrap();
    let number = format!("{:x}", node["member"].as_u64().unwrap());
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, text(&node["cluster"]));
    params.distinguished_name.push(DnType::OrganizationalUnitName, format!("pontoon-{role}"));
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), number);
    set(&mut params);
    let key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&key, &issuer).unwrap();
    node["credentials"]["certificate_pem"] = signed.pem().into();
    node["credentials"]["key_pem"] = key.serialize_pem().into();
}
