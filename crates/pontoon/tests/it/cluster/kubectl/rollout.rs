//! Rolling updates, and that nobody who asks the service notices them.

use super::{Kubectl, has};
use crate::world::wait;

const FRONT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  replicas: 3
  selector: {matchLabels: {app: front}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: front}}
    spec:
      containers:
      - name: main
        image: pontoon.local/hello
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: front}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: asker}
spec:
  containers:
  - name: asker
    image: pontoon.local/hello
    command: [/pontoon, hello, get, 'http://front/', --times, '1000000']
";

#[test]
fn rolling_updates_lose_no_request() {
    let Some(kubectl) = Kubectl::at(&["a", "b"]) else { return };
    kubectl.apply(FRONT);
    kubectl.run("rollout status deploy/front");
    // From here on each answer counts; what was asked before the service was there does not.
    kubectl.run("delete pod asker --grace-period=1");
    let asker = FRONT.split("---").last().unwrap();
    kubectl.apply(asker);
    wait("the service answers", || answered(&kubectl, 1));
    kubectl.run("rollout restart deploy/front");
    kubectl.run("rollout status deploy/front");
    kubectl.run("set env deploy/front X=1");
    kubectl.run("rollout status deploy/front");
    kubectl.run("scale deploy/front --replicas=1");
    kubectl.run("wait --for=jsonpath={.status.replicas}=1 deploy/front --timeout=60s");
    wait("the service still answers", || answered(&kubectl, 50));
    let lost = kubectl.run("logs asker --tail=-1");
    let lost: Vec<&str> = lost.lines().filter(|line| line.starts_with("error")).collect();
    assert!(lost.is_empty(), "{lost:?}");
    history(&kubectl);
}

fn answered(kubectl: &Kubectl, least: usize) -> Option<()> {
    let log = kubectl.try_run("logs asker").out;
    (log.lines().filter(|line| line.contains("\"pod\":\"front-")).count() >= least).then_some(())
}

fn history(kubectl: &Kubectl) {
    let env = "deploy front -o jsonpath={.spec.template.spec.containers[0].env[*].value}";
    let history = kubectl.run("rollout history deploy/front");
    has(&history, "REVISION");
    assert_eq!(history.lines().filter(|line| line.starts_with(char::is_numeric)).count(), 3);
    has(&kubectl.run("rollout history deploy/front --revision=3"), "X:");
    kubectl.run("rollout undo deploy/front");
    kubectl.run("rollout status deploy/front");
    assert_eq!(kubectl.run(&format!("get {env}")), "");
    kubectl.run("rollout undo deploy/front --to-revision=3");
    assert_eq!(kubectl.run(&format!("get {env}")), "1");
    kubectl.run("rollout pause deploy/front");
    has(&kubectl.refused("rollout pause deploy/front"), "already paused");
    kubectl.run("set env deploy/front X=2");
    kubectl.run("wait --for=jsonpath={.status.conditions[?(@.type==\"Progressing\")].reason}=DeploymentPaused deploy/front");
    kubectl.run("rollout resume deploy/front");
    kubectl.run("rollout status deploy/front");
    let current = kubectl.run("get pods -l app=front --field-selector=status.phase=Running -o jsonpath={.items[*].spec.containers[0].env[0].value}");
    has(&current, "2");
}
