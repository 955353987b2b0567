//! A pod's quality of service class, by Kubernetes' rule.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::spec::all_containers;

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed` when every container has equal requests and limits for CPU and memory, `BestEffort` when none has
/// any, else `Burstable`.
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in all_containers(pod) {
        for resource in COUNTED {
            let request = quantity(container, resource, false);
            let limit = quantity(container, resource, true);
            any |= request.is_some() || limit.is_some();
            // A request that is not given is the limit.
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// A non-zero request or limit as its text.
fn quantity<'a>(container: &'a Container, resource: &str, limit: bool) -> Option<&'a str> {
    let resources = container.resources.as_ref()?;
    let map: Option<&BTreeMap<String, Quantity>> =
        if limit { resources.limits.as_ref() } else { resources.requests.as_ref() };
    map?.get(resource).map(|quantity| quantity.0.as_str()).filter(|text| *text != "0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn class(resources: &[Value]) -> &'static str {
        let containers: Vec<Value> = resources
            .iter()
            .enumerate()
            .map(|(i, resources)| json!({"name": format!("c{i}"), "resources": resources}))
            .collect();
        let pod = json!({"metadata": {}, "spec": {"containers": containers}});
        qos_class(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn the_three_classes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let equal = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        assert_eq!(class(&[json!({}), json!({})]), "BestEffort");
        assert_eq!(class(&[full.clone(), equal.clone()]), "Guaranteed");
        assert_eq!(class(&[full.clone(), json!({})]), "Burstable");
        assert_eq!(class(&[json!({"requests": {"cpu": "100m"}})]), "Burstable");
        assert_eq!(class(&[json!({"requests": {"cpu": "0"}})]), "BestEffort");
    }
}
