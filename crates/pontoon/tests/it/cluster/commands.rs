//! Commands that no other test of a cluster needs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::world::{Done, World, cluster, machines, program, text, turn, wait};

#[test]
fn the_demo_shows_what_it_promises_and_leaves_nothing() {
    let Some(_turn) = turn() else { return };
    let mut command = Command::new(program());
    command.args(["demo", "--once"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let demo = command.spawn().unwrap();
    let scratch = std::env::temp_dir().join(format!("pontoon-demo-{}", demo.id()));
    let done = Done::from(demo.wait_with_output().unwrap()).expect_ok();
    let said = format!("{}{}", done.out, done.err);
    for words in [
        "a cluster of three managers",
        "6 replicas run, ",
        "they answer in turn",
        "power off: demo-c",
        "6 replicas run again, ",
        "nothing is left of them",
    ] {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
    assert!(!scratch.exists(), "{} is left", scratch.display());
}

#[test]
fn a_demo_that_is_ended_leaves_nothing() {
    let Some(_turn) = turn() else { return };
    for signal in [rustix::process::Signal::HUP, rustix::process::Signal::TERM] {
        let mut command = Command::new(program());
        command.arg("demo").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut demo = command.spawn().unwrap();
        let scratch = std::env::temp_dir().join(format!("pontoon-demo-{}", demo.id()));
        let mut said = BufReader::new(demo.stderr.take().unwrap()).lines();
        let mut next = || said.next().map(Result::unwrap);
        assert_eq!(next().as_deref(), Some("making three machines …"));
        wait("a machine is made", || scratch.join("machines/demo-a/run").exists().then_some(()));
        let demo_pid = rustix::process::Pid::from_child(&demo);
        rustix::process::kill_process(demo_pid, signal).unwrap();
        let last: Vec<String> = std::iter::from_fn(next).collect();
        assert!(demo.wait().unwrap().success(), "{last:?}");
        assert_eq!(last.last().map(String::as_str), Some("nothing is left of them"), "{signal:?}");
        assert!(!scratch.exists(), "{} is left", scratch.display());
    }
}

#[test]
fn every_other_command_does_what_it_says() {
    let Some(world) = cluster(&["a"]) else { return };
    world.on("a", &["run", "hello", "--port", "80:8080"]).expect_ok();
    let (pod, _) = world.wait_for_pods("a", "hello", 1).remove(0);
    let log = wait("the pod has said something", || {
        Some(world.on("a", &["logs", &pod, "--tail", "1"]).out).filter(|out| !out.is_empty())
    });
    assert!(log.contains("8080"), "{log}");
    let node = world.json("a", &["node", "inspect", "a"]);
    assert_eq!((text(&node["kind"]), text(&node["metadata"]["name"])), ("Node".into(), "a".into()));
    for (words, kind, list) in [
        ("logs nobody", "pod", "ps -A"),
        ("exec nobody -- true", "pod", "ps -A"),
        ("service rm nobody", "service", "service ls"),
    ] {
        let missing = world.on("a", &words.split(' ').collect::<Vec<_>>()).expect_error();
        let said = format!("error: {kind} \"nobody\" not found; see `pontoon {list}`\n");
        assert_eq!(missing, said, "{words}");
    }
    let image = world.on("a", &["image", "rm", "nobody:1"]).expect_error();
    assert!(image.contains("nobody:1\" not found; see `pontoon image ls`"), "{image}");
    commands_in(&world, &pod);
    reader_gone(&world);
    let config = world.on("a", &["kubeconfig"]).expect_ok().out;
    assert!(config.contains("client-key-data:") && config.contains(":6443"), "{config}");
    let kept = fs::read_to_string(world.data_dir("a").join("admin.kubeconfig")).unwrap();
    assert!(kept.lines().filter(|line| line.contains("-data: ")).all(|line| config.contains(line)));
    assert!(config.contains("name: pontoon-a\n"), "{config}");
    let elsewhere = world.on("a", &["kubeconfig", "--server", "api.example.org"]).expect_ok().out;
    assert!(elsewhere.contains("https://api.example.org:6443") && elsewhere.contains("pontoon-a"));
    world.on("a", &["kubeconfig", "--server", "nobody"]).expect_error();
    assert_eq!(text(&world.json("a", &["kubeconfig"])["kubeconfig"]), config);
    let story = world.host(&["demo", "--output", "json"]).expect_error();
    assert!(story.contains("for people"), "{story}");
    for shell in ["bash", "zsh", "fish"] {
        let script = world.host(&["completion", shell]).expect_ok().out;
        assert!(script.contains("join-token"), "{shell}: {script}");
    }
    images(&world);
    power(&world, &pod);
}

/// What a command's exit code and terminal are.
fn commands_in(world: &World, pod: &str) {
    let missing = world.on("a", &["exec", pod, "--", "/nothing"]);
    assert_eq!(missing.code, Some(127), "{}", missing.err);
    assert!(
        missing.err.contains("/nothing") && missing.err.contains("No such file"),
        "{missing:?}"
    );
    let denied = world.on("a", &["exec", pod, "--", "/etc/hosts"]);
    assert_eq!(denied.code, Some(126), "{}", denied.err);
    let own = world.on("a", &["exec", pod, "--", "/pontoon", "--port"]);
    assert_eq!(own.code, Some(2), "{}", own.err);
    let piped = world.fed("a", &["exec", "-it", pod, "--", "/pontoon", "--version"], "");
    assert_eq!((piped.ok, piped.out.as_str()), (false, ""));
    assert!(piped.err.contains("wants a terminal"), "{}", piped.err);
}

/// A reader that has gone is nobody's fault.
fn reader_gone(world: &World) {
    for words in [&["node", "ls"][..], &["node", "ls", "-o", "json"], &["completion", "bash"]] {
        let mut command = world.host_command(&["--run-dir"]);
        command.arg(world.run_dir("a")).args(words).stdout(closed_pipe()).stderr(Stdio::piped());
        let done = Done::from(command.output().unwrap());
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{words:?}");
    }
    // The work is done nevertheless, for every name.
    for name in ["gone-1", "gone-2"] {
        world.on("a", &["run", name]).expect_ok();
    }
    let mut command = world.host_command(&["--run-dir"]);
    command.arg(world.run_dir("a")).args(["service", "rm", "gone-1", "gone-2"]);
    assert!(command.stdout(closed_pipe()).status().unwrap().success());
    for name in ["gone-1", "gone-2"] {
        let left = world.on("a", &["service", "rm", name]).expect_error();
        assert!(left.contains("not found"), "{left}");
    }
}

/// The end to write to of a pipe that nobody reads.
fn closed_pipe() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

fn images(world: &World) {
    let archive = docker_archive(world);
    let loaded = world.on("a", &["image", "load", &archive]).expect_ok().out;
    assert!(loaded.contains("web:1"), "{loaded}");
    let has = |reference: &str| {
        let images = world.json("a", &["image", "ls"]);
        let mut images = images["images"].as_array().unwrap().iter();
        images.any(|image| text(&image["reference"]).ends_with(reference))
    };
    assert!(has("web:1") && has("hello:latest"));
    world.on("a", &["image", "rm", "web:1"]).expect_ok();
    assert!(!has("web:1"), "it is removed");
    let gone = world.on("a", &["image", "rm", "web:1"]).expect_error();
    assert!(gone.contains("web:1"), "{gone}");
    let pulled = world.on("a", &["image", "pull", "127.0.0.1:9/web:1"]).expect_error();
    assert!(pulled.contains("127.0.0.1:9"), "{pulled}");
    let cut = format!("{archive}.cut");
    let bytes = fs::read(&archive).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    world.on("a", &["image", "load", &cut]).expect_error();
    assert!(!has("web:1"), "half an archive is no image");
    let imported = world.on("a", &["image", "import", &archive, "box:1"]).expect_error();
    assert!(imported.contains("docker-archive"), "{imported}");
}

/// What `docker save` writes for the smallest image.
fn docker_archive(world: &World) -> String {
    let dir = world.machine_dir("a").join("saved");
    fs::create_dir_all(dir.join("root")).unwrap();
    fs::write(dir.join("root/file"), "x".repeat(100_000)).unwrap();
    let tar = |from: &Path, archive: &Path, names: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(from).arg("-cf").arg(archive).args(names);
        assert!(command.status().unwrap().success());
    };
    tar(&dir.join("root"), &dir.join("layer.tar"), &["file"]);
    let sum = Command::new("sha256sum").arg(dir.join("layer.tar")).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap();
    let sum = sum.split(' ').next().unwrap();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/file"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let manifest = serde_json::json!([
        { "Config": "config.json", "RepoTags": ["web:1"], "Layers": ["layer.tar"] }
    ]);
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = dir.with_extension("tar");
    tar(&dir, &archive, &["manifest.json", "config.json", "layer.tar"]);
    archive.to_str().unwrap().to_owned()
}

/// A machine that is shut down in order is off, and everything is back when it is on again.
fn power(world: &World, pod: &str) {
    let state = || {
        let list = world.host(&["machine", "ls", "--output", "json"]).expect_ok().out;
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        text(&list["machines"][0]["state"])
    };
    assert_eq!(state(), "running");
    let missing = world.host(&["machine", "stop", "nobody"]).expect_error();
    assert!(
        missing.contains("machine \"nobody\" not found; see `pontoon machine ls`"),
        "{missing}"
    );
    world.host(&["machine", "stop", "a"]).expect_ok();
    assert_eq!(state(), "stopped");
    let off = world.host(&["machine", "ssh", "a", "--", "true"]).expect_error();
    assert!(off.contains("machine start a"), "{off}");
    world.start("a");
    world.wait_for_nodes("a", 1);
    world.wait_for_pods("a", "hello", 1);
    world.wait_for_adoption("a", [&pod.to_owned()]);
    let removed = world.on("a", &["service", "rm", "hello"]).expect_ok().out;
    assert_eq!(removed, "removed hello (service, deployment)\n");
    wait("its pods are gone", || world.ready_pods("a", "hello").is_empty().then_some(()));
    world.host(&["machine", "rm", "--all"]).expect_ok();
    assert_eq!(world.host(&["machine", "ls"]).expect_ok().out.lines().count(), 1);
}

#[test]
fn up_is_daemon_and_init_or_join_in_one() {
    let Some(world) = machines(&["a", "b"]) else { return };
    let first = up(&world, "a", &[]);
    let second = {
        let token = world.json("a", &["join-token", "worker"]);
        let at = format!("{}@{}", text(&token["token"]), text(&token["address"]));
        up(&world, "b", &["--join", &at])
    };
    world.wait_for_nodes("a", 2);
    assert_eq!(world.json("b", &["status"])["role"], "worker");
    for (machine, child) in [("b", second), ("a", first)] {
        world.inside(machine, &["pkill", "-TERM", "-f", "pontoon.* up"]).expect_ok();
        let done = Done::from(child.wait_with_output().unwrap());
        assert!(done.ok, "{machine}: {}", done.err);
        world.release_daemon(machine);
    }
    // What `up` began `daemon` goes on with.
    world.wait_for_nodes("a", 2);
}

/// `pontoon up` in the place of a machine's daemon, as far as its first words.
fn up(world: &World, machine: &str, words: &[&str]) -> Child {
    world.hold_daemon(machine);
    wait("it is down", || (!world.on(machine, &["status"]).ok).then_some(()));
    let all = ["machine", "ssh", machine, "--", "pontoon", "up", "--node-name", machine];
    let cgroup = world.cgroup_parent(machine);
    let all = [&all[..], &["--cgroup-parent", &cgroup], words].concat();
    let mut command = world.host_command(&all);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains(&format!("This node ({machine}) is")), "{line}");
    child
}
