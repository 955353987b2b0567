//! What kubectl changes, and what it is refused.

use std::os::unix::fs::PermissionsExt;

use super::{Kubectl, has, split};
use crate::world::Done;

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: conf, namespace: shop}
data: {a: '1', b: '2'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: main
        image: pontoon.local/hello
        ports: [{containerPort: 8080, name: http}]
        env: [{name: A, value: '1'}, {name: B, valueFrom: {configMapKeyRef: {name: conf, key: b}}}]
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: http}]}
";

#[test]
fn kubectl_changes_what_it_is_told_to() {
    let Some(kubectl) = Kubectl::at(&["a"]) else { return };
    manifests(&kubectl);
    patches(&kubectl);
    edits(&kubectl);
    small_changes(&kubectl);
    malformed(&kubectl);
    deletions(&kubectl);
}

fn manifests(kubectl: &Kubectl) {
    let lines = |text: String, word: &str| {
        assert_eq!(text.lines().filter(|line| line.ends_with(word)).count(), 4, "{word}: {text}");
    };
    lines(kubectl.apply(SHOP), "created");
    lines(kubectl.apply(SHOP), "unchanged");
    let changed = SHOP.replace("{name: A, value: '1'}, ", "").replace("a: '1', ", "");
    let out = kubectl.apply(&changed);
    has(&out, "deployment.apps/api configured");
    has(&out, "configmap/conf configured");
    has(&out, "service/api unchanged");
    let env = kubectl.field("deploy api -n shop", ".spec.template.spec.containers[0].env[*].name");
    assert_eq!(env, "B", "an element of a list that is applied no more is gone");
    assert_eq!(kubectl.field("cm conf -n shop", ".data"), r#"{"b":"2"}"#);
    kubectl.run("rollout status deploy/api -n shop");
    has(&kubectl.fed("create -f -", SHOP).expect_error(), "AlreadyExists");
    has(&kubectl.fed("apply --server-side -f -", SHOP).expect_error(), "server-side apply");
    let dry = kubectl.run("create deployment dry --image=x --dry-run=server -o name");
    assert_eq!(dry, "deployment.apps/dry\n");
    has(&kubectl.refused("get deploy dry"), "not found");
}

fn patches(kubectl: &Kubectl) {
    let replicas = |wanted: &str| {
        assert_eq!(kubectl.field("deploy api -n shop", ".spec.replicas"), wanted);
    };
    kubectl.run(r#"patch deploy api -n shop -p '{"spec":{"replicas":2}}'"#);
    replicas("2");
    let again = kubectl.run(r#"patch deploy api -n shop -p '{"spec":{"replicas":2}}'"#);
    has(&again, "no change");
    kubectl.run(r#"patch deploy api -n shop --type=merge -p '{"spec":{"replicas":3}}'"#);
    replicas("3");
    let step = r#"'[{"op":"replace","path":"/spec/replicas","value":1}]'"#;
    kubectl.run(&format!("patch deploy api -n shop --type=json -p {step}"));
    replicas("1");
    let env = r#"'{"spec":{"template":{"spec":{"containers":[{"name":"main","env":[{"name":"C","value":"3"}]}]}}}}'"#;
    kubectl.run(&format!("patch deploy api -n shop -p {env}"));
    let names =
        kubectl.field("deploy api -n shop", ".spec.template.spec.containers[0].env[*].name");
    assert_eq!(names, "C B", "lists are merged by their keys");
    let test = r#"'[{"op":"test","path":"/spec/replicas","value":9}]'"#;
    kubectl.refused(&format!("patch deploy api -n shop --type=json -p {test}"));
}

/// `kubectl edit` with an editor that replaces one text by another.
fn edit(kubectl: &Kubectl, what: &str, expression: &str) -> Done {
    let editor = kubectl.world.machine_dir("a").join("editor");
    std::fs::write(&editor, format!("#!/bin/sh\nsed -i '{expression}' \"$1\"\n")).unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let words = ["edit", what, "-n", "shop"];
    let mut command = kubectl.world.kubectl_command("a", &words);
    Done::from(command.env("KUBE_EDITOR", editor).output().unwrap())
}

fn edits(kubectl: &Kubectl) {
    let done = edit(kubectl, "deploy/api", "s/replicas: 1$/replicas: 2/").expect_ok();
    has(&done.out, "edited");
    assert_eq!(kubectl.field("deploy api -n shop", ".spec.replicas"), "2");
    let done = edit(kubectl, "deploy/api", "s/nothing/else/").expect_ok();
    has(&done.err, "no changes made");
    let refused = edit(kubectl, "deploy/api", "s/replicas: 2$/replicas: -2/").expect_error();
    has(&refused, "is invalid");
}

fn small_changes(kubectl: &Kubectl) {
    kubectl.run("label deploy api tier=front -n shop");
    has(&kubectl.refused("label deploy api tier=back -n shop"), "already has a value");
    kubectl.run("label deploy api tier=back --overwrite -n shop");
    assert_eq!(kubectl.field("deploy api -n shop", ".metadata.labels.tier"), "back");
    kubectl.run("label deploy api tier- -n shop");
    has(&kubectl.refused("label deploy api 'bad key=1' -n shop"), "Invalid value");
    kubectl.run("annotate deploy api note=hi -n shop");
    kubectl.run("annotate deploy api note- -n shop");
    assert_eq!(kubectl.field("deploy api -n shop", ".metadata.annotations.note"), "");
    kubectl.run("scale deploy api --replicas=3 -n shop");
    has(
        &kubectl.refused("scale deploy api --replicas=1 --current-replicas=9 -n shop"),
        "Expected replicas",
    );
    kubectl.run("wait --for=jsonpath={.status.readyReplicas}=3 deploy/api -n shop --timeout=60s");
    kubectl.run("wait --for=condition=Available deploy/api -n shop --timeout=60s");
    kubectl.run("set env deploy/api X=y -n shop");
    has(&kubectl.run("set env deploy/api --list -n shop"), "X=y");
    kubectl.run("set image deploy/api main=pontoon.local/hello:latest -n shop");
    kubectl.run("set resources deploy/api --limits=cpu=500m,memory=64Mi -n shop");
    kubectl.run("rollout status deploy/api -n shop");
    kubectl.run("expose deploy api --name=api2 --port=81 --target-port=8080 -n shop");
    kubectl.run("wait --for=jsonpath={.subsets[0].ports[0].port}=8080 endpoints/api2 -n shop");
    let stale = kubectl.refused("label deploy api z=1 --resource-version=1 -n shop");
    has(&stale, "the object has been modified");
}

fn malformed(kubectl: &Kubectl) {
    let pod = |spec: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec: {{{spec}}}\n")
    };
    for (manifest, wanted) in [
        (pod("containers: []"), "spec.containers: Required value"),
        (pod("containers: {name: a}"), "cannot be handled as a Pod"),
        (pod("containers: [{name: a, image: b}], bogus: 1"), r#"unknown field "spec.bogus""#),
        (pod("containers: [{name: a, image: b}, {name: a, image: b}]"), "Duplicate value"),
        (
            pod("containers: [{name: a, image: b, ports: [{containerPort: 99999}]}]"),
            "must be between 1 and 65535",
        ),
        (
            pod("containers: [{name: a, image: b, resources: {limits: {cpu: zz}}}]"),
            "quantities must match",
        ),
        (
            pod("containers: [{name: a, image: b, volumeMounts: [{name: nosuch, mountPath: /x}]}]"),
            "Not found",
        ),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: X_}\n".to_owned(), "RFC 1123"),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: nosuch}\n".to_owned(),
            "namespaces \"nosuch\" not found",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 0}]}\n"
                .to_owned(),
            "spec.ports[0].port",
        ),
        ("apiVersion: v2\nkind: Pod\nmetadata: {name: x}\n".to_owned(), "no matches for kind"),
    ] {
        has(&kubectl.not_applied(&manifest), wanted);
    }
}

fn deletions(kubectl: &Kubectl) {
    let forced = kubectl
        .world
        .kubectl("a", &split("delete pods -l app=api --force --grace-period=0 -n shop"));
    has(&forced.expect_ok().out, "force deleted");
    kubectl.run("rollout status deploy/api -n shop");
    for name in ["c1", "c2", "c3"] {
        kubectl.run(&format!("create configmap {name} -n shop"));
    }
    kubectl.run("label configmap c2 z=1 -n shop");
    kubectl.run("delete configmap -l z=1 -n shop");
    kubectl.run("delete configmap c1 -n shop");
    kubectl.run("delete configmap c1 --ignore-not-found -n shop");
    kubectl.run("delete configmap --all -n shop");
    assert_eq!(kubectl.run("get configmaps -n shop -o name"), "");
    has(&kubectl.refused("delete configmap c1 -n shop"), "not found");
    kubectl.run("delete namespace shop");
    has(&kubectl.refused("get namespace shop"), "not found");
    has(&kubectl.refused("delete namespace default"), "may not be deleted");
    // Again and again: nothing of the last time is in the way.
    for _ in 0..3 {
        kubectl.apply(SHOP);
        kubectl.run("delete namespace shop");
    }
    kubectl.run("wait --for=delete namespace/shop --timeout=60s");
}
