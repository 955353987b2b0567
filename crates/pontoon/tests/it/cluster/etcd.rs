//! etcd's API of real daemons: TLS, who is let in, and members that are managers.

use std::process::Command;

use crate::world::{Done, World, machines_with, text, wait};

/// etcdctl inside a machine, at the managers of these names.
fn etcdctl(world: &World, at: &[&str], words: &[&str]) -> Done {
    let environment = world.json("a", &["etcd-env", "--dir", &files(world)]);
    let mut all: Vec<String> = vec!["env".to_owned()];
    all.extend(environment.as_object().unwrap().iter().map(|(k, v)| format!("{k}={}", text(v))));
    let urls: Vec<String> =
        at.iter().map(|name| format!("https://{}:2379", address(world, name))).collect();
    all.push(format!("ETCDCTL_ENDPOINTS={}", urls.join(",")));
    all.push("etcdctl".to_owned());
    all.extend(words.iter().map(|word| (*word).to_owned()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    world.inside("a", &all)
}

fn files(world: &World) -> String {
    world.machine_dir("a").join("etcd-client").display().to_string()
}

fn address(world: &World, name: &str) -> String {
    text(&world.json(name, &["status"])["address"])
}

/// Member numbers by name, of those that serve clients.
fn members(world: &World) -> Vec<(String, String)> {
    let done = etcdctl(world, &["a"], &["member", "list"]);
    let lines = done.out.lines().map(|line| line.split(", ").collect::<Vec<_>>());
    let serving = lines.filter(|fields| fields.len() == 6 && fields[4].starts_with("https://"));
    serving.map(|fields| (fields[2].to_owned(), fields[0].to_owned())).collect()
}

#[test]
fn etcdctl_at_a_cluster() {
    if Command::new("etcdctl").arg("version").output().is_err() {
        return println!("skipped: there is no etcdctl here (Debian's package etcd-client)");
    }
    let listen = ("PONTOON_ETCD_LISTEN", "0.0.0.0");
    let Some(world) = machines_with(&["a", "b"], listen.0, listen.1) else { return };
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    etcdctl(&world, &["a"], &["put", "k", "v"]).expect_ok();
    let registry =
        etcdctl(&world, &["a"], &["get", "--prefix", "/", "--keys-only"]).expect_ok().out;
    assert!(registry.contains("/registry/") && !registry.contains("/pontoon/"), "{registry}");
    let ca = format!("{}/ca.pem", files(&world));
    let stranger = format!("https://{}:2379", address(&world, "a"));
    let stranger =
        ["env", "ETCDCTL_API=3", "etcdctl", "--cacert", &ca, "--endpoints", &stranger, "get", "k"];
    let refused = world.inside("a", &stranger).expect_error();
    assert!(refused.contains("etcd-env"), "{refused}");
    let worker = world.on("b", &["etcd-env"]).expect_error();
    assert!(worker.contains("while it is a manager"), "{worker}");
    let unknown = ["member", "add", "c", "--peer-urls", "https://192.0.2.77:2380"];
    let refused = etcdctl(&world, &["a"], &unknown).expect_error();
    assert!(refused.contains("join-token manager"), "{refused}");
    let url = format!("https://{}:2380", address(&world, "b"));
    etcdctl(&world, &["a"], &["member", "add", "b", "--peer-urls", &url]).expect_ok();
    wait("b serves", || etcdctl(&world, &["b"], &["get", "k"]).out.contains('v').then_some(()));
    let both = wait("both are members", || Some(members(&world)).filter(|found| found.len() == 2));
    let status = etcdctl(&world, &["a", "b"], &["endpoint", "status"]).expect_ok().out;
    assert_eq!(status.lines().count(), 2, "{status}");
    let hashes =
        etcdctl(&world, &["a", "b"], &["endpoint", "hashkv", "--rev", "5"]).expect_ok().out;
    let sums: Vec<&str> = hashes.lines().filter_map(|line| line.split(", ").nth(1)).collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "{hashes}");
    let (_, b) = both.iter().find(|(name, _)| name == "b").unwrap();
    let moved = etcdctl(&world, &["a", "b"], &["move-leader", b]).expect_ok().out;
    assert!(moved.contains("Leadership transferred"), "{moved}");
    etcdctl(&world, &["a"], &["member", "remove", b]).expect_ok();
    wait("b is a worker", || {
        (world.json_or_null("b", &["status"])["role"] == "worker").then_some(())
    });
    etcdctl(&world, &["a"], &["put", "k", "w"]).expect_ok();
}
