//! What a container sees, and what it may not do.

use std::collections::BTreeMap;

use pontoon_container::{
    ExecSpec, Mount, MountKind, PidNamespace, SandboxSpec, SeccompProfile, User,
};

use super::fixture::{Fixture, argv, exec, exec_of};

/// Docker's fourteen.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";
const EPERM: &str = "1";
const EINVAL: &str = "22";
const ENOSYS: &str = "38";

fn words(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().map(|line| line.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn own(namespace: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap().display().to_string()
}

pub(crate) async fn namespaces_and_host_name() {
    let fixture = Fixture::new();
    let spec = SandboxSpec { id: "s".into(), hostname: "web-0".into(), ..SandboxSpec::default() };
    let sandbox = fixture.sandbox_of(spec).await;
    for id in ["a", "b"] {
        fixture.start(&sandbox, fixture.container(id, &["sleep"])).await;
    }
    let a = words(&exec(&sandbox, "a", &["self"]).await.1);
    let b = words(&exec(&sandbox, "b", &["self"]).await.1);
    for shared in ["net", "ipc", "uts"] {
        assert_eq!(a[shared], b[shared]);
        assert_ne!(a[shared], own(shared));
    }
    for separate in ["pid", "mnt"] {
        assert_ne!(a[separate], b[separate]);
    }
    assert_eq!(a["host"], "web-0");
    assert_eq!(a["net"], std::fs::read_link(sandbox.netns_path()).unwrap().display().to_string());
    assert_eq!(a["fds"], "3", "nothing of the shim's is open in a container");
    let (_, names) = exec(&sandbox, "a", &["list", "/proc/self/task"]).await;
    assert_eq!(names.trim().split(' ').count(), 1);
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn shared_pid_namespace() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    for id in ["a", "b"] {
        let mut spec = fixture.container(id, &["sleep"]);
        spec.pid_namespace = PidNamespace::Sandbox;
        fixture.start(&sandbox, spec).await;
    }
    let a = words(&exec(&sandbox, "a", &["self"]).await.1);
    let b = words(&exec(&sandbox, "b", &["self"]).await.1);
    assert_eq!(a["pid"], b["pid"]);
    assert_ne!(a["pid"], own("pid"));
    // The end of one is not the end of the other.
    sandbox.kill("a", libc::SIGKILL).await.unwrap();
    fixture.exit_of("a").await;
    assert_eq!(exec(&sandbox, "b", &["say", "here"]).await.1, "here\n");
    fixture.finish(vec![sandbox]).await;
}

fn check_confined(seen: &BTreeMap<String, String>, calls: &BTreeMap<String, String>) {
    assert_eq!(seen["CapPrm"], DEFAULT_CAPABILITIES);
    assert_eq!(seen["CapEff"], DEFAULT_CAPABILITIES);
    assert_eq!(seen["CapBnd"], DEFAULT_CAPABILITIES);
    assert_eq!(seen["CapAmb"], "0000000000000000");
    assert_eq!(seen["Seccomp"], "2");
    for forbidden in ["mount", "keyctl", "unshare", "io_uring", "vsock", "odd"] {
        assert_eq!(calls[forbidden], EPERM, "{forbidden}");
    }
    for unknown in ["clone3", "future"] {
        assert_eq!(calls[unknown], ENOSYS, "{unknown}");
    }
    for allowed in ["inet", "personality"] {
        assert_eq!(calls[allowed], "0", "{allowed}");
    }
}

pub(crate) async fn filter_and_capabilities() {
    let mut fixture = Fixture::new();
    let strict =
        |spec: &mut pontoon_container::ContainerSpec| spec.security.no_new_privileges = true;
    let seen = words(&fixture.output(strict, &["self"]).await);
    let calls = words(&fixture.output(strict, &["refused"]).await);
    check_confined(&seen, &calls);
    assert_eq!(seen["NoNewPrivs"], "1");
    fixture.finish(vec![]).await;
}

pub(crate) async fn filter_without_no_new_privileges() {
    let mut fixture = Fixture::new();
    let seen = words(&fixture.output(|_| {}, &["self"]).await);
    let calls = words(&fixture.output(|_| {}, &["refused"]).await);
    check_confined(&seen, &calls);
    assert_eq!(seen["NoNewPrivs"], "0");
    // And the same for a command in the container, and for one that is not root's.
    let sandbox = fixture.sandbox("s").await;
    fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    let calls = words(&exec(&sandbox, "c", &["refused"]).await.1);
    check_confined(&words(&exec(&sandbox, "c", &["self"]).await.1), &calls);
    let user = Some(User::Ids { uid: 1000, gid: 1000, groups: vec![7] });
    let spec = ExecSpec { argv: argv(&["self"]), user, ..ExecSpec::default() };
    let seen = words(&exec_of(&sandbox, "c", spec).await.1);
    assert_eq!((seen["CapEff"].as_str(), seen["Seccomp"].as_str()), ("0000000000000000", "2"));
    assert_eq!((seen["Uid"].as_str(), seen["Groups"].as_str()), ("1000,1000,1000,1000", "7"));
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn unconfined_and_privileged() {
    let mut fixture = Fixture::new();
    let open = |spec: &mut pontoon_container::ContainerSpec| {
        spec.security.seccomp = SeccompProfile::Unconfined
    };
    let seen = words(&fixture.output(open, &["self"]).await);
    assert_eq!((seen["Seccomp"].as_str(), seen["CapEff"].as_str()), ("0", DEFAULT_CAPABILITIES));
    let with = |spec: &mut pontoon_container::ContainerSpec| {
        spec.security.cap_add = vec!["SYS_ADMIN".into()];
        spec.security.cap_drop = vec!["ALL".into()];
    };
    let seen = words(&fixture.output(with, &["self"]).await);
    assert_eq!((seen["Seccomp"].as_str(), seen["CapEff"].as_str()), ("2", "0000000000200000"));
    let calls = words(&fixture.output(with, &["refused"]).await);
    assert_ne!(calls["mount"], EPERM);
    assert_eq!((calls["keyctl"].as_str(), calls["clone3"].as_str()), (EPERM, EINVAL));
    let all = |spec: &mut pontoon_container::ContainerSpec| spec.security.privileged = true;
    let seen = words(&fixture.output(all, &["self"]).await);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("CapPrm")).unwrap();
    assert!(line.ends_with(&seen["CapEff"]), "{line} {seen:?}");
    assert_eq!(seen["Seccomp"], "0");
    fixture.finish(vec![]).await;
}

pub(crate) async fn users_and_homes() {
    let mut fixture = Fixture::new();
    std::fs::write(fixture.layer.join("etc/passwd"), "web:x:101:102::/srv/web:/bin/sh\n").unwrap();
    std::fs::write(fixture.layer.join("etc/group"), "web:x:102:\nlogs:x:200:web\n").unwrap();
    let web = |spec: &mut pontoon_container::ContainerSpec| {
        spec.user = User::Named { user: "web".into(), groups: vec![300] };
        spec.cwd = "/made/for/it".into();
        spec.env = vec![("PATH".into(), "/".into())];
        spec.argv[0] = super::fixture::PROGRAM.into();
    };
    let seen = words(&fixture.output(web, &["self"]).await);
    assert_eq!(
        (seen["Uid"].as_str(), seen["Gid"].as_str()),
        ("101,101,101,101", "102,102,102,102")
    );
    assert_eq!((seen["Groups"].as_str(), seen["cwd"].as_str()), ("200,300", "/made/for/it"));
    assert_eq!(seen["CapEff"], "0000000000000000");
    assert_eq!(fixture.output(web, &["env", "HOME"]).await, "/srv/web\n");
    // A log file that is /dev/stdout, as images of web servers have it.
    assert_eq!(
        fixture.output(web, &["write", "/dev/stdout", "by name\n"]).await,
        "by name\nwritten\n"
    );
    let sandbox = fixture.sandbox("s").await;
    let mut spec = fixture.container("c", &["self"]);
    spec.user = User::Named { user: "nobody".into(), groups: vec![] };
    let error = sandbox.create(spec).await.unwrap_err().to_string();
    assert!(error.contains("nobody"), "{error}");
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn mounts_and_read_only_root() {
    let fixture = Fixture::new();
    let file = fixture.file("hosts", "127.0.0.1 here\n");
    let dir = fixture.path("volume");
    std::fs::create_dir(&dir).unwrap();
    let bind = |source: &std::path::Path, target: &str, read_only| Mount {
        target: target.into(),
        kind: MountKind::Bind { source: source.into() },
        read_only,
    };
    let sandbox = fixture.sandbox("s").await;
    let mut spec = fixture.container("c", &["sleep"]);
    spec.security.read_only_root = true;
    spec.mounts = vec![
        bind(&file, "/etc/hosts", true),
        bind(&dir, "/data/deep", false),
        bind(&dir, "/data/seen", true),
        Mount {
            target: "/scratch".into(),
            kind: MountKind::Tmpfs { size_bytes: Some(1 << 20), mode: 0o1777 },
            read_only: false,
        },
    ];
    fixture.start(&sandbox, spec).await;
    let ask = async |words: &[&str]| exec(&sandbox, "c", words).await.1;
    assert_eq!(ask(&["cat", "/etc/hosts"]).await, "127.0.0.1 here\n");
    assert_eq!(ask(&["write", "/data/deep/x", "mine"]).await, "written\n");
    assert_eq!(std::fs::read_to_string(dir.join("x")).unwrap(), "mine");
    for refused in
        ["/x", "/etc/hosts", "/data/seen/x", "/sys/kernel/x", "/proc/sys/kernel/hostname"]
    {
        let said = ask(&["write", refused, "x"]).await;
        assert!(said.contains("Read-only") || said.contains("denied"), "{refused}: {said}");
    }
    assert_eq!(ask(&["write", "/scratch/x", "x"]).await, "written\n");
    let too_much = "x".repeat(100_000);
    for number in 0..12 {
        let said = ask(&["write", &format!("/scratch/{number}"), &too_much]).await;
        assert_eq!(said.contains("No space"), number >= 10, "{number}: {said}");
    }
    // What is in /dev/shm is the sandbox's.
    assert_eq!(ask(&["write", "/dev/shm/x", "shared"]).await, "written\n");
    fixture.start(&sandbox, fixture.container("d", &["sleep"])).await;
    assert_eq!(exec(&sandbox, "d", &["cat", "/dev/shm/x"]).await.1, "shared");
    assert_eq!(exec(&sandbox, "d", &["write", "/x", "x"]).await.1, "written\n");
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn links_in_the_image() {
    let mut fixture = Fixture::new();
    let outside = fixture.path("outside");
    std::fs::create_dir(&outside).unwrap();
    // The links' targets exist inside, too.
    std::fs::create_dir_all(fixture.layer.join("tmp")).unwrap();
    std::fs::create_dir_all(fixture.layer.join(outside.strip_prefix("/").unwrap())).unwrap();
    std::os::unix::fs::symlink(&outside, fixture.layer.join("out")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../../tmp", fixture.layer.join("up")).unwrap();
    let file = fixture.file("f", "text\n");
    let mounts = |spec: &mut pontoon_container::ContainerSpec| {
        for target in ["/out/a", "/up/pontoon-b"] {
            let kind = MountKind::Bind { source: file.clone() };
            spec.mounts.push(Mount { target: target.into(), kind, read_only: true });
        }
        spec.cwd = "/up/cwd".into();
    };
    assert_eq!(fixture.output(mounts, &["cat", "/up/pontoon-b"]).await, "text\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!std::path::Path::new("/tmp/pontoon-b").exists());
    assert!(!std::path::Path::new("/tmp/cwd").exists());
    fixture.finish(vec![]).await;
}

pub(crate) async fn masked_paths() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.output(|_| {}, &["cat", "/proc/interrupts"]).await, "");
    assert_eq!(fixture.output(|_| {}, &["list", "/sys/firmware"]).await, "\n");
    let said = fixture.output(|_| {}, &["write", "/proc/sys/vm/swappiness", "1"]).await;
    assert!(said.contains("Read-only"), "{said}");
    assert_eq!(fixture.output(|_| {}, &["link", "/dev/ptmx"]).await, "pts/ptmx\n");
    fixture.finish(vec![]).await;
}

pub(crate) async fn host_namespaces() {
    let fixture = Fixture::new();
    let sandbox = fixture
        .sandbox_of(SandboxSpec {
            id: "s".into(),
            host_network: true,
            host_pid: true,
            host_ipc: true,
            ..SandboxSpec::default()
        })
        .await;
    fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    let seen = words(&exec(&sandbox, "c", &["self"]).await.1);
    for shared in ["net", "ipc", "pid"] {
        assert_eq!(seen[shared], own(shared));
    }
    assert_ne!(seen["mnt"], own("mnt"));
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn sysctls() {
    let fixture = Fixture::new();
    let of = |name: &str, value: &str| SandboxSpec {
        id: "s".into(),
        sysctls: [(name.to_owned(), value.to_owned())].into(),
        ..SandboxSpec::default()
    };
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let sandbox = fixture.sandbox_of(of("net.ipv4.ip_unprivileged_port_start", "77")).await;
    fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(exec(&sandbox, "c", &["cat", path]).await.1, "77\n");
    for bad in [of("vm.swappiness", "1"), of("net.ipv4/../../vm.x", "1"), of("net.absent", "1")] {
        let bad = SandboxSpec { id: "bad".into(), ..bad };
        let name = bad.sysctls.keys().next().unwrap().clone();
        let error = fixture.runtime.create_sandbox(bad).await.unwrap_err().to_string();
        assert!(error.contains(&name), "{error}");
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), before);
    fixture.finish(vec![sandbox]).await;
}
