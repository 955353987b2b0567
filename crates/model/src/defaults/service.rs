//! Defaults of Services.

use serde_json::{Value, json};

use super::{Object, absent, each_of, text, with};

/// How long a client sticks to its backend, in seconds.
const AFFINITY_SECONDS: i32 = 10_800;

pub(super) fn spec(spec: &mut Object) {
    absent(spec, "type", json!("ClusterIP"));
    absent(spec, "sessionAffinity", json!("None"));
    if text(spec, "sessionAffinity") == "ClientIP" {
        absent(spec, "sessionAffinityConfig", json!({}));
        with(spec.get_mut("sessionAffinityConfig"), |config| {
            absent(config, "clientIP", json!({}));
            with(config.get_mut("clientIP"), |client| {
                absent(client, "timeoutSeconds", json!(AFFINITY_SECONDS));
            });
        });
    }
    each_of(spec, "ports", |port| {
        absent(port, "protocol", json!("TCP"));
        let target = port.get("targetPort").unwrap_or(&Value::Null);
        if (target.is_null() || *target == json!(0) || *target == json!(""))
            && let Some(number) = port.get("port").cloned()
        {
            port.insert("targetPort".to_owned(), number);
        }
    });
    let kind = text(spec, "type").to_owned();
    if kind == "ExternalName" {
        return;
    }
    absent(spec, "internalTrafficPolicy", json!("Cluster"));
    absent(spec, "ipFamilyPolicy", json!("SingleStack"));
    absent(spec, "ipFamilies", json!(["IPv4"]));
    if kind == "NodePort" || kind == "LoadBalancer" {
        absent(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        absent(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
}
