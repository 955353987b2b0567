//! Nodes, services and checks as clients read them: field by field in Consul's order.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::record::{Check, Node, Service, ServiceAddress, Texts, Weights};
use super::state::Entry;

/// An object without fields: what Consul shows where somebody uses nothing of its service mesh.
#[derive(Serialize)]
pub(crate) struct Nothing {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NoProxy {
    mesh_gateway: Nothing,
    expose: Nothing,
}

const NO_PROXY: NoProxy = NoProxy { mesh_gateway: Nothing {}, expose: Nothing {} };

/// Go's map that nothing was put into.
fn null_if_empty<S: Serializer>(texts: &&Texts, serializer: S) -> Result<S::Ok, S::Error> {
    if texts.is_empty() { serializer.serialize_none() } else { texts.serialize(serializer) }
}

type Addresses = BTreeMap<String, ServiceAddress>;

fn is_empty(addresses: &&Addresses) -> bool {
    addresses.is_empty()
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownNode<'c> {
    #[serde(rename = "ID")]
    id: &'c str,
    node: &'c str,
    address: &'c str,
    datacenter: &'c str,
    #[serde(serialize_with = "null_if_empty")]
    tagged_addresses: &'c Texts,
    #[serde(serialize_with = "null_if_empty")]
    meta: &'c Texts,
    create_index: u64,
    modify_index: u64,
}

impl<'c> ShownNode<'c> {
    pub(crate) fn of(node: &'c Node, datacenter: &'c str) -> ShownNode<'c> {
        ShownNode {
            id: &node.id,
            node: &node.name,
            address: &node.address,
            datacenter,
            tagged_addresses: &node.tagged_addresses,
            meta: &node.meta,
            create_index: node.create_index,
            modify_index: node.modify_index,
        }
    }
}

/// A service beside its node.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownService<'c> {
    #[serde(rename = "ID")]
    id: &'c str,
    service: &'c str,
    tags: Option<&'c [String]>,
    address: &'c str,
    #[serde(skip_serializing_if = "is_empty")]
    tagged_addresses: &'c Addresses,
    #[serde(serialize_with = "null_if_empty")]
    meta: &'c Texts,
    port: u16,
    weights: Weights,
    enable_tag_override: bool,
    proxy: NoProxy,
    connect: Nothing,
    create_index: u64,
    modify_index: u64,
}

impl<'c> ShownService<'c> {
    pub(crate) fn of(service: &'c Service) -> ShownService<'c> {
        ShownService {
            id: &service.id,
            service: &service.name,
            tags: Some(&service.tags),
            address: &service.address,
            tagged_addresses: &service.tagged_addresses,
            meta: &service.meta,
            port: service.port,
            weights: service.weights,
            enable_tag_override: service.enable_tag_override,
            proxy: NO_PROXY,
            connect: Nothing {},
            create_index: service.create_index,
            modify_index: service.modify_index,
        }
    }
}

impl ShownService<'_> {
    /// The same, with no list of tags where there is no tag: so do Consul's transactions.
    pub(crate) fn with_null_tags(self) -> Self {
        ShownService { tags: self.tags.filter(|tags| !tags.is_empty()), ..self }
    }
}

/// A service as its agent shows it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AgentService<'c> {
    #[serde(rename = "ID")]
    id: &'c str,
    service: &'c str,
    tags: &'c [String],
    meta: &'c Texts,
    port: u16,
    address: &'c str,
    #[serde(skip_serializing_if = "is_empty")]
    tagged_addresses: &'c Addresses,
    weights: Weights,
    enable_tag_override: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_hash: Option<String>,
}

impl<'c> AgentService<'c> {
    pub(crate) fn of(service: &'c Service) -> AgentService<'c> {
        AgentService {
            id: &service.id,
            service: &service.name,
            tags: &service.tags,
            meta: &service.meta,
            port: service.port,
            address: &service.address,
            tagged_addresses: &service.tagged_addresses,
            weights: service.weights,
            enable_tag_override: service.enable_tag_override,
            content_hash: None,
        }
    }
}

/// A service and its node in one.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ServiceNode<'c> {
    #[serde(rename = "ID")]
    id: &'c str,
    node: &'c str,
    address: &'c str,
    datacenter: &'c str,
    #[serde(serialize_with = "null_if_empty")]
    tagged_addresses: &'c Texts,
    #[serde(serialize_with = "null_if_empty")]
    node_meta: &'c Texts,
    service_kind: &'c str,
    #[serde(rename = "ServiceID")]
    service_id: &'c str,
    service_name: &'c str,
    service_tags: &'c [String],
    service_address: &'c str,
    #[serde(skip_serializing_if = "is_empty")]
    service_tagged_addresses: &'c Addresses,
    service_weights: Weights,
    service_meta: &'c Texts,
    service_port: u16,
    service_enable_tag_override: bool,
    service_proxy: NoProxy,
    service_connect: Nothing,
    create_index: u64,
    modify_index: u64,
}

impl<'c> ServiceNode<'c> {
    pub(crate) fn of(node: &'c Node, service: &'c Service, datacenter: &'c str) -> ServiceNode<'c> {
        ServiceNode {
            id: &node.id,
            node: &node.name,
            address: &node.address,
            datacenter,
            tagged_addresses: &node.tagged_addresses,
            node_meta: &node.meta,
            service_kind: "",
            service_id: &service.id,
            service_name: &service.name,
            service_tags: &service.tags,
            service_address: &service.address,
            service_tagged_addresses: &service.tagged_addresses,
            service_weights: service.weights,
            service_meta: &service.meta,
            service_port: service.port,
            service_enable_tag_override: service.enable_tag_override,
            service_proxy: NO_PROXY,
            service_connect: Nothing {},
            create_index: service.create_index,
            modify_index: service.modify_index,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShownCheck<'c> {
    node: &'c str,
    #[serde(rename = "CheckID")]
    id: &'c str,
    name: &'c str,
    status: &'static str,
    notes: &'c str,
    output: &'c str,
    #[serde(rename = "ServiceID")]
    service_id: &'c str,
    service_name: &'c str,
    service_tags: Option<&'c [String]>,
    r#type: &'static str,
    definition: Nothing,
    create_index: u64,
    modify_index: u64,
}

impl<'c> ShownCheck<'c> {
    /// The same, with no list of tags where there is no tag: so do Consul's transactions and prepared queries.
    pub(crate) fn with_null_tags(self) -> Self {
        ShownCheck { service_tags: self.service_tags.filter(|tags| !tags.is_empty()), ..self }
    }

    /// The same as its agent knows it, which is before it is in the catalog.
    pub(crate) fn without_indexes(self) -> Self {
        ShownCheck { create_index: 0, modify_index: 0, ..self }
    }

    /// Where Consul lists it.
    pub(crate) fn place(&self) -> (&'c str, &'c str) {
        (self.node, self.id)
    }

    pub(crate) fn status(&self) -> &'static str {
        self.status
    }

    pub(crate) fn of(entry: &'c Entry, check: &'c Check) -> ShownCheck<'c> {
        ShownCheck::beside(&entry.node.name, entry.service_of(check), check)
    }

    /// A check with the name of its node and the service that it is about.
    pub(crate) fn beside(
        node: &'c str,
        service: Option<&'c Service>,
        check: &'c Check,
    ) -> ShownCheck<'c> {
        ShownCheck {
            node,
            id: &check.id,
            name: &check.name,
            status: check.status.word(),
            notes: &check.notes,
            output: &check.output,
            service_id: &check.service_id,
            service_name: service.map_or("", |service| &service.name),
            service_tags: Some(service.map_or(&[], |service| &service.tags)),
            r#type: check.source.word(),
            definition: Nothing {},
            create_index: check.create_index,
            modify_index: check.modify_index,
        }
    }
}

/// An instance of a service with its node and all checks that say how it is.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ServiceHealth<'c> {
    node: ShownNode<'c>,
    service: ShownService<'c>,
    checks: Vec<ShownCheck<'c>>,
}

impl<'c> ServiceHealth<'c> {
    /// The same, with no list of tags where there is no tag.
    pub(crate) fn with_null_tags(self) -> Self {
        let checks = self.checks.into_iter().map(ShownCheck::with_null_tags);
        let service = self.service.with_null_tags();
        ServiceHealth { checks: checks.collect(), service, ..self }
    }

    pub(crate) fn of(entry: &'c Entry, service: &'c Service, datacenter: &'c str) -> Self {
        ServiceHealth {
            node: ShownNode::of(&entry.node, datacenter),
            service: ShownService::of(service),
            checks: entry.checks_of(service).map(|check| ShownCheck::of(entry, check)).collect(),
        }
    }
}
