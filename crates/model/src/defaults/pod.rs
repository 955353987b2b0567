//! Defaults of pods and of what is in them.

use serde_json::{Value, json};

use super::{Object, absent, each_of, text, with};
use crate::quantity;

const DEFAULT_MODE: i32 = 0o644;
/// The registry that stands for this cluster's own images: there is nowhere to pull them from.
const OWN_REGISTRY: &str = "pontoon.local";

/// The specification, in a pod or in a template.
pub(super) fn spec(spec: &mut Object) {
    absent(spec, "restartPolicy", json!("Always"));
    absent(spec, "dnsPolicy", json!("ClusterFirst"));
    absent(spec, "terminationGracePeriodSeconds", json!(30));
    absent(spec, "securityContext", json!({}));
    absent(spec, "schedulerName", json!("default-scheduler"));
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["initContainers", "containers"] {
        each_of(spec, list, |c| container(c, host_network));
    }
    each_of(spec, "volumes", volume);
    // Of two names of one thing, the older follows the newer.
    if text(spec, "serviceAccountName").is_empty() && !text(spec, "serviceAccount").is_empty() {
        let account = spec["serviceAccount"].clone();
        spec.insert("serviceAccountName".to_owned(), account);
    }
    if !text(spec, "serviceAccountName").is_empty() {
        let account = spec["serviceAccountName"].clone();
        spec.insert("serviceAccount".to_owned(), account);
    }
}

/// What admission adds to a pod, but not to a template.
pub(super) fn admitted(spec: &mut Object) {
    absent(spec, "enableServiceLinks", json!(true));
    absent(spec, "priority", json!(0));
    absent(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    absent(spec, "serviceAccountName", json!("default"));
    absent(spec, "serviceAccount", spec["serviceAccountName"].clone());
}

fn container(container: &mut Object, host_network: bool) {
    absent(container, "terminationMessagePath", json!("/dev/termination-log"));
    absent(container, "terminationMessagePolicy", json!("File"));
    let policy = pull_policy(text(container, "image"));
    absent(container, "imagePullPolicy", json!(policy));
    absent(container, "resources", json!({}));
    with(container.get_mut("resources"), resources);
    each_of(container, "ports", |port| {
        absent(port, "protocol", json!("TCP"));
        if host_network && let Some(number) = port.get("containerPort").cloned() {
            absent(port, "hostPort", number);
        }
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        with(container.get_mut(name), probe);
    }
    with(container.get_mut("lifecycle"), |lifecycle| {
        for hook in ["postStart", "preStop"] {
            with(lifecycle.get_mut(hook), |hook| with(hook.get_mut("httpGet"), http_get));
        }
    });
    each_of(container, "env", |variable| {
        with(variable.get_mut("valueFrom"), |from| with(from.get_mut("fieldRef"), field_ref));
    });
}

/// Always for the newest of a registry, which may have become another.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let (registry, path) = image.split_once('/').unwrap_or(("", image));
    let remote = registry.contains(['.', ':']) && registry != OWN_REGISTRY;
    let name = path.rsplit('/').next().unwrap_or(path);
    let tag = name.split_once(':').map_or("latest", |(_, tag)| tag);
    if remote && tag == "latest" { "Always" } else { "IfNotPresent" }
}

/// Amounts as text; what is limited and not requested is requested as well.
fn resources(resources: &mut Object) {
    for list in ["limits", "requests"] {
        with(resources.get_mut(list), |list| {
            for amount in list.values_mut().filter(|a| a.is_number()) {
                *amount = Value::String(amount.to_string());
            }
        });
    }
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    if limits.is_empty() {
        return;
    }
    absent(resources, "requests", json!({}));
    with(resources.get_mut("requests"), |requests| {
        for (name, amount) in limits {
            absent(requests, &name, amount);
        }
    });
}

fn probe(probe: &mut Object) {
    absent(probe, "timeoutSeconds", json!(1));
    absent(probe, "periodSeconds", json!(10));
    absent(probe, "successThreshold", json!(1));
    absent(probe, "failureThreshold", json!(3));
    for (field, default) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe.get(field) == Some(&json!(0)) {
            probe.insert(field.to_owned(), json!(default));
        }
    }
    with(probe.get_mut("httpGet"), http_get);
    with(probe.get_mut("grpc"), |grpc| absent(grpc, "service", json!("")));
}

fn http_get(get: &mut Object) {
    absent(get, "scheme", json!("HTTP"));
    if text(get, "path").is_empty() {
        get.insert("path".to_owned(), json!("/"));
    }
}

fn field_ref(field: &mut Object) {
    absent(field, "apiVersion", json!("v1"));
}

fn volume(volume: &mut Object) {
    if volume.iter().all(|(key, value)| key == "name" || value.is_null()) {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        with(volume.get_mut(source), |source| absent(source, "defaultMode", json!(DEFAULT_MODE)));
    }
    with(volume.get_mut("hostPath"), |path| absent(path, "type", json!("")));
    with(volume.get_mut("downwardAPI"), |api| {
        each_of(api, "items", |item| with(item.get_mut("fieldRef"), field_ref));
    });
    with(volume.get_mut("projected"), |projected| {
        each_of(projected, "sources", |source| {
            with(source.get_mut("downwardAPI"), |api| {
                each_of(api, "items", |item| with(item.get_mut("fieldRef"), field_ref));
            });
            with(source.get_mut("serviceAccountToken"), |token| {
                absent(token, "expirationSeconds", json!(3600));
            });
        });
    });
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from the specification of a pod.
pub fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    let lists = ["containers", "initContainers"];
    let containers = lists.iter().filter_map(|l| spec.get(l)?.as_array()).flatten();
    for container in containers {
        for name in ["cpu", "memory"] {
            let request = amount(container, "requests", name);
            let limit = amount(container, "limits", name);
            any |= request > 0 || limit > 0;
            guaranteed &= limit > 0 && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn amount(container: &Value, list: &str, name: &str) -> i128 {
    let text = container.get("resources").and_then(|r| r.get(list)?.get(name)?.as_str());
    text.and_then(|t| quantity::nanos(t).ok()).unwrap_or(0)
}
