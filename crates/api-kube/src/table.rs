//! Objects as tables for people: the columns that `kubectl get` shows, filled in by the server.

mod age;
mod cluster;
mod column;
mod event;
mod network;
mod pod;
mod value;
mod workload;

use jiff::Timestamp;
use pontoon_model::object::Object;
use pontoon_model::resource::Resource;
use serde_json::{Map, Value, json};

use column::Layout;

/// What of each object goes with its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    /// The `includeObject` parameter; `None` for a word that is not one.
    pub(crate) fn parse(text: Option<&str>) -> Option<Include> {
        match text {
            None | Some("Metadata") => Some(Include::Metadata),
            Some("None") => Some(Include::None),
            Some("Object") => Some(Include::Object),
            Some(_) => None,
        }
    }
}

/// How the objects of one resource become tables.
#[derive(Clone, Copy)]
pub(crate) struct Tabler {
    layout: &'static Layout,
    /// Version of `meta.k8s.io`.
    version: &'static str,
    include: Include,
}

impl Tabler {
    pub(crate) fn new(
        resource: &'static Resource,
        version: &'static str,
        include: Include,
    ) -> Tabler {
        Tabler { layout: layout(resource), version, include }
    }

    /// The table of these objects with a list's metadata. Ages are as of `now`.
    pub(crate) fn table(&self, objects: &[Object], meta: Value, now: Timestamp) -> Value {
        let mut table = self.rows(objects, meta, now);
        table["columnDefinitions"] = self.layout.definitions();
        table
    }

    /// A table that follows another in a stream, and has its columns.
    pub(crate) fn rows(&self, objects: &[Object], meta: Value, now: Timestamp) -> Value {
        let rows: Vec<Value> = objects.iter().map(|object| self.row(object, now)).collect();
        json!({
            "kind": "Table",
            "apiVersion": format!("meta.k8s.io/{}", self.version),
            "metadata": meta,
            "columnDefinitions": [],
            "rows": rows,
        })
    }

    fn row(&self, object: &Object, now: Timestamp) -> Value {
        let value =
            object.value().unwrap_or_else(|_| json!({"metadata": {"name": object.meta.name}}));
        let mut row = Map::new();
        row.insert("cells".to_owned(), Value::Array((self.layout.cells)(&value, now)));
        if let Some(conditions) = self.layout.row_conditions.and_then(|of| of(&value)) {
            row.insert("conditions".to_owned(), conditions);
        }
        match self.include {
            Include::None => {}
            Include::Metadata => {
                row.insert("object".to_owned(), partial(value, self.version));
            }
            Include::Object => {
                row.insert("object".to_owned(), value);
            }
        }
        Value::Object(row)
    }
}

/// An object of which only the metadata is told.
pub(crate) fn partial(mut object: Value, version: &str) -> Value {
    let meta = object.get_mut("metadata").map(Value::take).unwrap_or_default();
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": meta,
    })
}

fn layout(resource: &'static Resource) -> &'static Layout {
    match (resource.group, resource.plural) {
        ("", "pods") => &pod::LAYOUT,
        ("", "nodes") => &cluster::NODES,
        ("", "namespaces") => &cluster::NAMESPACES,
        ("", "configmaps") => &cluster::CONFIG_MAPS,
        ("", "secrets") => &cluster::SECRETS,
        ("", "serviceaccounts") => &cluster::SERVICE_ACCOUNTS,
        ("", "events") => &event::LAYOUT,
        ("", "services") => &network::SERVICES,
        ("", "endpoints") => &network::ENDPOINTS,
        ("discovery.k8s.io", "endpointslices") => &network::ENDPOINT_SLICES,
        ("apps", "deployments") => &workload::DEPLOYMENTS,
        ("apps", "replicasets") => &workload::REPLICA_SETS,
        ("apps", "daemonsets") => &workload::DAEMON_SETS,
        ("apps", "controllerrevisions") => &workload::CONTROLLER_REVISIONS,
        ("coordination.k8s.io", "leases") => &cluster::LEASES,
        _ => &column::PLAIN,
    }
}

#[cfg(test)]
mod tests;
