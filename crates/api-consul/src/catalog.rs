//! `/v1/catalog/`: which nodes and services there are.

pub(crate) mod draft;
pub(crate) mod op;
pub(crate) mod reaper;
pub(crate) mod record;
mod register;
pub(crate) mod shown;
pub(crate) mod state;
pub(crate) mod view;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::answer::Answer;
use crate::call::Call;
use crate::filter::{Filter, Shape, answers};
use crate::permit::Wish;
use crate::refusal::Refusal;
use record::{Node, Service, Texts};
pub(crate) use register::{deregister, register};
use shown::{Nothing, ServiceNode, ShownNode, ShownService};
use state::{Catalog, Entry};
pub(crate) use write::{Change, Put};

pub(crate) async fn datacenters(call: Call) -> Result<Answer, Refusal> {
    call.json(&[&call.server.inner.settings.datacenter])
}

pub(crate) async fn nodes(call: Call) -> Result<Answer, Refusal> {
    let asked = Asked::of(&call, &answers::NODE)?;
    view::answer(&call, |catalog| {
        let mut entries: Vec<_> =
            catalog.nodes().filter(|entry| asked.wants(&entry.node)).collect();
        asked.sort(catalog, &mut entries, |entry| &entry.node.name);
        let shown = entries.iter().map(|entry| ShownNode::of(&entry.node, asked.datacenter()));
        call.encode(&asked.filtered(shown)?)
    })
    .await
}

pub(crate) async fn services(call: Call) -> Result<Answer, Refusal> {
    let asked = Asked::of(&call, &answers::SERVICE_NODE)?;
    view::answer(&call, |catalog| {
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        // Consul counts a service as seen even where its node is not.
        for entry in catalog.nodes().filter(|entry| asked.has_meta(&entry.node)) {
            for service in entry.services.values().filter(|service| asked.may_see(service)) {
                let shown = ServiceNode::of(&entry.node, service, asked.datacenter());
                if asked.matches(&shown)? {
                    let tags = names.entry(&service.name).or_default();
                    tags.extend(service.tags.iter().map(String::as_str));
                }
            }
        }
        call.encode(&names)
    })
    .await
}

pub(crate) async fn service(call: Call) -> Result<Answer, Refusal> {
    let name = call.name("Missing service name")?;
    let asked = Asked::of(&call, &answers::SERVICE_NODE)?;
    view::answer(&call, |catalog| {
        let instances = asked.instances(catalog, &name);
        let shown = instances
            .iter()
            .map(|(entry, service)| ServiceNode::of(&entry.node, service, asked.datacenter()));
        call.encode(&asked.filtered(shown)?)
    })
    .await
}

/// A node with its services, by their id.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NodeServices<'c, S> {
    node: Option<ShownNode<'c>>,
    services: Option<S>,
}

pub(crate) async fn node(call: Call) -> Result<Answer, Refusal> {
    let name = call.name("Missing node name")?;
    let asked = Asked::of(&call, &answers::SERVICE)?;
    view::answer(&call, |catalog| {
        let Some(entry) = catalog.node(&name).filter(|entry| asked.wants(&entry.node)) else {
            return call.encode(&None::<Nothing>);
        };
        let node = Some(ShownNode::of(&entry.node, asked.datacenter()));
        let mut services = BTreeMap::new();
        for service in entry.services.values().filter(|service| asked.may_see(service)) {
            let shown = ShownService::of(service);
            if asked.matches(&shown)? {
                services.insert(&service.id, shown);
            }
        }
        call.encode(&NodeServices { node, services: Some(services) })
    })
    .await
}

pub(crate) async fn node_services(call: Call) -> Result<Answer, Refusal> {
    let name = call.name("Missing node name")?;
    let asked = Asked::of(&call, &answers::SERVICE)?;
    view::answer(&call, |catalog| {
        let Some(entry) = catalog.node(&name).filter(|entry| asked.wants(&entry.node)) else {
            return call.encode(&NodeServices { node: None, services: None::<Nothing> });
        };
        let services = entry.services.values().filter(|service| asked.may_see(service));
        let services = asked.filtered(services.map(ShownService::of))?;
        let node = Some(ShownNode::of(&entry.node, asked.datacenter()));
        call.encode(&NodeServices { node, services: Some(services) })
    })
    .await
}

/// What a request about the catalog wants to see, and may.
pub(crate) struct Asked<'c> {
    call: &'c Call,
    filter: Option<Filter>,
    /// What the metadata of a node must have.
    node_meta: Texts,
    tags: Vec<String>,
}

impl<'c> Asked<'c> {
    pub(crate) fn of(call: &'c Call, shape: &'static Shape) -> Result<Asked<'c>, Refusal> {
        let expression = call.query.text("filter");
        let filter = match expression.as_ref() {
            "" => None,
            text => {
                let parsed = Filter::parse(text, shape);
                Some(parsed.map_err(|error| Refusal::Failed(error.to_string()))?)
            }
        };
        let pair = |text: String| match text.split_once(':') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        let node_meta = call.query.all("node-meta").map(pair).collect();
        Ok(Asked { call, filter, node_meta, tags: call.query.all("tag").collect() })
    }

    pub(crate) fn datacenter(&self) -> &'c str {
        &self.call.server.inner.settings.datacenter
    }

    /// True if a node may be seen and has the metadata that is asked for.
    pub(crate) fn wants(&self, node: &Node) -> bool {
        self.has_meta(node) && self.call.permit.allows(Wish::NodeRead(&node.name))
    }

    fn has_meta(&self, node: &Node) -> bool {
        let has = |(name, value): (&String, &String)| node.meta.get(name) == Some(value);
        self.node_meta.iter().all(has)
    }

    pub(crate) fn may_see(&self, service: &Service) -> bool {
        self.call.permit.allows(Wish::ServiceRead(&service.name))
    }

    /// The instances of a service with the tags that are asked for, the nearest first if that is asked for.
    pub(crate) fn instances<'s>(
        &self,
        catalog: &'s Catalog,
        name: &str,
    ) -> Vec<(&'s Entry, &'s Service)> {
        let has = |service: &Service, tag: &String| {
            service.tags.iter().any(|own| own.to_lowercase() == tag.to_lowercase())
        };
        let wanted = catalog.instances(name).filter(|(entry, service)| {
            let is_tagged = self.tags.iter().all(|tag| has(service, tag));
            is_tagged && self.wants(&entry.node) && self.may_see(service)
        });
        let mut instances: Vec<_> = wanted.collect();
        self.sort(catalog, &mut instances, |(entry, _)| &entry.node.name);
        instances
    }

    /// Puts what is on near nodes first, if the request names a node to be near to.
    pub(crate) fn sort<T>(&self, catalog: &Catalog, items: &mut [T], node: impl Fn(&T) -> &String) {
        self.sort_near(catalog, &self.call.query.text("near"), items, node);
    }

    /// Puts what is on nodes near to this one first, if it is one; `_agent` is the server's own.
    pub(crate) fn sort_near<T>(
        &self,
        catalog: &Catalog,
        near: &str,
        items: &mut [T],
        node: impl Fn(&T) -> &String,
    ) {
        catalog.sort_near(near, &self.call.server.inner.settings.node, items, node);
    }

    /// True if the filter holds for an item, or if there is none.
    pub(crate) fn matches(&self, item: &impl Serialize) -> Result<bool, Refusal> {
        let Some(filter) = &self.filter else { return Ok(true) };
        let item = serde_json::to_value(item);
        Ok(filter.matches(&item.map_err(|error| Refusal::Failed(format!("filter: {error}")))?))
    }

    /// The items for which the filter holds.
    pub(crate) fn filtered<T: Serialize>(
        &self,
        items: impl Iterator<Item = T>,
    ) -> Result<Vec<T>, Refusal> {
        let mut kept = Vec::new();
        for item in items {
            if self.matches(&item)? {
                kept.push(item);
            }
        }
        Ok(kept)
    }
}
