//! What `kubectl` writes: create, apply, edit, patch, label, annotate, scale, expose, rollout, delete.

use std::os::unix::fs::PermissionsExt;

use pontoon_model::resource::{DEPLOYMENTS, SERVICES};
use pontoon_objects::{Sub, WriteOptions};
use serde_json::{Value, json};

use super::kubectl::Kubectl;

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: main
        image: pontoon.local/hello:1
        env:
        - {name: A, value: '1'}
        - {name: B, value: '2'}
        ports:
        - containerPort: 8080
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  key: value
";

async fn deployment(kubectl: &Kubectl) -> Value {
    let found = kubectl.cluster.objects.get(DEPLOYMENTS, Some("default"), "web").await.unwrap();
    found.value().unwrap()
}

#[tokio::test]
async fn apply_again_and_with_changes() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let told = kubectl.ok_with("apply -f -", MANIFEST).await;
    assert_eq!(
        told,
        "deployment.apps/web created\nservice/web created\nconfigmap/settings created\n"
    );
    let told = kubectl.ok_with("apply -f -", MANIFEST).await;
    assert_eq!(
        told,
        "deployment.apps/web unchanged\nservice/web unchanged\nconfigmap/settings unchanged\n"
    );
    let changed = MANIFEST
        .replace("hello:1", "hello:2")
        .replace("        - {name: B, value: '2'}\n", "        - {name: C, value: '3'}\n")
        .replace("key: value", "other: value");
    let told = kubectl.ok_with("diff -f -", MANIFEST).await;
    assert_eq!(told, "");
    let told = kubectl.ok_with("apply -f -", &changed).await;
    assert_eq!(
        told,
        "deployment.apps/web configured\nservice/web unchanged\nconfigmap/settings configured\n"
    );
    let now = deployment(&kubectl).await;
    let container = &now["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "pontoon.local/hello:2");
    let names: Vec<&Value> =
        container["env"].as_array().unwrap().iter().map(|e| &e["name"]).collect();
    assert_eq!(names, ["A", "C"]);
    assert_eq!(kubectl.ok("get cm settings -o jsonpath={.data}").await, "{\"other\":\"value\"}");
    let told = kubectl.ok_with("apply --dry-run=server -f -", MANIFEST).await;
    assert!(told.contains("deployment.apps/web configured (server dry run)"), "{told}");
    assert_eq!(deployment(&kubectl).await, now);
    let told = kubectl.ok_with("delete -f -", MANIFEST).await;
    assert!(told.contains("deployment.apps \"web\" deleted"), "{told}");
}

#[tokio::test]
async fn what_is_wrong_with_a_manifest_is_told() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let refused = async |manifest: &str| {
        let output = kubectl.run(&["apply", "-f", "-"], manifest).await;
        assert!(!output.ok, "{}", output.stdout);
        output.stderr
    };
    let misspelt = MANIFEST.replace("replicas: 2", "replicsa: 2");
    let told = refused(&misspelt).await;
    assert!(told.contains("unknown field \"spec.replicsa\""), "{told}");
    let nameless = MANIFEST.replace("        image: pontoon.local/hello:1\n", "");
    assert!(refused(&nameless).await.contains("image"), "no image");
    let other_selector = MANIFEST.replace("matchLabels: {app: web}", "matchLabels: {app: other}");
    assert!(refused(&other_selector).await.contains("selector"), "selector and labels differ");
    let told = refused(&MANIFEST.replace("kind: ConfigMap", "kind: NoSuch")).await;
    assert!(told.contains("no matches for kind \"NoSuch\""), "{told}");
    let told = kubectl.run(&["apply", "--server-side", "-f", "-"], MANIFEST).await.stderr;
    assert!(told.contains("server-side apply is not served"), "{told}");
    kubectl.run(&["apply", "-f", "-"], MANIFEST).await;
    let told = kubectl.run(&["create", "-f", "-"], MANIFEST).await.stderr;
    assert!(told.contains("(AlreadyExists)"), "{told}");
}

#[tokio::test]
async fn edit_patch_label_and_annotate() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok_with("create -f -", MANIFEST).await;
    let editor = kubectl.home.path().join("editor");
    let script =
        "#!/bin/sh\nsed -i -e 's/replicas: 2/replicas: 3/' -e 's/hello:1/hello:9/' \"$1\"\n";
    std::fs::write(&editor, script).unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(kubectl.ok("edit deployment web").await, "deployment.apps/web edited\n");
    let now = deployment(&kubectl).await;
    assert_eq!(now["spec"]["replicas"], 3);
    assert_eq!(now["spec"]["template"]["spec"]["containers"][0]["image"], "pontoon.local/hello:9");
    let strategic =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"side"}]}}}}"#;
    kubectl.ok_args(&["patch", "deploy", "web", "-p", strategic], "").await;
    let containers = deployment(&kubectl).await["spec"]["template"]["spec"]["containers"].clone();
    assert_eq!(containers.as_array().unwrap().len(), 2);
    kubectl.ok("patch deploy web --type=merge -p {\"spec\":{\"replicas\":5}}").await;
    assert_eq!(deployment(&kubectl).await["spec"]["replicas"], 5);
    let json = r#"[{"op":"test","path":"/spec/replicas","value":5},{"op":"replace","path":"/spec/replicas","value":6}]"#;
    kubectl.ok_args(&["patch", "deploy", "web", "--type=json", "-p", json], "").await;
    assert_eq!(deployment(&kubectl).await["spec"]["replicas"], 6);
    let stale = kubectl.run(&["patch", "deploy", "web", "--type=json", "-p", json], "").await;
    assert!(!stale.ok);
    assert_eq!(
        kubectl.ok("label deploy web tier=front app-").await,
        "deployment.apps/web labeled\n"
    );
    kubectl.ok("annotate deploy web note=seen").await;
    let now = deployment(&kubectl).await;
    assert_eq!(now["metadata"]["labels"], json!({"tier": "front"}));
    assert_eq!(now["metadata"]["annotations"]["note"], "seen");
    let told = kubectl.fails("label deploy web tier=back").await;
    assert!(told.contains("already has a value"), "{told}");
    kubectl.ok("set image deployment/web main=pontoon.local/hello:10").await;
    let replaced = kubectl.ok_with("replace -f -", MANIFEST).await;
    assert!(replaced.contains("deployment.apps/web replaced"), "{replaced}");
}

#[tokio::test]
async fn scale_and_expose() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("create deployment web --image=pontoon.local/hello").await;
    assert_eq!(
        kubectl.ok("scale deployment web --replicas=4").await,
        "deployment.apps/web scaled\n"
    );
    assert_eq!(deployment(&kubectl).await["spec"]["replicas"], 4);
    let told = kubectl.fails("scale deployment web --current-replicas=1 --replicas=2").await;
    assert!(told.contains("Expected replicas to be 1, was 4"), "{told}");
    kubectl.ok("scale deployment web --current-replicas=4 --replicas=2").await;
    assert_eq!(deployment(&kubectl).await["spec"]["replicas"], 2);
    let told =
        kubectl.ok("expose deployment web --port=80 --target-port=8080 --type=NodePort").await;
    assert_eq!(told, "service/web exposed\n");
    let service = kubectl.cluster.objects.get(SERVICES, Some("default"), "web").await.unwrap();
    assert_eq!(service.value().unwrap()["spec"]["selector"], json!({"app": "web"}));
    assert_eq!(
        kubectl.ok("run one --image=pontoon.local/hello --restart=Never").await,
        "pod/one created\n"
    );
}

#[tokio::test]
async fn rollouts() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok_with("apply -f -", MANIFEST).await;
    let objects = &kubectl.cluster.objects;
    let owner = deployment(&kubectl).await;
    kubectl.cluster.create("/apis/apps/v1/namespaces/default/replicasets", json!({
        "metadata": {"name": "web-1", "labels": {"app": "web"},
            "annotations": {"deployment.kubernetes.io/revision": "1", "kubernetes.io/change-cause": "first"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "controller": true,
                "uid": owner["metadata"]["uid"]}]},
        "spec": {"replicas": 2, "selector": owner["spec"]["selector"], "template": owner["spec"]["template"]}})).await;
    let history = kubectl.ok("rollout history deployment/web").await;
    assert!(history.contains("first"), "{history}");
    let finished = async {
        let status = json!({"metadata": {"name": "web"}, "status": {"observedGeneration": owner["metadata"]["generation"],
            "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
            "conditions": [{"type": "Available", "status": "True"}]}});
        let options = WriteOptions::default();
        objects
            .update(DEPLOYMENTS, Some("default"), "web", status, Sub::Status, &options)
            .await
            .unwrap();
    };
    let (told, ()) =
        tokio::join!(kubectl.ok("rollout status deployment/web --timeout=60s"), finished);
    assert!(told.contains("successfully rolled out"), "{told}");
    assert_eq!(
        kubectl.ok("rollout restart deployment/web").await,
        "deployment.apps/web restarted\n"
    );
    let annotations = &deployment(&kubectl).await["spec"]["template"]["metadata"]["annotations"];
    assert!(annotations["kubectl.kubernetes.io/restartedAt"].is_string());
    kubectl.ok("rollout pause deployment/web").await;
    kubectl.ok("rollout resume deployment/web").await;
}

#[tokio::test]
async fn deletes() {
    let Some(kubectl) = Kubectl::start().await else { return };
    for name in ["a", "b", "c"] {
        kubectl.ok(&format!("create configmap {name} --from-literal=k=v")).await;
    }
    kubectl.ok("label configmap a b group=x").await;
    assert_eq!(kubectl.ok("delete configmap c").await, "configmap \"c\" deleted\n");
    kubectl.ok("delete configmap -l group=x").await;
    assert_eq!(kubectl.ok("get configmap a b --ignore-not-found").await, "");
    assert!(kubectl.fails("delete configmap a").await.contains("(NotFound)"));
    assert_eq!(kubectl.ok("delete configmap a --ignore-not-found").await, "");
    kubectl.ok("create configmap d --from-literal=k=v").await;
    kubectl.ok("delete configmap --all --now").await;
    assert_eq!(kubectl.ok("get configmap -o name").await, "");
}
