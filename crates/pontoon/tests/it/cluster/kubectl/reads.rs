//! What kubectl shows.

use super::{Kubectl, has};

#[test]
fn kubectl_shows_everything_in_every_form() {
    let Some(kubectl) = Kubectl::at(&["a"]) else { return };
    kubectl.run("create deployment web --image=pontoon.local/hello --replicas=2 --port=8080");
    kubectl.run("expose deployment web --port=80 --target-port=8080");
    kubectl.run("rollout status deployment web");
    kubectl.run("create configmap conf --from-literal=color=red");
    kubectl.run("create secret generic sec --from-literal=pw=s3cret");
    has(&kubectl.run("version"), "Server Version: v1.32");
    let resources = kubectl.run("api-resources");
    for kind in [
        "Namespace",
        "Node",
        "Lease",
        "Pod",
        "ReplicaSet",
        "Deployment",
        "DaemonSet",
        "Service",
        "Endpoints",
        "EndpointSlice",
        "ConfigMap",
        "Secret",
        "ServiceAccount",
        "Event",
    ] {
        has(&resources, kind);
    }
    forms(&kubectl);
    descriptions(&kubectl);
    questions(&kubectl);
}

fn forms(kubectl: &Kubectl) {
    has(&kubectl.run("get deployments"), "2/2");
    has(&kubectl.run("get all -o wide"), "pontoon.local/hello");
    has(&kubectl.run("get pods -A -o wide"), "10.244.0.");
    has(&kubectl.run("get deploy web -o yaml"), "kind: Deployment");
    assert_eq!(kubectl.object("deploy web")["status"]["readyReplicas"], 2);
    assert_eq!(kubectl.run("get pods -l app=web -o name").lines().count(), 2);
    assert_eq!(kubectl.run("get pods -l 'app in (web),app!=x' -o name").lines().count(), 2);
    assert_eq!(kubectl.run("get pods -l app=other -o name"), "");
    let on_a =
        kubectl.run("get pods --field-selector=spec.nodeName=a,status.phase=Running -o name");
    assert_eq!(on_a.lines().count(), 2);
    has(&kubectl.run("get pods --show-labels --sort-by=.metadata.name"), "app=web");
    let names = kubectl.run("get pods -o custom-columns=N:.metadata.name,I:.status.podIP");
    has(&names, "10.244.0.");
    has(&kubectl.run("get deploy,rs,svc,endpoints,endpointslices -l app=web"), "service/web");
    let watched = kubectl.run("get pods -w --request-timeout=1s");
    assert_eq!(watched.lines().count(), 3, "{watched}");
    has(&kubectl.refused("get pod nosuch"), "pods \"nosuch\" not found");
    has(&kubectl.refused("get nosuch"), "doesn't have a resource type");
    has(&kubectl.refused("get pods --field-selector=foo=bar"), "field label not supported: foo");
}

fn descriptions(kubectl: &Kubectl) {
    for (what, wanted) in [
        ("node a", "control-plane"),
        ("namespace default", "Active"),
        ("deployment web", "NewReplicaSetAvailable"),
        ("rs", "2 Running"),
        ("pods", "Started container hello"),
        ("service web", "TargetPort:"),
        ("endpoints web", "8080"),
        ("endpointslices", "web-"),
        ("configmap conf", "red"),
        ("secret sec", "6 bytes"),
        ("serviceaccount default", "default"),
        ("events", "Scheduled"),
    ] {
        has(&kubectl.run(&format!("describe {what}")), wanted);
    }
}

fn questions(kubectl: &Kubectl) {
    has(&kubectl.run("explain deployment.spec.replicas"), "Number of desired pods");
    has(&kubectl.run("explain pod.spec.containers.livenessProbe"), "failureThreshold");
    has(&kubectl.run("auth whoami"), "admin");
    assert_eq!(kubectl.run("auth can-i create pods"), "yes\n");
    has(&kubectl.run("events --for deployment/web"), "ScalingReplicaSet");
    assert_eq!(kubectl.run("get --raw /readyz"), "ok");
    has(&kubectl.refused("top nodes"), "Metrics API not available");
    let pod = kubectl.run("get pods -o name").lines().next().unwrap().to_owned();
    has(&kubectl.refused(&format!("port-forward {pod} 1:1")), "portforward is not served");
    has(&kubectl.refused(&format!("attach {pod}")), "attach is not served");
}
