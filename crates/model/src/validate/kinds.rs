//! From a resource in the table to the Rust type that checks it.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Error, Value};

use super::faults::Faults;
use super::meta;
use crate::resource::{self, Resource, Typed};

/// What a kind asks of its objects beyond their metadata.
pub(super) trait Check: Typed {
    fn check(&self, faults: &mut Faults);

    /// What may not differ from the object before.
    fn check_update(&self, _old: &Self, _faults: &mut Faults) {}
}

/// The checks of one kind, without its type.
pub(super) trait Kind: Sync {
    fn create(&self, object: &Value, faults: &mut Faults) -> Result<(), Error>;
    fn update(&self, new: &Value, old: &Value, faults: &mut Faults) -> Result<(), Error>;
    fn types(&self, object: &Value) -> Result<(), Error>;
    fn unknown(&self, object: &Value) -> Vec<String>;
}

struct Of<K>(std::marker::PhantomData<fn() -> K>);

impl<K: Check> Kind for Of<K> {
    fn create(&self, object: &Value, faults: &mut Faults) -> Result<(), Error> {
        let typed = K::deserialize(object)?;
        meta::check(K::RESOURCE, typed.metadata(), faults);
        typed.check(faults);
        Ok(())
    }

    fn update(&self, new: &Value, old: &Value, faults: &mut Faults) -> Result<(), Error> {
        let new = K::deserialize(new)?;
        let old = K::deserialize(old)?;
        meta::check(K::RESOURCE, new.metadata(), faults);
        meta::check_update(new.metadata(), old.metadata(), faults);
        new.check(faults);
        new.check_update(&old, faults);
        Ok(())
    }

    fn types(&self, object: &Value) -> Result<(), Error> {
        K::deserialize(object).map(drop)
    }

    fn unknown(&self, object: &Value) -> Vec<String> {
        let known = K::deserialize(object).and_then(serde_json::to_value);
        let mut paths = Vec::new();
        if let Ok(known) = known {
            differences(object, &known, "", &mut paths);
        }
        paths
    }
}

/// What is in the object and was lost on the way through its type.
fn differences(object: &Value, known: &Value, at: &str, paths: &mut Vec<String>) {
    const MOST: usize = 100;
    if paths.len() >= MOST {
        return;
    }
    match (object, known) {
        (Value::Object(object), Value::Object(known)) => {
            for (key, value) in object.iter().filter(|(_, v)| !v.is_null()) {
                let dot = if at.is_empty() { "" } else { "." };
                let path = format!("{at}{dot}{key}");
                match known.get(key) {
                    Some(known) => differences(value, known, &path, paths),
                    None => paths.push(path),
                }
            }
        }
        (Value::Array(object), Value::Array(known)) => {
            for (i, (value, known)) in object.iter().zip(known).enumerate() {
                differences(value, known, &format!("{at}[{i}]"), paths);
            }
        }
        _ => {}
    }
}

/// The checks of a resource. The table is complete: a test asks for every resource.
pub(super) fn of(resource: &Resource) -> &'static dyn Kind {
    const fn new<K: Check>() -> Of<K> {
        Of(std::marker::PhantomData)
    }
    static KINDS: &[(&Resource, &dyn Kind)] = &[
        (resource::PODS, &new::<Pod>()),
        (resource::NODES, &new::<Node>()),
        (resource::LEASES, &new::<Lease>()),
        (resource::EVENTS, &new::<Event>()),
        (resource::SERVICES, &new::<Service>()),
        (resource::ENDPOINTS, &new::<Endpoints>()),
        (resource::ENDPOINT_SLICES, &new::<EndpointSlice>()),
        (resource::REPLICA_SETS, &new::<ReplicaSet>()),
        (resource::DEPLOYMENTS, &new::<Deployment>()),
        (resource::DAEMON_SETS, &new::<DaemonSet>()),
        (resource::CONTROLLER_REVISIONS, &new::<ControllerRevision>()),
        (resource::CONFIG_MAPS, &new::<ConfigMap>()),
        (resource::SECRETS, &new::<Secret>()),
        (resource::SERVICE_ACCOUNTS, &new::<ServiceAccount>()),
        (resource::NAMESPACES, &new::<Namespace>()),
    ];
    let found = KINDS.iter().find(|(r, _)| *r == resource);
    found.map(|(_, kind)| *kind).expect("every resource in the table has its checks here")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_resource_has_checks() {
        for resource in resource::ALL {
            assert!(
                of(resource)
                    .types(&json!({"apiVersion": resource.api_version(), "kind": resource.kind}))
                    .is_ok()
            );
        }
    }

    #[test]
    fn unknown_fields_are_found_where_they_are() {
        let pod = json!({
            "metadata": {"labels": {"any": "thing"}, "nmae": "x", "managedFields": [{"fieldsV1": {"f:x": {}}}]},
            "spec": {
                "containers": [{"name": "c", "imagee": "x", "resources": {"limits": {"cpu": 1, "x.y/z": "1"}}}],
                "volumes": null,
                "foo": {"bar": 1},
            },
        });
        let mut unknown = of(resource::PODS).unknown(&pod);
        unknown.sort();
        assert_eq!(unknown, ["metadata.nmae", "spec.containers[0].imagee", "spec.foo"]);
    }
}
