//! From creation to removal, across deaths of the daemon and of the shim.

use pontoon_container::{ContainerState, Error, Event, Runtime, Sandbox, SandboxSpec};

use super::fixture::{Fixture, exec};

pub(crate) async fn starts_and_exits() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    let created = sandbox.create(fixture.container("c", &["exit", "7"])).await.unwrap();
    assert_eq!(created.state, ContainerState::Created);
    let started = sandbox.start("c").await.unwrap();
    assert_eq!(started.state, ContainerState::Running);
    let exit = fixture.exit_of("c").await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
    let listed = sandbox.list().await.unwrap();
    assert_eq!(listed[0].state, ContainerState::Stopped);
    assert_eq!(listed[0].exit, Some(exit));
    assert!(listed[0].finished_at >= listed[0].started_at);
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn program_that_cannot_run() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    for (id, program, code, reason) in [
        ("a", "/absent", 127, "No such file"),
        ("b", "absent", 127, "No such file"),
        ("c", "/etc", 126, "denied"),
    ] {
        let mut spec = fixture.container(id, &[]);
        spec.argv = vec![program.into()];
        sandbox.create(spec).await.unwrap();
        let error = sandbox.start(id).await.unwrap_err().to_string();
        assert!(error.contains(program) && error.contains(reason), "{error}");
        assert_eq!(fixture.exit_of(id).await.code, code);
    }
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn restart_of_the_daemon() {
    let mut fixture = Fixture::new();
    let labels = [("pod".to_owned(), "web".to_owned())].into();
    let spec = SandboxSpec { id: "s".into(), labels, ..SandboxSpec::default() };
    let sandbox = fixture.sandbox_of(spec).await;
    let before = fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    fixture.start(&sandbox, fixture.container("short", &["exit", "3"])).await;
    fixture.exit_of("short").await;
    let pid = sandbox.pid();
    drop(sandbox);

    // The daemon has gone and come again.
    fixture.runtime = Runtime::new(fixture.config.clone()).unwrap();
    fixture.events = fixture.runtime.events();
    let mut found = fixture.runtime.recover().await.unwrap();
    let sandbox = found.pop().unwrap();
    assert!(found.is_empty());
    assert_eq!((sandbox.id(), sandbox.pid()), ("s", pid));
    assert_eq!(sandbox.labels()["pod"], "web");
    let listed = sandbox.list().await.unwrap();
    assert_eq!(listed[0], before);
    assert_eq!(listed[1].exit.unwrap().code, 3);
    sandbox.kill("c", libc::SIGKILL).await.unwrap();
    assert_eq!(fixture.exit_of("c").await.signal, Some(libc::SIGKILL));
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn death_of_the_shim() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    let running = fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    let created = sandbox.create(fixture.container("d", &["sleep"])).await.unwrap();
    let pids: Vec<_> = [running, created]
        .iter()
        .map(|info| rustix::process::Pid::from_raw(info.pid.unwrap() as i32).unwrap())
        .map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap())
        .collect();
    let shim = rustix::process::Pid::from_raw(sandbox.pid() as i32).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    loop {
        if let Event::SandboxDied { sandbox } = fixture.events.recv().await.unwrap() {
            assert_eq!(sandbox, "s");
            break;
        }
    }
    for pid in pids {
        // Readable when the process has ended.
        tokio::task::spawn_blocking(move || {
            let mut fds = [rustix::event::PollFd::new(&pid, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, None).unwrap();
        })
        .await
        .unwrap();
    }
    assert!(matches!(sandbox.list().await, Err(Error::ShimGone { .. })));
    assert!(fixture.runtime.recover().await.unwrap().is_empty());
    fixture.finish(vec![]).await;
}

pub(crate) async fn what_cannot_be_removed_holds_up_nobody() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    // A file where a directory should be: it cannot be removed as one.
    let left = fixture.config.state_dir.join("sandboxes/dead");
    std::fs::write(&left, "").unwrap();
    fixture.runtime = Runtime::new(fixture.config.clone()).unwrap();
    let found = fixture.runtime.recover().await.unwrap();
    assert_eq!(found.iter().map(Sandbox::id).collect::<Vec<_>>(), ["s"]);
    let known = fixture.runtime.leftovers();
    assert!(known["dead"].contains("state/sandboxes/dead"), "{known:?}");
    fixture.runtime.remove_leftovers().await;
    let spec = SandboxSpec { id: "dead".into(), ..SandboxSpec::default() };
    assert!(fixture.runtime.create_sandbox(spec.clone()).await.is_err());
    std::fs::remove_file(&left).unwrap();
    fixture.runtime.remove_leftovers().await;
    assert!(fixture.runtime.leftovers().is_empty());
    let alive = fixture.runtime.create_sandbox(spec).await.unwrap();
    fixture.runtime.remove_leftovers().await;
    assert!(alive.list().await.unwrap().is_empty(), "the new one is no leftover");
    drop(sandbox);
    fixture.finish(found.into_iter().chain([alive]).collect()).await;
}

pub(crate) async fn nothing_is_left() {
    let fixture = Fixture::new();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let sandbox = fixture.sandbox("s").await;
    let shim = format!("/proc/{}", sandbox.pid());
    let info = fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    assert_eq!(mounts(), before, "mounts of a sandbox are its own");
    assert!(!fixture.cgroup_dirs().is_empty());
    let container = format!("/proc/{}", info.pid.unwrap());
    fixture.finish(vec![sandbox]).await;
    assert!(!std::path::Path::new(&container).exists());
    // The shim may still be a process without memory, until the daemon has reaped it.
    assert!(std::fs::read_link(format!("{shim}/exe")).is_err());
}

pub(crate) async fn kill_and_delete() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    sandbox.kill_all("c", libc::SIGKILL).await.unwrap();
    let exit = fixture.exit_of("c").await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), false));
    sandbox.kill("c", libc::SIGTERM).await.unwrap();
    sandbox.delete("c").await.unwrap();
    assert!(sandbox.list().await.unwrap().is_empty());
    // A running one, and one never started.
    fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    sandbox.create(fixture.container("d", &["sleep"])).await.unwrap();
    sandbox.delete("c").await.unwrap();
    sandbox.delete("d").await.unwrap();
    let left = fixture.config.state_dir.join("sandboxes/s");
    assert_eq!(std::fs::read_dir(left).unwrap().count(), 0);
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn ids_and_states() {
    let fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    let again = SandboxSpec { id: "s".into(), ..SandboxSpec::default() };
    assert!(matches!(fixture.runtime.create_sandbox(again).await, Err(Error::SandboxExists(_))));
    let bad = SandboxSpec { id: "../s".into(), ..SandboxSpec::default() };
    assert!(matches!(fixture.runtime.create_sandbox(bad).await, Err(Error::InvalidId(_))));
    let refused = |result: Result<_, Error>| matches!(result, Err(Error::Refused(_)));
    assert!(refused(sandbox.start("absent").await.map(drop)));
    assert!(refused(sandbox.delete("absent").await));
    fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    assert!(refused(sandbox.create(fixture.container("c", &["sleep"])).await.map(drop)));
    assert!(refused(sandbox.start("c").await.map(drop)));
    assert!(refused(sandbox.kill("c", 65).await));
    let mut spec = fixture.container("d", &["sleep"]);
    spec.rootfs.layers = vec![fixture.path("no-layer")];
    let error = sandbox.create(spec).await.unwrap_err().to_string();
    assert!(error.contains("no-layer"), "{error}");
    let mut spec = fixture.container("d", &["sleep"]);
    spec.cwd = "/proc/self/fd/7".into();
    assert!(refused(sandbox.create(spec).await.map(drop)));
    assert_eq!(sandbox.list().await.unwrap().len(), 1);
    assert_eq!(exec(&sandbox, "c", &["exit", "5"]).await.0.code, 5);
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn exits_are_told() {
    let mut fixture = Fixture::new();
    let sandboxes = [fixture.sandbox("one").await, fixture.sandbox("two").await];
    for (sandbox, id) in sandboxes.iter().zip(["a", "b"]) {
        fixture.start(sandbox, fixture.container(id, &["exit", "0"])).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(match fixture.events.recv().await.unwrap() {
            Event::Started { sandbox, container, .. } => format!("{sandbox}/{container} started"),
            Event::Exited { sandbox, container, exit } => {
                format!("{sandbox}/{container} exited {}", exit.code)
            }
            Event::SandboxDied { sandbox } => format!("{sandbox} died"),
        });
    }
    seen.sort();
    assert_eq!(seen, ["one/a exited 0", "one/a started", "two/b exited 0", "two/b started"]);
    fixture.finish(sandboxes.into()).await;
}
