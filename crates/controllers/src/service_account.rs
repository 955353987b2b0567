//! Every namespace has a service account `default`, which pods use that name no other.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use pontoon_model::names::SERVICE_ACCOUNT_DEFAULT as DEFAULT;
use pontoon_model::resource;
use serde_json::json;

use crate::cache::{Cache, Change};
use crate::key::Key;
use crate::plan::{Action, Plan};

/// The namespace that a change concerns.
pub(crate) fn keys(change: &Change, _cache: &Cache) -> Vec<Key> {
    if change.key.is(resource::NAMESPACES) {
        return vec![change.key.clone()];
    }
    let gone = change.new.is_none() && change.key.name == DEFAULT;
    let namespace = gone.then(|| Key::new(resource::NAMESPACES, None, change.key.namespace()));
    namespace.into_iter().collect()
}

/// Creates the account if the namespace lacks it.
pub(crate) fn reconcile(_now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let Some(namespace) = cache.get::<Namespace>(None, &key.name) else { return plan };
    let deleting = namespace.metadata.deletion_timestamp.is_some();
    if deleting || cache.get::<ServiceAccount>(Some(&key.name), DEFAULT).is_some() {
        return plan;
    }
    let body = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": DEFAULT, "namespace": key.name},
    });
    let namespace = Some(key.name.clone());
    plan.push(Action::Create { resource: resource::SERVICE_ACCOUNTS, namespace, body });
    plan
}
