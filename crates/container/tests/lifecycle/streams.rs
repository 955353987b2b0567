//! What goes in and what comes out: logs, commands, terminals.

use pontoon_container::{ExecSpec, LogConfig, WindowSize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fixture::{Fixture, argv, exec, exec_of};

pub(crate) async fn output_is_logged() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    fixture.run(&sandbox, fixture.container("c", &["say", "hello there"])).await;
    fixture.run(&sandbox, fixture.container("d", &["complain", "oh no"])).await;
    let line = std::fs::read_to_string(fixture.log("c")).unwrap();
    let fields: Vec<_> = line.splitn(4, ' ').collect();
    assert!(fields[0].starts_with("20") && fields[0].ends_with('Z'), "{line}");
    assert_eq!(fields[1..], ["stdout", "F", "hello there\n"]);
    let line = std::fs::read_to_string(fixture.log("d")).unwrap();
    assert!(line.ends_with(" stderr F oh no\n"), "{line}");
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn log_rotates() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    let mut spec = fixture.container("c", &["flood", "5000"]);
    spec.log = LogConfig { path: Some(fixture.log("c")), max_bytes: 100_000, max_files: 3 };
    let exit = fixture.run(&sandbox, spec).await;
    assert_eq!(exit.code, 0);
    let dir = fixture.log("c").parent().unwrap().to_owned();
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        sizes.push(entry.unwrap().metadata().unwrap().len());
    }
    assert_eq!(sizes.len(), 3);
    // One chunk of 32 KiB, each line with its time, is the most that goes over the bound.
    assert!(sizes.iter().all(|size| *size < 160_000), "{sizes:?}");
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn exec_streams() {
    let fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    let spec = ExecSpec { argv: argv(&["echo"]), stdin: true, ..ExecSpec::default() };
    let mut session = sandbox.exec("c", spec).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "got one\ngot two\nend\n");
    assert_eq!(session.exit.wait().await.unwrap().code, 0);
    // Without a stdin it reads the end at once; much output comes whole; errors come by the other stream.
    assert_eq!(exec(&sandbox, "c", &["echo"]).await.1, "end\n");
    let (exit, text) = exec(&sandbox, "c", &["flood", "20000"]).await;
    assert_eq!((exit.code, text.len()), (0, 2_000_000));
    assert_eq!(exec(&sandbox, "c", &["complain", "x"]).await.1, "x\n");
    let absent = ExecSpec { argv: vec!["/absent".into()], ..ExecSpec::default() };
    let error = sandbox.exec("c", absent).await.unwrap_err().to_string();
    assert!(error.contains("/absent") && error.contains("No such file"), "{error}");
    let environment = ExecSpec {
        argv: argv(&["env", "WHAT"]),
        env: vec![("WHAT".into(), "this".into())],
        ..ExecSpec::default()
    };
    assert_eq!(exec_of(&sandbox, "c", environment).await.1, "this\n");
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn exec_terminal() {
    let fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    let spec = ExecSpec { argv: argv(&["tty"]), stdin: true, tty: true, ..ExecSpec::default() };
    let mut session = sandbox.exec("c", spec).await.unwrap();
    assert!(session.stderr.is_none());
    let resize = session.resize.take().unwrap();
    resize.resize(WindowSize { rows: 33, columns: 120 }).unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"go\n\x04").await.unwrap();
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("name=/dev/pts/0 term=xterm\r\n"), "{text}");
    assert!(text.contains("size=33x120\r\n"), "{text}");
    assert_eq!(session.exit.wait().await.unwrap().code, 0);
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn exec_ends_with_its_holder() {
    let fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    fixture.start(&sandbox, fixture.container("c", &["sleep"])).await;
    let spec = ExecSpec { argv: argv(&["sleep"]), ..ExecSpec::default() };
    let mut session = sandbox.exec("c", spec).await.unwrap();
    assert_eq!(sandbox.stats("c").await.unwrap().pids, 2);
    let mut stdout = session.stdout.take().unwrap();
    drop(session);
    // Killed, so its stdout ends.
    assert_eq!(stdout.read(&mut [0; 1]).await.unwrap(), 0);
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn container_terminal() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    let mut spec = fixture.container("c", &["tty"]);
    spec.tty = true;
    fixture.start(&sandbox, spec).await;
    sandbox.resize("c", WindowSize { rows: 5, columns: 6 }).await.unwrap();
    sandbox.attach("c").await.unwrap().write_all(b"go\n\x04").await.unwrap();
    assert_eq!(fixture.exit_of("c").await.code, 0);
    let said = fixture.said("c");
    assert!(said.contains("name=/dev/pts/0 term=xterm") && said.contains("size=5x6"), "{said}");
    fixture.finish(vec![sandbox]).await;
}

pub(crate) async fn attached_stdin() {
    let mut fixture = Fixture::new();
    let sandbox = fixture.sandbox("s").await;
    let mut spec = fixture.container("c", &["echo"]);
    spec.stdin = true;
    fixture.start(&sandbox, spec).await;
    sandbox.attach("c").await.unwrap().write_all(b"first\n").await.unwrap();
    sandbox.attach("c").await.unwrap().write_all(b"second\n").await.unwrap();
    let mut seen = String::new();
    while !seen.contains("second") {
        tokio::task::yield_now().await;
        seen = fixture.said("c");
    }
    assert_eq!(seen, "got first\ngot second\n");
    sandbox.kill("c", libc::SIGKILL).await.unwrap();
    fixture.exit_of("c").await;
    fixture.start(&sandbox, fixture.container("d", &["sleep"])).await;
    assert!(sandbox.attach("d").await.is_err());
    fixture.finish(vec![sandbox]).await;
}
