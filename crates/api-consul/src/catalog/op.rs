//! One operation of a transaction on a node, a service or a check.

use super::draft::CatalogDraft;
use super::record::{Check, Node, Service};
use crate::op::{CheckItem, Item, OpError};
use crate::permit::{Permit, Wish};
use crate::refusal::Refusal;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Set,
    Cas,
    Delete,
    DeleteCas,
}

impl Verb {
    pub(crate) fn parse(word: &str) -> Option<Verb> {
        match word {
            "get" => Some(Verb::Get),
            "set" => Some(Verb::Set),
            "cas" => Some(Verb::Cas),
            "delete" => Some(Verb::Delete),
            "delete-cas" => Some(Verb::DeleteCas),
            _ => None,
        }
    }

    /// The verb, or what Consul says of a word that is none.
    fn known(of: &str, word: &str) -> Result<Verb, OpError> {
        let unknown = || OpError::Failed(format!("unknown {of} verb {word:?}"));
        Verb::parse(word).ok_or_else(unknown)
    }
}

/// What it is done to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Node(Node),
    /// The node it is on, and the service.
    Service(String, Service),
    Check(String, Check),
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct CatalogOp {
    pub(crate) verb: String,
    pub(crate) target: Target,
    /// What the record's index must be, for those that compare it.
    pub(crate) index: u64,
}

impl CatalogOp {
    /// True if it changes nothing.
    pub(crate) fn only_reads(&self) -> bool {
        Verb::parse(&self.verb) == Some(Verb::Get)
    }

    /// Does it; answers with the record as it is or will be, or with none if that is deleted.
    pub(crate) fn apply(
        &self,
        draft: &mut CatalogDraft,
        permit: &dyn Permit,
    ) -> Result<Option<Item>, OpError> {
        match &self.target {
            Target::Node(node) => self.on_node(draft, permit, node),
            Target::Service(node, service) => self.on_service(draft, permit, node, service),
            Target::Check(node, check) => self.on_check(draft, permit, node, check),
        }
    }

    fn on_node(
        &self,
        draft: &mut CatalogDraft,
        permit: &dyn Permit,
        node: &Node,
    ) -> Result<Option<Item>, OpError> {
        if !self.only_reads() {
            named(&node.name, "Must provide node")?;
        }
        let verb = Verb::known("Node", &self.verb)?;
        let by_id = (verb != Verb::Set && !node.id.is_empty()).then(|| draft.name_of(&node.id));
        let name = by_id.flatten().unwrap_or_else(|| node.name.clone());
        allow(
            permit,
            match verb {
                Verb::Get => Wish::NodeRead(&name),
                _ => Wish::NodeWrite(&name),
            },
        )?;
        let there = draft.node(&name).map(|entry| entry.node.clone());
        let index = there.as_ref().map(|there| there.modify_index);
        let what = format!("node {name:?}");
        self.compare(verb, index, &what)?;
        match verb {
            Verb::Get => there.map(|node| Some(Item::Node(node))).ok_or_else(|| missing(&what)),
            Verb::Set | Verb::Cas => Ok(Some(Item::Node(draft.put_node(node.clone())?))),
            Verb::Delete | Verb::DeleteCas if index.is_none() => Ok(None),
            Verb::Delete | Verb::DeleteCas => draft.delete_node(&name).map(|()| None),
        }
    }

    fn on_service(
        &self,
        draft: &mut CatalogDraft,
        permit: &dyn Permit,
        node: &str,
        service: &Service,
    ) -> Result<Option<Item>, OpError> {
        let mut service = service.clone();
        if !self.only_reads() {
            if service.id.is_empty() {
                service.id.clone_from(&service.name);
            }
            named(node, "Must provide node")?;
            named(&service.name, "Must provide service name with ID")?;
            named(&service.id, "Must provide service name with ID")?;
        }
        let verb = Verb::known("Service", &self.verb)?;
        let there = draft.service(node, &service.id).cloned();
        for name in [&service.name, there.as_ref().map_or(&service.name, |there| &there.name)] {
            match verb {
                Verb::Get if there.is_none() => {}
                Verb::Get => allow(permit, Wish::ServiceRead(name))?,
                _ => allow(permit, Wish::ServiceWrite(name))?,
            }
        }
        let index = there.as_ref().map(|there| there.modify_index);
        let what = format!("service {:?} on node {node:?}", service.id);
        self.compare(verb, index, &what)?;
        match verb {
            Verb::Get => {
                there.map(|found| Some(Item::Service(found))).ok_or_else(|| missing(&what))
            }
            Verb::Set | Verb::Cas => {
                draft.node(node).ok_or_else(no_node)?;
                Ok(Some(Item::Service(draft.put_service(node, service)?)))
            }
            Verb::Delete | Verb::DeleteCas if index.is_none() => Ok(None),
            Verb::Delete | Verb::DeleteCas => {
                draft.delete_service(node, &service.id).map(|()| None)
            }
        }
    }

    fn on_check(
        &self,
        draft: &mut CatalogDraft,
        permit: &dyn Permit,
        node: &str,
        check: &Check,
    ) -> Result<Option<Item>, OpError> {
        let mut check = check.clone();
        if !self.only_reads() {
            if check.id.is_empty() {
                check.id.clone_from(&check.name);
            }
            named(node, "Must provide node")?;
            named(&check.id, "Must provide a CheckID or a Name of the check")?;
        }
        let verb = Verb::known("Check", &self.verb)?;
        let there = draft.check(node, &check.id).cloned();
        for of in [Some(&check), there.as_ref()].into_iter().flatten() {
            let service = draft.node(node).and_then(|entry| entry.service_of(of));
            allow(
                permit,
                match (service, verb) {
                    (Some(service), Verb::Get) => Wish::ServiceRead(&service.name),
                    (Some(service), _) => Wish::ServiceWrite(&service.name),
                    (None, Verb::Get) => Wish::NodeRead(node),
                    (None, _) => Wish::NodeWrite(node),
                },
            )?;
        }
        let index = there.as_ref().map(|there| there.modify_index);
        let what = format!("check {:?} on node {node:?}", check.id);
        self.compare(verb, index, &what)?;
        match verb {
            Verb::Get => there.ok_or_else(|| missing(&what)).map(|found| shown(draft, node, found)),
            Verb::Set | Verb::Cas => {
                draft.node(node).ok_or_else(no_node)?;
                if !check.service_id.is_empty() && draft.service(node, &check.service_id).is_none()
                {
                    return Err(OpError::Failed("Missing service registration".to_owned()));
                }
                let kept = draft.put_check(node, check)?;
                Ok(shown(draft, node, kept))
            }
            Verb::Delete | Verb::DeleteCas if index.is_none() => Ok(None),
            Verb::Delete | Verb::DeleteCas => draft.delete_check(node, &check.id).map(|()| None),
        }
    }

    /// Refuses if the index is not what the client knows.
    fn compare(&self, verb: Verb, there: Option<u64>, what: &str) -> Result<(), OpError> {
        let (is_known, does) = match verb {
            Verb::Cas => (there.unwrap_or(0) == self.index, "set"),
            Verb::DeleteCas => (there.is_some_and(|there| there == self.index), "delete"),
            Verb::Get | Verb::Set | Verb::Delete => return Ok(()),
        };
        let stale = || OpError::Failed(format!("failed to {does} {what}, index is stale"));
        if is_known { Ok(()) } else { Err(stale()) }
    }
}

/// A check with the service that it is about.
fn shown(draft: &mut CatalogDraft, node: &str, check: Check) -> Option<Item> {
    let entry = draft.node(node)?;
    let service = entry.service_of(&check).cloned();
    let node = entry.node.name.clone();
    Some(Item::Check(Box::new(CheckItem { node, service, check })))
}

fn named(name: &str, missing: &str) -> Result<(), OpError> {
    crate::agent::body::named(name, missing).map_err(|refusal| match refusal {
        Refusal::Failed(words) => OpError::Failed(words),
        refusal => OpError::Refused(refusal),
    })
}

fn allow(permit: &dyn Permit, wish: Wish<'_>) -> Result<(), OpError> {
    if permit.allows(wish) { Ok(()) } else { Err(OpError::Denied) }
}

fn missing(what: &str) -> OpError {
    OpError::Failed(format!("{what} doesn't exist"))
}

fn no_node() -> OpError {
    OpError::Failed("Missing node registration".to_owned())
}
