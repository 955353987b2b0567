//! etcd's API of real daemons: TLS, who is let in, and members that are managers.

use std::process::{Child, Command};

use crate::world::{Done, World, lack, machines_with, text, wait};

/// Machines whose managers serve etcd's API; `None`, with a word why, where there are no machines or no client.
fn serving(names: &[&str]) -> Option<World> {
    if Command::new("etcdctl").arg("version").output().is_err() {
        lack("etcdctl is not installed (Debian's package etcd-client)");
        return None;
    }
    machines_with(names, "PONTOON_ETCD_LISTEN", "0.0.0.0")
}

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
    let Some(world) = serving(&["a", "b"]) else { return };
    world.on("a", &["init"]).expect_ok();
    world.join("b", "a", "worker").expect_ok();
    world.wait_for_nodes("a", 2);
    etcdctl(&world, &["a"], &["put", "k", "v"]).expect_ok();
    let registry =
        etcdctl(&world, &["a"], &["get", "--prefix", "/", "--keys-only"]).expect_ok().out;
    assert!(registry.contains("/registry/") && !registry.contains("/pontoon/"), "{registry}");
    let ca = format!("{}/ca.pem", files(&world));
    let (cert, key) = (format!("{}/cert.pem", files(&world)), format!("{}/key.pem", files(&world)));
    let url = format!("https://{}:2379/health", address(&world, "a"));
    for version in ["--http1.1", "--http2"] {
        let probe = ["curl", "-sf", version, "--cacert", &ca, "--cert", &cert, "--key", &key, &url];
        let healthy = world.inside("a", &probe).expect_ok().out;
        assert_eq!(healthy, r#"{"health":"true","reason":""}"#);
    }
    let nobody = world.inside("a", &["curl", "-s", "-w", "%{http_code}", "--cacert", &ca, &url]);
    assert!(nobody.out.contains("etcd-env") && nobody.out.ends_with("401"), "{}", nobody.out);
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
    let b = promote_b(&world);
    let status = etcdctl(&world, &["a", "b"], &["endpoint", "status"]).expect_ok().out;
    assert_eq!(status.lines().count(), 2, "{status}");
    let hashes =
        etcdctl(&world, &["a", "b"], &["endpoint", "hashkv", "--rev", "5"]).expect_ok().out;
    let sums: Vec<&str> = hashes.lines().filter_map(|line| line.split(", ").nth(1)).collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "{hashes}");
    let moved = etcdctl(&world, &["a", "b"], &["move-leader", &b]).expect_ok().out;
    assert!(moved.contains("Leadership transferred"), "{moved}");
    etcdctl(&world, &["a"], &["member", "remove", &b]).expect_ok();
    becomes_worker(&world, "b");
    etcdctl(&world, &["a"], &["put", "k", "w"]).expect_ok();
    // Once more, a learner first, and this time it is asked itself.
    let b = learner_b(&world);
    etcdctl(&world, &["a"], &["member", "promote", &b]).expect_ok();
    let again = etcdctl(&world, &["a"], &["member", "promote", &b]).expect_error();
    assert!(again.contains("can only promote a learner member"), "{again}");
    assert_eq!(manager_status(&world, "b"), "Reachable");
    etcdctl(&world, &["b"], &["member", "remove", &b]).expect_ok();
    becomes_worker(&world, "b");
    etcdctl(&world, &["a"], &["put", "k", "x"]).expect_ok();
    let gone = etcdctl(&world, &["a"], &["member", "remove", &b]).expect_error();
    assert!(gone.contains("etcdserver: member not found"), "{gone}");
}

/// Makes b a manager; answers with its number.
fn promote_b(world: &World) -> String {
    let url = format!("https://{}:2380", address(world, "b"));
    let added = etcdctl(world, &["a"], &["member", "add", "b", "--peer-urls", &url]).expect_ok();
    assert!(added.out.contains(&format!("b={}", url.replace(":2380", ":2377"))), "{}", added.out);
    let listed = etcdctl(world, &["a"], &["member", "list"]).expect_ok().out;
    assert!(listed.contains(", b, "), "who is added is a member at once: {listed}");
    wait("b serves", || etcdctl(world, &["b"], &["get", "k"]).ok.then_some(()));
    wait("both are members", || number(world, "b").filter(|_| members(world).len() == 2))
}

/// Makes b a manager whose copy does not count; answers with its number.
fn learner_b(world: &World) -> String {
    let url = format!("https://{}:2380", address(world, "b"));
    let add = ["member", "add", "b", "--learner", "--peer-urls", &url];
    etcdctl(world, &["a"], &add).expect_ok();
    wait("b serves", || etcdctl(world, &["b"], &["get", "k"]).ok.then_some(()));
    wait("b is a learner", || (manager_status(world, "b") == "Learner").then_some(()));
    let listed = etcdctl(world, &["a"], &["member", "list"]).expect_ok().out;
    let is_learner = |line: &&str| line.contains(", b,") && line.ends_with("true");
    assert_eq!(listed.lines().filter(is_learner).count(), 1, "{listed}");
    // Without its vote there is one voter, whose loss would be that of the cluster.
    let a = number(world, "a").expect("a is a member");
    let refused = etcdctl(world, &["a"], &["member", "remove", &a]).expect_error();
    assert!(refused.contains("not enough started members"), "{refused}");
    number(world, "b").expect("b is a member")
}

fn manager_status(world: &World, name: &str) -> String {
    let listed = world.json_or_null("a", &["node", "ls"]);
    let nodes = listed["nodes"].as_array().cloned().unwrap_or_default();
    let node = nodes.iter().find(|node| node["name"] == name);
    node.and_then(|node| node["managerStatus"].as_str()).unwrap_or_default().to_owned()
}

fn number(world: &World, name: &str) -> Option<String> {
    members(world).into_iter().find(|(other, _)| other == name).map(|(_, number)| number)
}

fn becomes_worker(world: &World, name: &str) {
    wait(&format!("{name} is a worker"), || {
        (world.json_or_null(name, &["status"])["role"] == "worker").then_some(())
    });
}

#[test]
fn a_silent_manager_is_removed_and_learns_it_when_it_comes_back() {
    let Some(world) = serving(&["a", "b", "c"]) else { return };
    world.on("a", &["init"]).expect_ok();
    for name in ["b", "c"] {
        world.join(name, "a", "manager").expect_ok();
    }
    world.wait_for_nodes("a", 3);
    let b = wait("all are members", || number(&world, "b").filter(|_| members(&world).len() == 3));
    world.hold_daemon("b");
    wait("b is missed", || (manager_status(&world, "b") == "Unreachable").then_some(()));
    let c = number(&world, "c").unwrap();
    let refused = etcdctl(&world, &["a"], &["member", "remove", &c]).expect_error();
    assert!(refused.contains("not enough started members"), "{refused}");
    etcdctl(&world, &["a"], &["member", "remove", &b]).expect_ok();
    assert_eq!(number(&world, "b"), None);
    world.release_daemon("b");
    becomes_worker(&world, "b");
    world.wait_for_nodes("a", 3);
    etcdctl(&world, &["c"], &["put", "k", "v"]).expect_ok();
}

/// etcd's own server inside a machine.
struct Etcd<'w> {
    world: &'w World,
    server: Child,
}

const CLIENTS: &str = "http://127.0.0.1:12379";
const PEERS: &str = "http://127.0.0.1:12380";

impl<'w> Etcd<'w> {
    fn begin(world: &'w World) -> Self {
        let dir = world.machine_dir("a").join("etcd").display().to_string();
        let initial = format!("default={PEERS}");
        let words = [
            ["etcd", "--data-dir"].as_slice(),
            &[&dir, "--listen-client-urls", CLIENTS, "--advertise-client-urls", CLIENTS],
            &["--listen-peer-urls", PEERS, "--initial-advertise-peer-urls", PEERS],
            &["--initial-cluster", &initial, "--logger", "zap", "--log-outputs", "/dev/null"],
        ];
        let etcd = Etcd { world, server: world.begin_inside("a", &words.concat()) };
        wait("etcd serves", || etcd.ask(&["get", "k"]).ok.then_some(()));
        etcd
    }

    fn ask(&self, words: &[&str]) -> Done {
        let client = ["env", "ETCDCTL_API=3", "etcdctl", "--endpoints", CLIENTS];
        self.world.inside("a", &[&client, words].concat())
    }
}

impl Drop for Etcd<'_> {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

/// The last line of what a command complains of.
fn complaint(done: &Done) -> Option<String> {
    (!done.ok).then(|| done.err.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn members_are_refused_in_etcds_words() {
    let Some(world) = serving(&["a"]) else { return };
    if Command::new("etcd").arg("--version").output().is_err() {
        return lack("etcd is not installed (Debian's package etcd-server)");
    }
    world.on("a", &["init"]).expect_ok();
    wait("a serves", || etcdctl(&world, &["a"], &["get", "k"]).ok.then_some(()));
    let etcd = Etcd::begin(&world);
    let ours = |words: &[&str]| etcdctl(&world, &["a"], words);
    let fields = |done: Done| {
        let line = done.expect_ok().out;
        let fields = line.trim().split(", ").map(str::to_owned);
        fields.collect::<Vec<String>>()
    };
    let (us, them) = (fields(ours(&["member", "list"])), fields(etcd.ask(&["member", "list"])));
    assert_eq!(us.len(), them.len(), "{us:?} {them:?}");
    assert_eq!((&us[1], &us[5]), (&them[1], &them[5]), "started, and no learner");
    // What stands for the member's number and for its address.
    let with = |words: &[&str], member: &[String]| -> Vec<String> {
        let put = |word: &&str| word.replace("ID", &member[0]).replace("URL", &member[3]);
        words.iter().map(put).collect()
    };
    for words in [
        ["member", "remove", "77"].as_slice(),
        &["member", "remove", "ID"],
        &["member", "promote", "77"],
        &["member", "promote", "ID"],
        &["member", "update", "77", "--peer-urls", "https://192.0.2.9:2380"],
        &["member", "update", "ID", "--peer-urls", "URL"],
        &["member", "update", "ID", "--peer-urls", "nonsense"],
        &["member", "add", "x", "--peer-urls", "nonsense"],
        &["member", "add", "x", "--peer-urls", "ftp://192.0.2.9:2380"],
        &["member", "add", "x", "--peer-urls", "URL"],
        &["move-leader", "77"],
        &["move-leader", "ID"],
    ] {
        let (mine, theirs) = (with(words, &us), with(words, &them));
        let mine = ours(&mine.iter().map(String::as_str).collect::<Vec<_>>());
        let theirs = etcd.ask(&theirs.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(complaint(&mine), complaint(&theirs), "{words:?}: ours, and etcd's");
    }
}
