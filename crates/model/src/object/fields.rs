//! The fields by which objects can be selected, read out of the stored JSON without the rest.

use std::borrow::Cow;

use serde::Deserialize;

/// What field selectors may ask for, over all kinds.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Fields {
    spec: Option<Spec>,
    status: Option<State>,
    involved_object: Option<Involved>,
    source: Option<Source>,
    reporting_component: Option<String>,
    reason: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    restart_policy: Option<String>,
    scheduler_name: Option<String>,
    service_account_name: Option<String>,
    host_network: Option<bool>,
    unschedulable: Option<bool>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct State {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    nominated_node_name: Option<String>,
    replicas: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Involved {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    api_version: Option<String>,
    resource_version: Option<String>,
    field_path: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Source {
    component: Option<String>,
}

impl Fields {
    /// Reads them; an object whose fields are of other types has none.
    pub(super) fn read(stored: &[u8]) -> Self {
        serde_json::from_slice(stored).unwrap_or_default()
    }

    /// The value of one, empty if it is not there.
    pub(super) fn get(&self, path: &str) -> Cow<'_, str> {
        let (head, rest) = path.split_once('.').unwrap_or((path, ""));
        let text = match head {
            "spec" => return self.spec.as_ref().map(|s| s.get(rest)).unwrap_or_default(),
            "status" => return self.status.as_ref().map(|s| s.get(rest)).unwrap_or_default(),
            "involvedObject" => self.involved_object.as_ref().and_then(|i| i.get(rest)),
            "source" => self.source.as_ref().and_then(|s| s.component.as_deref()),
            "reportingComponent" => self.reporting_component.as_deref(),
            "reason" => self.reason.as_deref(),
            "type" => self.kind.as_deref(),
            _ => None,
        };
        Cow::Borrowed(text.unwrap_or_default())
    }
}

impl Spec {
    fn get(&self, field: &str) -> Cow<'_, str> {
        let flag = |b: Option<bool>| Cow::Borrowed(if b == Some(true) { "true" } else { "false" });
        let text = match field {
            "nodeName" => self.node_name.as_deref(),
            "restartPolicy" => self.restart_policy.as_deref(),
            "schedulerName" => self.scheduler_name.as_deref(),
            "serviceAccountName" => self.service_account_name.as_deref(),
            "clusterIP" => self.cluster_ip.as_deref(),
            "type" => self.kind.as_deref(),
            "hostNetwork" => return flag(self.host_network),
            "unschedulable" => return flag(self.unschedulable),
            _ => None,
        };
        Cow::Borrowed(text.unwrap_or_default())
    }
}

impl State {
    fn get(&self, field: &str) -> Cow<'_, str> {
        let text = match field {
            "phase" => self.phase.as_deref(),
            "podIP" => self.pod_ip.as_deref(),
            "nominatedNodeName" => self.nominated_node_name.as_deref(),
            "replicas" => return Cow::Owned(self.replicas.unwrap_or(0).to_string()),
            _ => None,
        };
        Cow::Borrowed(text.unwrap_or_default())
    }
}

impl Involved {
    fn get(&self, field: &str) -> Option<&str> {
        match field {
            "kind" => self.kind.as_deref(),
            "namespace" => self.namespace.as_deref(),
            "name" => self.name.as_deref(),
            "uid" => self.uid.as_deref(),
            "apiVersion" => self.api_version.as_deref(),
            "resourceVersion" => self.resource_version.as_deref(),
            "fieldPath" => self.field_path.as_deref(),
            _ => None,
        }
    }
}
