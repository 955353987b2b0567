//! Nodes: cordon, drain, taints and labels, and the pods that each node has.

use std::path::Path;

use super::{Kubectl, has};
use crate::world::wait;

const AGENT: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: pontoon.local/hello}]
";

#[test]
fn kubectl_looks_after_nodes() {
    let Some(kubectl) = Kubectl::at(&["a", "b"]) else { return };
    leases(&kubectl);
    api_service(&kubectl);
    kubectl.apply(AGENT);
    kubectl.run("rollout status ds/agent");
    kubectl.run("set env ds/agent X=1");
    kubectl.run("rollout status ds/agent");
    kubectl.run("rollout restart ds/agent");
    kubectl.run("rollout status ds/agent");
    has(&kubectl.run("describe ds agent"), "Number of Nodes Scheduled with Available Pods: 2");
    revisions(&kubectl);
    cordon_and_drain(&kubectl);
    taints(&kubectl);
    selectors(&kubectl);
    cgroups(&kubectl);
}

/// The three changes so far, and the way back.
fn revisions(kubectl: &Kubectl) {
    let history = kubectl.run("rollout history ds/agent");
    for line in ["\n1 ", "\n2 ", "\n3 "] {
        has(&history, line);
    }
    has(&kubectl.run("rollout history ds/agent --revision=2"), "X:\t1");
    kubectl.run("rollout undo ds/agent --to-revision=1");
    kubectl.run("rollout status ds/agent");
    assert_eq!(kubectl.field("ds agent", ".spec.template.spec.containers[0].env"), "");
    has(&kubectl.run("get controllerrevisions"), "daemonset.apps/agent");
    let history = kubectl.run("rollout history ds/agent");
    assert!(history.contains("\n4 ") && !history.contains("\n1 "), "{history}");
    has(&kubectl.run("rollout undo ds/agent"), "rolled back");
    kubectl.run("rollout status ds/agent");
    has(&kubectl.run("rollout history ds/agent"), "\n5 ");
}

/// A node that cannot limit pods says so, takes none, and is ready again when it can.
fn cgroups(kubectl: &Kubectl) {
    let memory = "/sys/fs/cgroup/memory";
    let mount = if Path::new(memory).exists() { memory } else { "/sys/fs/cgroup" };
    let remount = |how: &str| {
        let how = format!("remount,bind,{how}");
        kubectl.world.inside("b", &["/bin/mount", "-o", &how, mount]).expect_ok();
    };
    let ready = ".status.conditions[?(@.type==\"Ready\")]";
    remount("ro");
    kubectl.wait_field("node b", &format!("{ready}.reason"), "CgroupsNotReady");
    has(&kubectl.field("node b", &format!("{ready}.message")), "mount -o remount,rw");
    kubectl.run("run late --image=pontoon.local/hello --overrides={\"spec\":{\"nodeSelector\":{\"disk\":\"ssd\"}}}");
    has(&kubectl.wait_event("FailedScheduling", "late"), "node.kubernetes.io/not-ready");
    remount("rw");
    kubectl.wait_field("node b", &format!("{ready}.status"), "True");
    kubectl.run("wait --for=condition=Ready pod/late --timeout=60s");
}

/// The API is where programs in pods look for it: at an address and a name that its certificate has.
fn api_service(kubectl: &Kubectl) {
    kubectl.wait_field("svc kubernetes", ".spec.clusterIP", "10.96.0.1");
    let managers = kubectl.field("nodes", ".items[*].status.addresses[0].address");
    kubectl.wait_field("endpoints kubernetes", ".subsets[0].addresses[*].ip", &managers);
    let config = kubectl.world.data_dir("a").join("admin.kubeconfig");
    let at = |server: &str| {
        let words = ["kubectl", "--kubeconfig", config.to_str().unwrap(), "--server", server];
        kubectl.world.inside("b", &[&words[..], &["get", "--raw", "/readyz"]].concat())
    };
    wait("the service leads to a manager", || at("https://10.96.0.1").ok.then_some(()));
}

/// The leader tells of every node when it was last known to be alive.
fn leases(kubectl: &Kubectl) {
    for node in ["a", "b"] {
        let described = wait("the node has a lease", || {
            let described = kubectl.run(&format!("describe node {node}"));
            described.contains("HolderIdentity").then_some(described)
        });
        has(&described, &format!("HolderIdentity:  {node}"));
        let lease = format!("-n kube-node-lease lease {node}");
        let (uid, owner) = (".metadata.uid", ".metadata.ownerReferences[0].uid");
        assert_eq!(kubectl.field(&lease, owner), kubectl.field(&format!("node {node}"), uid));
        let renewed = kubectl.field(&lease, ".spec.renewTime");
        wait("the lease is renewed", || {
            (kubectl.field(&lease, ".spec.renewTime") > renewed).then_some(())
        });
    }
}

fn cordon_and_drain(kubectl: &Kubectl) {
    kubectl.run("cordon b");
    has(&kubectl.run("get nodes"), "Ready,SchedulingDisabled");
    kubectl.run("create deployment web --image=pontoon.local/hello --replicas=2");
    kubectl.run("rollout status deploy/web");
    assert_eq!(kubectl.field("pods -l app=web", ".items[*].spec.nodeName"), "a a");
    kubectl.run("uncordon b");
    has(&kubectl.refused("drain a"), "cannot delete DaemonSet-managed Pods");
    let drained = kubectl.try_run("drain a --ignore-daemonsets --timeout=60s").expect_ok();
    has(&drained.out, "node/a drained");
    wait("the pods run on the other node", || {
        let nodes = kubectl.try_run("get pods -l app=web -o jsonpath={.items[*].spec.nodeName}");
        (nodes.out == "b b").then_some(())
    });
    kubectl.run("rollout status deploy/web");
    kubectl.run("uncordon a");
    has(&kubectl.run("uncordon a"), "already uncordoned");
}

fn taints(kubectl: &Kubectl) {
    kubectl.run("taint node a keep=out:NoExecute");
    let agents = "pods -l app=agent";
    kubectl.wait_field(agents, ".items[*].spec.nodeName", "b");
    has(&kubectl.refused("taint node a keep=out:NoExecute"), "--overwrite is false");
    let tolerate =
        r#"'{"spec":{"template":{"spec":{"tolerations":[{"key":"keep","operator":"Exists"}]}}}}'"#;
    kubectl.run(&format!("patch ds agent -p {tolerate}"));
    kubectl.run("rollout status ds/agent");
    assert_eq!(kubectl.field("ds agent", ".status.numberReady"), "2");
    kubectl.run("taint node a keep-");
}

fn selectors(kubectl: &Kubectl) {
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: choosy}
spec:
  nodeSelector: {disk: ssd}
  containers: [{name: main, image: pontoon.local/hello}]
";
    kubectl.apply(pod);
    let why = kubectl.wait_event("FailedScheduling", "choosy");
    has(&why, "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.");
    kubectl.run("label node b disk=ssd");
    kubectl.run("wait --for=condition=Ready pod/choosy --timeout=60s");
    assert_eq!(kubectl.field("pod choosy", ".spec.nodeName"), "b");
    let big = pod.replace("choosy", "big").replace("nodeSelector: {disk: ssd}", "nodeName: ''");
    let big = big.replace("hello}]", "hello, resources: {requests: {cpu: '900'}}}]");
    kubectl.apply(&big);
    has(&kubectl.wait_event("FailedScheduling", "big"), "2 Insufficient cpu.");
    let port = "
apiVersion: v1
kind: Pod
metadata: {name: port1}
spec:
  nodeSelector: {disk: ssd}
  containers: [{name: main, image: pontoon.local/hello, ports: [{containerPort: 8080, hostPort: 18080}]}]
";
    kubectl.apply(port);
    kubectl.run("wait --for=condition=Ready pod/port1 --timeout=60s");
    kubectl.apply(&port.replace("port1", "port2"));
    has(&kubectl.wait_event("FailedScheduling", "port2"), "1 node(s) didn't have free ports");
    let node = kubectl.field("pod port1", ".status.hostIP");
    let url = format!("http://{node}:18080/");
    let program = crate::world::program().to_str().unwrap();
    wait("the host's port leads to the pod", || {
        let done = kubectl.world.inside("a", &[program, "hello", "get", &url]);
        done.out.contains("\"pod\":\"port1\"").then_some(())
    });
}
