//! Operations on nodes, services and checks, read of a transaction's body.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::bad;
use crate::agent::body::NewService;
use crate::catalog::op::{CatalogOp, Target};
use crate::catalog::record::{Check, Node, Status, Texts};
use crate::json::{self, field, number, text};
use crate::refusal::Refusal;

const NODE: &[&str] = &["ID", "Node", "Address", "Datacenter", "TaggedAddresses", "Meta"];
const SERVICE: &[&str] = &[
    "Kind",
    "ID",
    "Service",
    "Tags",
    "Address",
    "TaggedAddresses",
    "Meta",
    "Port",
    "Weights",
    "EnableTagOverride",
    "Proxy",
    "Connect",
];
const CHECK: &[&str] = &[
    "Node",
    "CheckID",
    "Name",
    "Status",
    "Notes",
    "Output",
    "ServiceID",
    "ServiceName",
    "ServiceTags",
    "Type",
    "Definition",
];
/// What all records have.
const INDEXES: &[&str] = &["CreateIndex", "ModifyIndex"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct NewNode {
    id: String,
    node: String,
    address: String,
    #[serde(rename = "taggedaddresses")]
    tagged_addresses: Texts,
    meta: Texts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NewCheck {
    node: String,
    #[serde(rename = "checkid")]
    id: String,
    name: String,
    status: String,
    notes: String,
    output: String,
    #[serde(rename = "serviceid")]
    service_id: String,
}

/// The operation under `kind`, which is `Node`, `Service` or `Check`.
pub(super) fn operation(kind: &str, object: &Map<String, Value>) -> Result<CatalogOp, Refusal> {
    let outer: &[&str] = if kind == "Service" { &["Verb", "Node", kind] } else { &["Verb", kind] };
    known(object, outer)?;
    let verb = text(object, "Verb").map_err(bad)?.to_owned();
    let nothing = Map::new();
    let record = match field(object, kind) {
        None => &nothing,
        Some(record) => {
            record.as_object().ok_or_else(|| bad(format!("{kind} must be an object")))?
        }
    };
    let index = number(record, "ModifyIndex").map_err(bad)?;
    let target = match kind {
        "Node" => Target::Node(node(record)?),
        "Service" => service(text(object, "Node").map_err(bad)?, record)?,
        _ => check(record)?,
    };
    Ok(CatalogOp { verb, target, index })
}

fn node(record: &Map<String, Value>) -> Result<Node, Refusal> {
    known(record, NODE)?;
    let NewNode { id, node: name, address, tagged_addresses, meta } = read(record)?;
    Ok(Node { id, name, address, tagged_addresses, meta, ..Node::default() })
}

fn service(node: &str, record: &Map<String, Value>) -> Result<Target, Refusal> {
    known(record, SERVICE)?;
    for mesh in ["Proxy", "Connect"] {
        if field(record, mesh).is_some_and(says_something) {
            return Err(Refusal::NotServed(format!("a service with {mesh}")));
        }
    }
    let new: NewService = read(record)?;
    Ok(Target::Service(node.to_owned(), new.as_it_is()?))
}

fn check(record: &Map<String, Value>) -> Result<Target, Refusal> {
    known(record, CHECK)?;
    if field(record, "Definition").is_some_and(says_something) {
        return Err(Refusal::NotServed("a check that a transaction defines".to_owned()));
    }
    let new: NewCheck = read(record)?;
    let status = match new.status.as_str() {
        "" => Status::Critical,
        word => Status::parse(word)
            .ok_or_else(|| Refusal::BadRequest(format!("Invalid check status: '{word}'")))?,
    };
    let NewCheck { node, id, name, notes, output, service_id, .. } = new;
    let check = Check { id, name, status, notes, output, service_id, ..Check::default() };
    Ok(Target::Check(node, check))
}

/// Refuses fields that nobody knows, in Go's words.
fn known(object: &Map<String, Value>, names: &[&str]) -> Result<(), Refusal> {
    let is_known =
        |name: &String| names.iter().chain(INDEXES).any(|known| name.eq_ignore_ascii_case(known));
    match object.keys().find(|name| !is_known(name)) {
        Some(name) => Err(bad(format!("json: unknown field {name:?}"))),
        None => Ok(()),
    }
}

/// False for what Consul shows where somebody uses nothing of its service mesh: objects without values.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().any(says_something),
        Value::Null | Value::Bool(false) => false,
        _ => true,
    }
}

fn read<T: DeserializeOwned>(record: &Map<String, Value>) -> Result<T, Refusal> {
    json::take(Value::Object(record.clone())).map_err(bad)
}
