//! A registry that asks for a password: pods that bring it get their image, and others do not.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{BUSYBOX, Kubectl, has, is_installed};
use crate::world::{Done, has_kubectl, machines_with, text, wait};

const REGISTRY: &str = "/usr/bin/docker-registry";
const ADDRESS: &str = "127.0.0.1:5000";
const IMAGE: &str = "127.0.0.1:5000/team/box:1";
/// `me`, with the password `open sesame`, as bcrypt.
const HTPASSWD: &str = "me:$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n";

fn pod(name: &str, policy: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  {more}\n  containers:\n  - {{name: main, image: '{IMAGE}', imagePullPolicy: {policy}, command: [sleep, '1000']}}\n"
    )
}

/// Puts an image of a machine into a registry's directory, as `team/box:1`.
fn fill(root: &Path, images: &Path, manifest: &str) {
    let repository = root.join("docker/registry/v2/repositories/team/box");
    let link = |at: &str, digest: &str| {
        let at = repository.join(at);
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("link"), digest).unwrap();
    };
    let blob = |digest: &str| -> Vec<u8> {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let bytes = fs::read(images.join("blobs/sha256").join(hex)).unwrap();
        let to = root.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex);
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("data"), &bytes).unwrap();
        bytes
    };
    let hex = manifest.strip_prefix("sha256:").unwrap();
    let parts: Value = serde_json::from_slice(&blob(manifest)).unwrap();
    let layers = parts["layers"].as_array().unwrap();
    for part in layers.iter().chain([&parts["config"]]) {
        let digest = text(&part["digest"]);
        blob(&digest);
        link(&format!("_layers/sha256/{}", digest.strip_prefix("sha256:").unwrap()), &digest);
    }
    link(&format!("_manifests/revisions/sha256/{hex}"), manifest);
    link("_manifests/tags/1/current", manifest);
    link(&format!("_manifests/tags/1/index/sha256/{hex}"), manifest);
}

/// A cluster of one that reaches the registry over plain HTTP; the registry is not running yet.
fn prepared() -> Option<Kubectl> {
    if !has_kubectl() || !is_installed(REGISTRY) || !is_installed(BUSYBOX) {
        return None;
    }
    let world = machines_with(&["a"], "PONTOON_INSECURE_REGISTRY", ADDRESS)?;
    world.on("a", &["init"]).expect_ok();
    world.wait_for_nodes("a", 1);
    let kubectl = Kubectl { world };
    let archive = super::box_archive(&kubectl.world);
    let made = kubectl.world.json("a", &["image", "import", &archive, "box:1"]);
    let dir = kubectl.world.machine_dir("a");
    let images = kubectl.world.data_dir("a").join("images");
    fill(&dir.join("registry"), &images, &text(&made["digest"]));
    kubectl.world.on("a", &["image", "rm", "box:1"]).expect_ok();
    fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{0}/registry'}}}}\nhttp: {{addr: '{ADDRESS}'}}\nauth: {{htpasswd: {{realm: r, path: '{0}/htpasswd'}}}}\n",
        dir.display()
    );
    fs::write(dir.join("registry.yml"), config).unwrap();
    Some(kubectl)
}

#[test]
fn a_private_image_is_for_those_who_have_the_password() {
    let Some(kubectl) = prepared() else { return };
    let config = kubectl.world.machine_dir("a").join("registry.yml");
    let begin = || kubectl.world.begin_inside("a", &[REGISTRY, "serve", config.to_str().unwrap()]);
    let mut registry = begin();
    by_hand(&kubectl);
    by_secret(&kubectl);
    by_account(&kubectl);
    kubectl.try_run("delete pods --all --force --grace-period=0").expect_ok();
    registry.kill().ok();
    registry.wait().unwrap();
    // What the machine was made with, its daemon is told at every start.
    kubectl.world.host(&["machine", "stop", "a"]).expect_ok();
    kubectl.world.start("a");
    let mut registry = begin();
    wait("the registry without TLS is asked again", || {
        pull(&kubectl, "open sesame\n").ok.then_some(())
    });
    registry.kill().ok();
    registry.wait().unwrap();
}

fn pull(kubectl: &Kubectl, password: &str) -> Done {
    let words = ["image", "pull", IMAGE, "--username", "me", "--password-stdin"];
    kubectl.world.fed("a", &words, password)
}

fn by_hand(kubectl: &Kubectl) {
    let pull = |password: &str| pull(kubectl, password);
    let refused = wait("the registry answers", || {
        Some(pull("wrong\n").expect_error()).filter(|error| error.contains("denies"))
    });
    has(&refused, "asked as \"me\"");
    has(&kubectl.world.on("a", &["image", "pull", IMAGE]).expect_error(), "without credentials");
    has(&pull("").expect_error(), "standard input holds no password");
    pull("open sesame\n").expect_ok();
    kubectl.world.on("a", &["image", "rm", IMAGE]).expect_ok();
}

fn by_secret(kubectl: &Kubectl) {
    kubectl.apply(&pod("stranger", "IfNotPresent", ""));
    has(&kubectl.wait_event("Failed", "stranger"), "asked without credentials");
    kubectl.apply(&pod("late", "Always", "imagePullSecrets: [{name: key}]"));
    let missing = kubectl.wait_event("FailedToRetrieveImagePullSecret", "late");
    has(&missing, "secret default/key: there is no such secret");
    // The secret comes, and whoever names it need not wait for its next turn.
    kubectl.run(
        "create secret docker-registry key --docker-server=http://127.0.0.1:5000/v2/ --docker-username=me '--docker-password=open sesame'",
    );
    kubectl.run("wait --for=condition=Ready pod/late --timeout=60s");
    // It is here now. Who asks the registry is refused all the same; who does not ask gets it, as in Kubernetes.
    kubectl.apply(&pod("asks", "Always", ""));
    has(&kubectl.wait_event("Failed", "asks"), "asked without credentials");
    kubectl.apply(&pod("takes", "IfNotPresent", ""));
    kubectl.run("wait --for=condition=Ready pod/takes --timeout=60s");
}

fn by_account(kubectl: &Kubectl) {
    kubectl.run(r#"patch serviceaccount default -p '{"imagePullSecrets":[{"name":"key"}]}'"#);
    kubectl.apply(&pod("heir", "Always", ""));
    assert_eq!(kubectl.field("pod heir", ".spec.imagePullSecrets[0].name"), "key");
    kubectl.run("wait --for=condition=Ready pod/heir --timeout=60s");
}
