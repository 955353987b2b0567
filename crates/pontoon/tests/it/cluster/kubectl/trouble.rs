//! What goes wrong in pods is told, and what can be mended is.

use super::{Kubectl, has};

fn pod(name: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: main, {container}}}\n---\n"
    )
}

#[test]
fn what_goes_wrong_in_a_pod_is_told() {
    let Some(kubectl) = Kubectl::with_box(&["a"]) else { return };
    let all = [
        pod("crash", "image: 'box:1', command: [sh, -c, 'echo run; exit 3']"),
        pod(
            "memory",
            "image: 'box:1', command: [tail, /dev/zero], resources: {limits: {memory: 16Mi}}",
        ),
        pod("noimage", "image: 'registry.invalid/nosuch:1'"),
        pod("badname", "image: 'Not/A/Name:'"),
        pod("never", "image: nosuch, imagePullPolicy: Never"),
        pod("noprogram", "image: 'box:1', command: [/nosuch]"),
        pod(
            "later",
            "image: 'box:1', command: [sleep, '1000'], env: [{name: K, valueFrom: {configMapKeyRef: {name: later, key: k}}}]",
        ),
        pod(
            "root",
            "image: 'box:1', command: [sleep, '1000'], securityContext: {runAsNonRoot: true}",
        ),
        pod(
            "deaf",
            "image: pontoon.local/hello, livenessProbe: {tcpSocket: {port: 9}, periodSeconds: 1, failureThreshold: 1}",
        ),
        pod(
            "late",
            "image: pontoon.local/hello, startupProbe: {httpGet: {path: /, port: 9}, periodSeconds: 1, failureThreshold: 1}",
        ),
    ];
    kubectl.apply(&all.concat());
    ends(&kubectl);
    images(&kubectl);
    settings(&kubectl);
    probes(&kubectl);
    kubectl.try_run("delete pods --all --force --grace-period=0").expect_ok();
    kubectl.run("wait --for=delete pod --all --timeout=60s");
}

const WAITING: &str = ".status.containerStatuses[0].state.waiting.reason";

fn ends(kubectl: &Kubectl) {
    kubectl.wait_event("BackOff", "crash");
    kubectl.wait_field("pod crash", WAITING, "CrashLoopBackOff");
    assert_eq!(kubectl.run("logs crash -p"), "run\n");
    let last = ".status.containerStatuses[0].lastState.terminated";
    assert_eq!(kubectl.field("pod crash", &format!("{last}.exitCode")), "3");
    kubectl.wait_field("pod memory", &format!("{last}.reason"), "OOMKilled");
    has(&kubectl.wait_event("Failed", "noprogram"), "cannot run \"/nosuch\"");
}

fn images(kubectl: &Kubectl) {
    has(&kubectl.wait_event("Failed", "noimage"), "Failed to pull image");
    kubectl.wait_event("BackOff", "noimage");
    kubectl.wait_field("pod noimage", WAITING, "ImagePullBackOff");
    kubectl.wait_field("pod badname", WAITING, "InvalidImageName");
    kubectl.wait_field("pod never", WAITING, "ErrImageNeverPull");
    has(&kubectl.refused("logs noimage"), "trying and failing to pull image");
    // An image that is corrected is pulled anew.
    kubectl.run("set image pod/noimage main=pontoon.local/hello");
    kubectl.run("wait --for=condition=Ready pod/noimage --timeout=90s");
}

fn settings(kubectl: &Kubectl) {
    has(&kubectl.wait_event("Failed", "later"), "configmap \"later\" not found");
    kubectl.wait_field("pod later", WAITING, "CreateContainerConfigError");
    kubectl.run("create configmap later --from-literal=k=v");
    kubectl.run("wait --for=condition=Ready pod/later --timeout=90s");
    has(&kubectl.wait_event("Failed", "root"), "runAsNonRoot");
}

fn probes(kubectl: &Kubectl) {
    has(&kubectl.wait_event("Unhealthy", "deaf"), "Liveness probe failed");
    has(&kubectl.wait_event("Killing", "deaf"), "failed liveness probe, will be restarted");
    has(&kubectl.wait_event("Unhealthy", "late"), "Startup probe failed");
    kubectl.apply(&pod(
        "probed",
        "image: 'box:1', command: [sleep, '1000'], readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}",
    ));
    kubectl.run("expose pod probed --port=80");
    has(&kubectl.wait_event("Unhealthy", "probed"), "Readiness probe failed");
    let addresses = ".subsets[*].addresses[*].ip";
    assert_eq!(kubectl.field("endpoints probed", addresses), "");
    kubectl.run("exec probed -- touch /tmp/ready");
    kubectl.run("wait --for=condition=Ready pod/probed --timeout=60s");
    let own = kubectl.field("pod probed", ".status.podIP");
    kubectl.wait_field("endpoints probed", addresses, &own);
    kubectl.run("exec probed -- rm /tmp/ready");
    kubectl.run("wait --for=condition=Ready=false pod/probed --timeout=60s");
    kubectl.wait_field("endpoints probed", addresses, "");
}
