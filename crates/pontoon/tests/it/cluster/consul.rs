//! Consul's API of real daemons: what is written at one manager is read at another, and the cluster's own services are
//! in the catalog, with the readiness of their pods.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use serde_json::Value;

use crate::world::{
    Done, World, cluster, has_kubectl, in_network, is_ready, machines_with, skip, text, wait,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A request to the API of a machine, as that machine makes it.
fn curl(world: &World, at: &str, words: &[&str]) -> Done {
    world.inside(at, &[&["curl", "-s", "--max-time", "90"], words].concat())
}

fn get(world: &World, at: &str, path: &str) -> Value {
    let done = curl(world, at, &[&format!("127.0.0.1:8500/v1/{path}")]);
    serde_json::from_str(&done.out).unwrap_or(Value::Null)
}

#[track_caller]
fn put(world: &World, at: &str, path: &str, body: &str) -> String {
    let url = format!("127.0.0.1:8500/v1/{path}");
    curl(world, at, &["-X", "PUT", "-d", body, &url]).expect_ok().out
}

/// Three managers whose API answers, with all nodes in the catalog.
fn serving() -> Option<World> {
    let world = cluster(&NAMES)?;
    for name in NAMES {
        wait(&format!("{name} serves"), || (nodes(&world, name) == NAMES).then_some(()));
    }
    Some(world)
}

fn nodes(world: &World, at: &str) -> Vec<String> {
    let nodes = get(world, at, "catalog/nodes");
    nodes.as_array().into_iter().flatten().map(|node| text(&node["Node"])).collect()
}

#[test]
fn keys_locks_and_waits_across_managers() {
    let Some(world) = serving() else { return };
    the_transcript(&world);
    let leaders: Vec<Value> = NAMES.map(|name| get(&world, name, "status/leader")).into();
    assert!(leaders[0].is_string() && leaders.iter().all(|leader| *leader == leaders[0]));
    assert_eq!(get(&world, "b", "status/peers").as_array().unwrap().len(), 3);
    a_lock(&world);
    a_wait(&world);
    a_name(&world);
    the_command(&world);
}

fn the_transcript(world: &World) {
    let put = curl(world, "a", &["-X", "PUT", "-d", "value1", "127.0.0.1:8500/v1/kv/group1/key1"]);
    assert_eq!(put.expect_ok().out.trim_end(), "true");
    let got = curl(world, "b", &["127.0.0.1:8500/v1/kv/group1/key1"]).expect_ok().out;
    let json: Value = serde_json::from_str(&got).unwrap();
    let index = json[0]["CreateIndex"].as_u64().unwrap();
    assert_eq!(
        got.trim_end(),
        format!(
            r#"[{{"LockIndex":0,"Key":"group1/key1","Flags":0,"Value":"dmFsdWUx","CreateIndex":{index},"ModifyIndex":{index}}}]"#
        )
    );
}

fn session(world: &World, at: &str) -> String {
    let made = put(world, at, "session/create", r#"{"LockDelay": "0s"}"#);
    text(&serde_json::from_str::<Value>(&made).unwrap_or_else(|_| panic!("{made}"))["ID"])
}

fn a_lock(world: &World) {
    let (first, second) = (session(world, "a"), session(world, "c"));
    let acquire = |at: &str, session: &str| {
        put(world, at, &format!("kv/lock?acquire={session}"), at).trim_end() == "true"
    };
    assert!(acquire("b", &first));
    assert!(!acquire("c", &second), "it is locked");
    assert_eq!(text(&get(world, "c", "kv/lock")[0]["Session"]), first);
    put(world, "b", &format!("session/destroy/{first}"), "");
    assert!(acquire("c", &second));
    let held = get(world, "a", "kv/lock");
    assert_eq!((text(&held[0]["Session"]), held[0]["LockIndex"].as_u64()), (second, Some(2)));
}

/// A query that waits at one manager is woken by what is written at another.
fn a_wait(world: &World) {
    put(world, "a", "kv/awaited", "old");
    let found = wait("b has it", || get(world, "b", "kv/awaited")[0]["ModifyIndex"].as_u64());
    std::thread::scope(|scope| {
        let path = format!("kv/awaited?index={found}&wait=80s");
        let waiting = scope.spawn(move || get(world, "b", &path));
        wait("it waits", || {
            let words = ["ss", "-Htn", "state", "established", "dport", "=", ":8500"];
            (!world.inside("b", &words).out.trim().is_empty()).then_some(())
        });
        put(world, "c", "kv/awaited", "new");
        let got = waiting.join().unwrap();
        assert_eq!(got[0]["Value"], "bmV3", "{got}");
    });
}

/// A service that is registered at one manager has a name at another.
fn a_name(world: &World) {
    let body =
        r#"{"Node": "outside", "Address": "192.0.2.7", "Service": {"Service": "web", "Port": 80}}"#;
    assert_eq!(put(world, "a", "catalog/register", body).trim_end(), "true");
    wait("c answers for it", || {
        (lookup(world, "c", "web.service.consul.") == ["192.0.2.7"]).then_some(())
    });
    let own = text(&world.json("b", &["status"])["address"]);
    wait("the nodes have names", || {
        (lookup(world, "a", "b.node.consul.") == [&*own]).then_some(())
    });
}

/// The addresses that DNS at a machine has for a name, as that machine asks.
fn lookup(world: &World, at: &str, name: &str) -> Vec<String> {
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let question = question.to_vec().unwrap();
    let answer = in_network(world.pid(at), move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(&question, "127.0.0.1:8600").unwrap();
        let mut buffer = [0; 512];
        // Nobody may listen yet.
        let length = socket.recv(&mut buffer).unwrap_or(0);
        buffer[..length].to_vec()
    });
    let answer = Message::from_vec(&answer).ok().into_iter();
    answer.flat_map(|answer| answer.answers).map(|record| record.data.to_string()).collect()
}

/// The `consul` command of Debian 11, where its package was unpacked; a word where it was not. Never a reason to fail:
/// no present system has it.
fn consul_command() -> Option<PathBuf> {
    let unpacked = std::env::var_os("DEB11").map_or_else(|| "/tmp/deb11".into(), PathBuf::from);
    let all = ["consul".into(), unpacked.join("root/usr/bin/consul")];
    let is_it = |path: &Path| {
        let version = Command::new(path).arg("version").output();
        version.is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains("Consul 1.8.7"))
    };
    let found = all.into_iter().find(|path| is_it(path));
    if found.is_none() {
        skip(
            "the consul command 1.8.7 is not here (Debian 11's package `consul`, unpacked below $DEB11)",
        );
    }
    found
}

/// The unpatched command.
fn the_command(world: &World) {
    let Some(program) = consul_command() else { return };
    let program = program.display().to_string();
    let consul =
        |at: &str, words: &[&str]| world.inside(at, &[&[program.as_str()], words].concat());
    let members = consul("a", &["members"]).expect_ok().out;
    assert_eq!(world.on("b", &["members", "--format", "consul"]).expect_ok().out, members);
    assert_eq!(
        members.lines().filter(|line| line.contains("  alive   server  1.8.7  ")).count(),
        3
    );
    consul("a", &["kv", "put", "command", "x"]).expect_ok();
    assert_eq!(consul("c", &["kv", "get", "command"]).expect_ok().out, "x\n");
    let services = consul("b", &["catalog", "services"]).expect_ok().out;
    assert!(services.lines().any(|line| line == "consul"), "{services}");
    let peers = consul("b", &["operator", "raft", "list-peers"]).expect_ok().out;
    assert_eq!(peers.lines().count(), 4, "{peers}");
    let locked = consul("c", &["lock", "command-lock", "echo held"]).expect_ok().out;
    assert!(locked.contains("held"), "{locked}");
    let info = consul("a", &["info"]).expect_ok().out;
    assert!(info.contains("num_peers = 2"), "{info}");
}

/// Instances of a service that are well: their ids, with what they say of node, address and port.
fn passing(world: &World, at: &str, service: &str) -> Vec<(String, String)> {
    let found = get(world, at, &format!("health/service/{service}?passing"));
    let describe = |entry: &Value| {
        let (node, service) = (text(&entry["Node"]["Node"]), &entry["Service"]);
        let where_it_is = format!("{node} {}:{}", text(&service["Address"]), service["Port"]);
        (text(&service["ID"]), where_it_is)
    };
    let mut all: Vec<_> = found.as_array().into_iter().flatten().map(describe).collect();
    all.sort();
    all
}

/// What the catalog should have of the pods of an application.
fn expected(world: &World, app: &str) -> Vec<(String, String)> {
    let pods = world.json("a", &["ps"]);
    let pods = pods["items"].as_array().unwrap().iter();
    let mut all: Vec<_> = pods
        .filter(|pod| pod["metadata"]["labels"]["app"] == app && is_ready(pod))
        .map(|pod| {
            let (name, node) = (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]));
            let place = format!("{node} {}:8080", text(&pod["status"]["podIP"]));
            (format!("default/{app}/{name}"), place)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn pods_and_nodes_come_and_go_in_the_catalog() {
    if !has_kubectl() {
        return;
    }
    let Some(world) = serving() else { return };
    world.on("a", &["run", "hello", "--replicas", "6", "--port", "80:8080"]).expect_ok();
    let pods = world.wait_for_pods("a", "hello", 6);
    for name in NAMES {
        wait(&format!("{name} has them"), || {
            (passing(&world, name, "hello") == expected(&world, "hello")).then_some(())
        });
    }
    let gone = format!("default/hello/{}", pods[0].0);
    world.kubectl("a", &["delete", "pod", &pods[0].0]).expect_ok();
    wait("the pod has left, and another has come", || {
        let all = passing(&world, "b", "hello");
        (all.len() == 6 && all.iter().all(|(id, _)| *id != gone)).then_some(())
    });
    world.wait_for_pods("a", "hello", 6);
    a_dead_node(&world);
    one_leaves(&world);
}

fn a_dead_node(world: &World) {
    let lost = session(world, "c");
    assert_eq!(text(&get(world, "a", &format!("session/info/{lost}"))[0]["Node"]), "c");
    world.kill("c");
    wait("nothing of the dead node is passing", || {
        let all = passing(world, "a", "hello");
        (all.len() == 6 && all.iter().all(|(_, place)| !place.starts_with("c "))).then_some(())
    });
    wait("its check says so", || {
        let critical = get(world, "b", "health/state/critical");
        let mut critical = critical.as_array()?.iter();
        critical.any(|c| c["Node"] == "c" && c["CheckID"] == "serfHealth").then_some(())
    });
    wait("its session has ended", || {
        (get(world, "b", &format!("session/info/{lost}")) == Value::Array(vec![])).then_some(())
    });
    wait("the members say so", || {
        let members = world.on("a", &["members", "--format", "consul"]).expect_ok().out;
        let line = members.lines().find(|line| line.starts_with("c "))?;
        line.contains("  failed  server  ").then_some(())
    });
    put(world, "a", "agent/force-leave/c", "");
    wait("it has left the catalog", || (nodes(world, "b") == ["a", "b"]).then_some(()));
}

/// A node leaves when it is asked to through the API, unless it is the last.
fn one_leaves(world: &World) {
    let url = "127.0.0.1:8500/v1/agent/leave";
    let answer = ["-w", "%{http_code}", "-X", "PUT", url];
    assert_eq!(curl(world, "b", &answer).expect_ok().out, "200");
    wait("b is in no cluster", || {
        let status = world.json_or_null("b", &["status"]);
        (status["node"] == "b" && status["cluster"].is_null()).then_some(())
    });
    assert!(world.json("b", &["status"])["problem"].is_null(), "it was its own wish");
    wait("it has left the catalog", || (nodes(world, "a") == ["a"]).then_some(()));
    let last = curl(world, "a", &answer).expect_ok().out;
    assert!(last.contains("the last manager") && last.ends_with("500"), "{last}");
}

#[test]
fn the_port_is_opened_where_it_is_asked_for_and_when_it_is_free() {
    let Some(world) = machines_with(&["a"], "PONTOON_CLIENT_ADDR", "0.0.0.0") else { return };
    // Consul itself may have it, until the move to Pontoon is done.
    let taken = in_network(world.pid("a"), || TcpListener::bind("127.0.0.1:8500").unwrap());
    world.on("a", &["init"]).expect_ok();
    let warning = || text(&world.json("a", &["status"])["warning"]);
    wait("it is told that the port is taken", || {
        let status = world.json("a", &["status"]);
        status["warning"].as_str()?.contains("--consul-port").then_some(())
    });
    assert!(world.json("a", &["status"])["consul"].is_null());
    drop(taken);
    let address = text(&world.json("a", &["status"])["address"]);
    wait("it is served", || {
        let done = curl(&world, "a", &[&format!("{address}:8500/v1/catalog/nodes")]);
        done.out.contains(r#""Node":"a""#).then_some(())
    });
    assert!(warning().contains("neither TLS nor access control"), "{}", warning());
    assert_eq!(world.json("a", &["status"])["consul"], "http://0.0.0.0:8500");
}
