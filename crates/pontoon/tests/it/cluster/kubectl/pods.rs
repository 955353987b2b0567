//! Inside pods: logs, commands, files; volumes, variables, limits and probes.

use std::process::Command;

use super::{Kubectl, has};
use crate::terminal::Terminal;
use crate::world::{Done, lack, program, wait};

const BOX: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {color: red, file.txt: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: sec}
stringData: {pw: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box}}
spec:
  terminationGracePeriodSeconds: 5
  initContainers:
  - {name: first, image: 'box:1', command: [sh, -c, 'echo made > /data/first'], volumeMounts: [{name: data, mountPath: /data}]}
  containers:
  - name: main
    image: box:1
    command: [sh, -c, 'trap \"echo bye; exit 0\" TERM; for i in 1 2 3; do echo line $i; done; while :; do sleep 0.1; done']
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: conf, key: color}}}
    - {name: PW, valueFrom: {secretKeyRef: {name: sec, key: pw}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    - {name: BOTH, value: '$(COLOR)-$(PW)'}
    envFrom: [{prefix: all_, configMapRef: {name: conf}}, {secretRef: {name: sec}}]
    resources: {requests: {cpu: 100m}, limits: {cpu: 500m, memory: 64Mi}}
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: conf, mountPath: /conf}
    - {name: sec, mountPath: /sec, readOnly: true}
    - {name: host, mountPath: /host}
    - {name: all, mountPath: /all}
  - name: bound
    image: box:1
    command: [sh, -c, 'echo other; while :; do sleep 0.1; done']
    securityContext: {runAsUser: 1000, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes:
  - {name: data, emptyDir: {}}
  - {name: conf, configMap: {name: conf}}
  - {name: sec, secret: {secretName: sec}}
  - {name: host, hostPath: {path: HOST, type: DirectoryOrCreate}}
  - {name: all, projected: {sources: [{configMap: {name: conf}}, {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}}
";

#[test]
fn kubectl_reaches_into_pods() {
    let Some(kubectl) = Kubectl::with_box(&["a"]) else { return };
    let host = kubectl.world.machine_dir("a").join("host");
    kubectl.apply(&BOX.replace("HOST", host.to_str().unwrap()));
    kubectl.run("wait --for=condition=Ready pod/box --timeout=60s");
    logs(&kubectl);
    commands(&kubectl);
    files(&kubectl);
    surroundings(&kubectl);
    assert_eq!(std::fs::read_to_string(host.join("made")).unwrap(), "by the pod\n");
    live_updates(&kubectl);
    farewell(&kubectl);
}

fn logs(kubectl: &Kubectl) {
    assert_eq!(kubectl.run("logs box -c main"), "line 1\nline 2\nline 3\n");
    assert_eq!(kubectl.run("logs box -c main --tail=1"), "line 3\n");
    assert_eq!(kubectl.run("logs box -c main --since=1h --limit-bytes=6"), "line 1");
    has(&kubectl.run("logs -l app=box --all-containers --prefix"), "[pod/box/bound] other");
    has(&kubectl.run("logs box -c main --timestamps"), "Z line 2");
    has(&kubectl.refused("logs box -c nosuch"), "container nosuch is not valid for pod box");
    has(&kubectl.refused("logs box -c main -p"), "previous terminated container");
    has(&kubectl.refused("logs nosuch"), "not found");
}

fn commands(kubectl: &Kubectl) {
    assert_eq!(kubectl.run("exec box -c main -- echo hi"), "hi\n");
    let failed = kubectl.try_run("exec box -c main -- sh -c 'echo out; echo err >&2; exit 7'");
    assert_eq!((failed.out.as_str(), failed.code), ("out\n", Some(7)), "{}", failed.err);
    assert_eq!(failed.err, "err\ncommand terminated with exit code 7\n");
    has(&kubectl.refused("exec box -c main -- nosuch"), "cannot run \"nosuch\"");
    has(&kubectl.refused("exec box -c nosuch -- ls"), "container nosuch is not valid for pod box");
    has(&kubectl.refused("exec nosuch -- ls"), "pods \"nosuch\" not found");
    // More than any buffer on the way holds, there and back.
    let much: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    let echoed = kubectl.fed("exec -i box -c main -- cat", &much).expect_ok();
    assert_eq!(echoed.err, "");
    assert!(echoed.out == much, "{} bytes of {}", echoed.out.len(), much.len());
    let deaf = kubectl.fed("exec -i box -c main -- echo deaf", &much).expect_ok();
    assert_eq!(deaf.out, "deaf\n");
    terminal(kubectl);
}

/// A terminal is there, and the exit code comes through it.
fn terminal(kubectl: &Kubectl) {
    let mut words = vec!["kubectl".to_owned()];
    let command = kubectl.world.kubectl_command("a", &[]);
    words.extend(command.get_args().map(|word| word.to_str().unwrap().to_owned()));
    words
        .push("exec -it box -c main -- sh -c 'test -t 0 && echo on a terminal; exit 3'".to_owned());
    let script = Command::new("script").args(["-qec", &words.join(" "), "/dev/null"]).output();
    let Ok(output) = script else {
        return lack("script is not installed");
    };
    let done = Done::from(output);
    has(&done.out, "on a terminal");
    assert_eq!(done.code, Some(3));
    // Beside the CLI of this project, which asks the same API.
    let mut own = Command::new(program());
    own.arg("--run-dir").arg(kubectl.world.run_dir("a")).args(["exec", "-it", "box", "-c", "main"]);
    for mut command in [own, kubectl.world.kubectl_command("a", &EXEC)] {
        command.args(["--", "sh", "-c", "while busybox stty size; do sleep 0.2; done"]);
        sizes(&command);
    }
}

const EXEC: [&str; 5] = ["exec", "-it", "box", "-c", "main"];

/// The terminal has the size of the user's from the start, takes it over when it changes, and Ctrl-C reaches the program.
fn sizes(command: &Command) {
    let terminal = Terminal::begin(command, (77, 33));
    terminal.wait_for("33 77");
    terminal.resize((101, 44));
    terminal.wait_for("44 101");
    terminal.type_in(b"\x03");
    assert_eq!(terminal.end(), Some(130));
}

fn files(kubectl: &Kubectl) {
    let here = kubectl.world.machine_dir("a");
    let (there, back) = (here.join("there"), here.join("back"));
    std::fs::write(&there, "some text").unwrap();
    kubectl.run(&format!("cp {} box:/tmp/there -c main", there.display()));
    assert_eq!(kubectl.run("exec box -c main -- cat /tmp/there"), "some text");
    // tar in the pod says that it makes names relative.
    let line = format!("cp box:tmp/there {} -c main", back.display());
    kubectl.try_run(&line).expect_ok();
    assert_eq!(std::fs::read_to_string(back).unwrap(), "some text");
}

fn surroundings(kubectl: &Kubectl) {
    let shell = |container: &str, line: &str| {
        let done = kubectl.try_run(&format!("exec box -c {container} -- sh -c '{line}'"));
        // What the command says on standard error is wanted; what kubectl says is not.
        assert!(!done.err.contains("discarding message"), "{line}: {}", done.err);
        done.out
    };
    let variables = shell("main", "echo $COLOR $PW $NODE $MEMORY $BOTH $all_color $pw");
    assert_eq!(variables, "red s3cret a 67108864 red-s3cret red s3cret\n");
    assert_eq!(shell("main", "cat /data/first /conf/file.txt"), "made\nhello");
    has(&shell("main", "cat /all/labels"), "app=\"box\"");
    has(&shell("main", "cat /etc/hosts /etc/resolv.conf"), "default.svc.cluster.local");
    assert_eq!(shell("main", "echo no > /sec/pw || echo kept"), "kept\n");
    let limit =
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null";
    has(&shell("main", limit), "67108864");
    shell("main", "echo by the pod > /host/made");
    assert_eq!(shell("bound", "id -u; touch /x || echo cannot"), "1000\ncannot\n");
    has(&shell("bound", "cat /proc/1/status"), "CapEff:\t0000000000000000");
    has(&shell("bound", "cat /proc/1/status"), "NoNewPrivs:\t1");
    has(&shell("main", "cat /proc/1/status"), "Seccomp:\t2");
}

fn live_updates(kubectl: &Kubectl) {
    kubectl.run(r#"patch cm conf -p '{"data":{"color":"blue"}}'"#);
    kubectl.run(r#"patch secret sec -p '{"stringData":{"pw":"new"}}'"#);
    kubectl.run("label pod box extra=1");
    for (file, wanted) in [
        ("/conf/color", "blue"),
        ("/sec/pw", "new"),
        ("/all/color", "blue"),
        ("/all/labels", "extra"),
    ] {
        wait(&format!("{file} has {wanted}"), || {
            let read = kubectl.try_run(&format!("exec box -c main -- cat {file}"));
            read.out.contains(wanted).then_some(())
        });
    }
}

fn farewell(kubectl: &Kubectl) {
    let follow = std::thread::scope(|scope| {
        let follow = scope.spawn(|| kubectl.run("logs -f box -c main"));
        kubectl.run("delete pod box");
        follow.join().unwrap()
    });
    has(&follow, "line 1");
    has(&follow, "bye");
    let out = kubectl.try_run("run once --image=box:1 --restart=Never --rm -i -- echo out");
    has(&out.expect_ok().out, "out");
}
