//! What a pod can learn of itself: the fields and resources of `fieldRef` and `resourceFieldRef`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pontoon_model::quantity::{bytes, cpu_millis};

use super::{ConfigError, Surroundings};
use crate::pod::spec::{all_containers, spec, uses_host_network};

/// The text that a field of the pod has now.
pub(crate) fn field(around: &Surroundings<'_>, path: &str) -> Result<String, ConfigError> {
    let meta = &around.pod.metadata;
    let ip = || {
        if uses_host_network(around.pod) {
            around.host_ip.to_owned()
        } else {
            around.pod_ip.map(|ip| ip.to_string()).unwrap_or_default()
        }
    };
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => around.node_name.to_owned(),
        "spec.serviceAccountName" => {
            spec(around.pod).service_account_name.clone().unwrap_or_default()
        }
        "status.hostIP" | "status.hostIPs" => around.host_ip.to_owned(),
        "status.podIP" | "status.podIPs" => ip(),
        _ => {
            let (map, key) = subscript(path).ok_or_else(|| ConfigError::Field(path.to_owned()))?;
            let map = match map {
                "metadata.labels" => &meta.labels,
                "metadata.annotations" => &meta.annotations,
                _ => return Err(ConfigError::Field(path.to_owned())),
            };
            map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
        }
    })
}

/// Splits `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.split_once("['")?;
    Some((map, key.strip_suffix("']")?))
}

/// One `key="value"` a line, as in downward API volumes.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The amount of a resource that a container has, divided as asked for and rounded up. A limit that is not set is
/// what the node has.
pub(crate) fn resource(
    around: &Surroundings<'_>,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, ConfigError> {
    let unknown = || ConfigError::Resource(selector.resource.clone());
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => all_containers(around.pod).find(|c| c.name == name),
        None => own,
    }
    .ok_or_else(unknown)?;
    let (list, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|r| r.limits.as_ref());
    let of = |map: Option<&BTreeMap<String, Quantity>>| {
        map.and_then(|map| map.get(name)).map(|quantity| quantity.0.clone())
    };
    // A request that is not given is the limit.
    let given = match list {
        "limits" => of(limits),
        "requests" => of(resources.and_then(|r| r.requests.as_ref())).or_else(|| of(limits)),
        _ => return Err(unknown()),
    };
    let given = given.as_deref();
    let invalid = |text: &str| ConfigError::Invalid { what: "quantity", text: text.to_owned() };
    let divisor = selector.divisor.as_ref().map_or("1", |d| d.0.as_str());
    let divisor = if divisor == "0" { "1" } else { divisor };
    let (amount, divisor) = match name {
        "cpu" => {
            let amount = match given {
                Some(text) => cpu_millis(text).map_err(|_| invalid(text))?,
                None if list == "limits" => around.node_cpu_millis,
                None => 0,
            };
            (amount, cpu_millis(divisor).map_err(|_| invalid(divisor))?)
        }
        "memory" | "ephemeral-storage" => {
            let amount = match given {
                Some(text) => bytes(text).map_err(|_| invalid(text))?,
                None if list == "limits" && name == "memory" => around.node_memory_bytes,
                None => 0,
            };
            (amount, bytes(divisor).map_err(|_| invalid(divisor))?)
        }
        _ => return Err(unknown()),
    };
    if amount < 0 || divisor <= 0 {
        return Err(invalid(selector.divisor.as_ref().map_or("", |d| d.0.as_str())));
    }
    Ok((amount / divisor + i64::from(amount % divisor != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignments::Assignments;
    use serde_json::json;

    fn check(asked: &dyn Fn(&Surroundings<'_>) -> Result<String, ConfigError>, expected: &str) {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": {"app": "web", "b": "\"x\""}},
            "spec": {"containers": [{"name": "a", "resources": {
                "requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}}}]}}))
        .unwrap();
        let around = Surroundings {
            pod: &pod,
            pod_ip: Some("10.244.1.2".parse().unwrap()),
            node_name: "n1",
            host_ip: "192.168.0.1",
            node_cpu_millis: 2000,
            node_memory_bytes: 1 << 30,
            assignments: &Assignments::default(),
        };
        assert_eq!(asked(&around).map_err(|e| e.to_string()), Ok(expected.to_owned()));
    }

    #[test]
    fn fields() {
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.labels['app']", "web"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "app=\"web\"\nb=\"\\\"x\\\"\""),
            ("spec.nodeName", "n1"),
            ("status.podIP", "10.244.1.2"),
            ("status.hostIP", "192.168.0.1"),
        ] {
            check(&|around| field(around, path), expected);
        }
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        for (name, divisor, expected) in [
            ("requests.cpu", None, "1"),
            ("requests.cpu", Some("1m"), "250"),
            ("limits.cpu", None, "2"),
            ("limits.memory", None, "67108864"),
            ("limits.memory", Some("1Mi"), "64"),
            ("requests.memory", Some("1Gi"), "1"),
            ("requests.ephemeral-storage", None, "0"),
        ] {
            let selector = ResourceFieldSelector {
                container_name: Some("a".into()),
                resource: name.into(),
                divisor: divisor.map(|d: &str| Quantity(d.to_owned())),
            };
            check(&|around| resource(around, None, &selector), expected);
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        for path in ["metadata.nonsense", "spec.containers", "status.podIP['x']", ""] {
            let asked = |around: &Surroundings<'_>| match field(around, path) {
                Err(ConfigError::Field(said)) => Ok(said),
                other => panic!("{other:?}"),
            };
            check(&asked, path);
        }
    }
}
