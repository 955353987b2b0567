//! From requests and limits to what the kernel is told.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pontoon_container::ResourceLimits;
use pontoon_model::quantity::{bytes, cpu_millis};

use super::ConfigError;
use crate::pod::spec::all_containers;

const PERIOD_US: u64 = 100_000;
/// The least that the kernel takes for a share and for a quota.
const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;
const LEAST_QUOTA_US: u64 = 1_000;

/// What one container asks for; thousandths of a CPU and bytes, `None` where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Asked {
    cpu_request: Option<u64>,
    cpu_limit: Option<u64>,
    memory_limit: Option<u64>,
}

/// The limits of one container.
pub(crate) fn container_limits(container: &Container) -> Result<ResourceLimits, ConfigError> {
    asked(container).map(to_limits)
}

/// The limits of a pod as a whole: the sums, and no limit where one container has none.
pub(crate) fn pod_limits(pod: &Pod) -> Result<ResourceLimits, ConfigError> {
    let all = all_containers(pod).map(asked).collect::<Result<Vec<_>, _>>()?;
    let sum = |field: fn(&Asked) -> Option<u64>| -> Option<u64> { all.iter().map(field).sum() };
    let requests: u64 = all.iter().filter_map(|one| one.cpu_request).sum();
    Ok(to_limits(Asked {
        cpu_request: Some(requests),
        cpu_limit: sum(|one| one.cpu_limit),
        memory_limit: sum(|one| one.memory_limit),
    }))
}

fn asked(container: &Container) -> Result<Asked, ConfigError> {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|r| r.requests.as_ref());
    let limits = resources.and_then(|r| r.limits.as_ref());
    let cpu_limit = amount(limits, "cpu", cpu_millis)?;
    Ok(Asked {
        cpu_request: amount(requests, "cpu", cpu_millis)?.or(cpu_limit),
        cpu_limit,
        memory_limit: amount(limits, "memory", bytes)?,
    })
}

fn amount<E>(
    map: Option<&BTreeMap<String, Quantity>>,
    name: &str,
    read: fn(&str) -> Result<i64, E>,
) -> Result<Option<u64>, ConfigError> {
    let Some(quantity) = map.and_then(|map| map.get(name)) else { return Ok(None) };
    let amount = read(&quantity.0).ok().and_then(|amount| u64::try_from(amount).ok());
    let invalid = || ConfigError::Invalid { what: "quantity", text: quantity.0.clone() };
    amount.map(|amount| Some(amount).filter(|&amount| amount > 0)).ok_or_else(invalid)
}

fn to_limits(asked: Asked) -> ResourceLimits {
    let shares = asked.cpu_request.unwrap_or(0).saturating_mul(1024) / 1000;
    let quota =
        asked.cpu_limit.map(|millis| (millis.saturating_mul(PERIOD_US) / 1000).max(LEAST_QUOTA_US));
    ResourceLimits {
        cpu_shares: Some(shares.clamp(LEAST_SHARES, MOST_SHARES)),
        cpu_quota_us: quota,
        cpu_period_us: quota.map(|_| PERIOD_US),
        memory_bytes: asked.memory_limit,
        pids: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn limits(resources: &[Value]) -> ResourceLimits {
        let containers: Vec<Value> = resources
            .iter()
            .enumerate()
            .map(|(i, resources)| json!({"name": format!("c{i}"), "resources": resources}))
            .collect();
        let pod = json!({"metadata": {}, "spec": {"containers": containers}});
        pod_limits(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    #[test]
    fn requests_are_shares_and_limits_are_quotas() {
        let one = json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "2", "memory": "64Mi"}});
        let expected = ResourceLimits {
            cpu_shares: Some(512),
            cpu_quota_us: Some(200_000),
            cpu_period_us: Some(100_000),
            memory_bytes: Some(64 << 20),
            pids: None,
        };
        assert_eq!(limits(std::slice::from_ref(&one)), expected);
        let two = limits(&[one.clone(), one.clone()]);
        assert_eq!((two.cpu_shares, two.memory_bytes), (Some(1024), Some(128 << 20)));
        let open = limits(&[one, json!({})]);
        assert_eq!((open.cpu_quota_us, open.memory_bytes), (None, None));
    }

    #[test]
    fn small_and_absent_amounts_are_what_the_kernel_takes() {
        assert_eq!(limits(&[json!({})]).cpu_shares, Some(2));
        assert_eq!(limits(&[json!({"limits": {"cpu": "1m"}})]).cpu_quota_us, Some(1000));
        assert_eq!(limits(&[json!({"requests": {"cpu": "1000000"}})]).cpu_shares, Some(262_144));
    }
}
