//! The language of policies: which resources there are, and what a policy says of them.

use super::hcl::{self, HclError, Item, Node};

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    Acl,
    Agent,
    Event,
    Intention,
    Key,
    Keyring,
    Mesh,
    Node,
    Operator,
    Peering,
    Query,
    Service,
    Session,
}

/// How much a rule grants; each grants what those before it do, and the first nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    Deny,
    Read,
    /// To read all keys below a prefix at once.
    List,
    Write,
}

/// Which names of its resource a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The resource has no names.
    Whole,
    Exact(String),
    Prefix(String),
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub resource: Resource,
    pub scope: Scope,
    pub access: Access,
    /// Of a service: access to the intentions about it, where the policy says so.
    pub intentions: Option<Access>,
}

/// What a policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

/// A text that is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    #[error("Failed to parse ACL rules: {0}")]
    Syntax(#[from] HclError),
    #[error("Failed to parse ACL rules: {kind} {what}")]
    Form { kind: &'static str, what: &'static str },
    #[error("Invalid {kind} policy: {access:?}; it must be {choices}")]
    Whole { kind: &'static str, access: String, choices: &'static str },
    #[error("Invalid {kind} {field}: {name:?} has {access:?}, which must be {choices}")]
    Access {
        kind: &'static str,
        field: &'static str,
        name: String,
        access: String,
        choices: &'static str,
    },
}

/// How rules of some kind are written.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    resource: Resource,
    form: Form,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Whole,
    Exact,
    Prefix,
}

const fn kind(name: &'static str, resource: Resource, form: Form) -> Kind {
    Kind { name, resource, form }
}

const KINDS: [Kind; 19] = [
    kind("acl", Resource::Acl, Form::Whole),
    kind("agent", Resource::Agent, Form::Exact),
    kind("agent_prefix", Resource::Agent, Form::Prefix),
    kind("event", Resource::Event, Form::Exact),
    kind("event_prefix", Resource::Event, Form::Prefix),
    kind("key", Resource::Key, Form::Exact),
    kind("key_prefix", Resource::Key, Form::Prefix),
    kind("keyring", Resource::Keyring, Form::Whole),
    kind("mesh", Resource::Mesh, Form::Whole),
    kind("node", Resource::Node, Form::Exact),
    kind("node_prefix", Resource::Node, Form::Prefix),
    kind("operator", Resource::Operator, Form::Whole),
    kind("peering", Resource::Peering, Form::Whole),
    kind("query", Resource::Query, Form::Exact),
    kind("query_prefix", Resource::Query, Form::Prefix),
    kind("service", Resource::Service, Form::Exact),
    kind("service_prefix", Resource::Service, Form::Prefix),
    kind("session", Resource::Session, Form::Exact),
    kind("session_prefix", Resource::Session, Form::Prefix),
];

impl Rules {
    /// Reads a policy in HCL or JSON. Unknown names are passed over, as Consul does: so `namespace` of its
    /// enterprise edition, with the rules in it.
    pub fn parse(text: &str) -> Result<Rules, RulesError> {
        let mut rules = Rules::default();
        for Item { keys, node } in hcl::parse(text)? {
            let Some((name, labels)) = keys.split_first() else { continue };
            if let Some(kind) = KINDS.iter().find(|kind| kind.name.eq_ignore_ascii_case(name)) {
                rules.take(*kind, labels, node)?;
            }
        }
        Ok(rules)
    }

    fn take(&mut self, kind: Kind, labels: &[String], node: Node) -> Result<(), RulesError> {
        let form = |what| RulesError::Form { kind: kind.name, what };
        match (kind.form, labels, node) {
            (Form::Whole, [], Node::Text(access)) => self.whole(kind, access),
            (Form::Whole, ..) => Err(form("takes a text: write it as name = \"read\"")),
            (_, [name], Node::Object(fields)) => self.named(kind, name, fields),
            (_, [name], Node::List(nodes)) => {
                nodes.into_iter().try_for_each(|node| self.one_of_list(kind, name, node))
            }
            (_, [], Node::Object(items)) => {
                items.into_iter().try_for_each(|item| self.take(kind, &item.keys, item.node))
            }
            (_, [], Node::List(nodes)) => {
                nodes.into_iter().try_for_each(|node| self.take(kind, &[], node))
            }
            (_, [] | [_], _) => Err(form("takes an object: write it as name \"label\" { … }")),
            _ => Err(form("takes one label")),
        }
    }

    fn whole(&mut self, kind: Kind, access: String) -> Result<(), RulesError> {
        if access.is_empty() {
            return Ok(());
        }
        let choices = kind.choices();
        let found = kind.access(&access);
        let access = found.ok_or(RulesError::Whole { kind: kind.name, access, choices })?;
        // It is a single value: what is said later replaces it.
        self.0.retain(|rule| rule.resource != kind.resource);
        self.0.push(Rule {
            resource: kind.resource,
            scope: Scope::Whole,
            access,
            intentions: None,
        });
        Ok(())
    }

    fn one_of_list(&mut self, kind: Kind, name: &str, node: Node) -> Result<(), RulesError> {
        match node {
            Node::Object(fields) => self.named(kind, name, fields),
            _ => Err(RulesError::Form { kind: kind.name, what: "takes a list of objects only" }),
        }
    }

    /// Takes the fields of one rule; of a field that is there twice, the last counts.
    fn named(&mut self, kind: Kind, name: &str, fields: Vec<Item>) -> Result<(), RulesError> {
        let mut policy = String::new();
        let mut intentions = String::new();
        for Item { keys, node } in fields {
            let is = |field: &str| keys.len() == 1 && keys[0].eq_ignore_ascii_case(field);
            let target = if is("policy") {
                &mut policy
            } else if is("intentions") && kind.resource == Resource::Service {
                &mut intentions
            } else {
                continue;
            };
            let Node::Text(text) = node else {
                return Err(RulesError::Form {
                    kind: kind.name,
                    what: "has a policy that is no text",
                });
            };
            *target = text;
        }
        let access = |field, access: String| {
            let found = kind.access(&access);
            found.ok_or_else(|| RulesError::Access {
                kind: kind.name,
                field,
                name: name.to_owned(),
                access,
                choices: kind.choices(),
            })
        };
        let given = !intentions.is_empty();
        let rule = Rule {
            resource: kind.resource,
            scope: kind.scope(name),
            access: access("policy", policy)?,
            intentions: given.then(|| access("intentions policy", intentions)).transpose()?,
        };
        self.0.push(rule);
        Ok(())
    }
}

impl Kind {
    fn scope(self, name: &str) -> Scope {
        match self.form {
            Form::Whole => Scope::Whole,
            Form::Exact => Scope::Exact(name.to_owned()),
            Form::Prefix => Scope::Prefix(name.to_owned()),
        }
    }

    fn access(self, text: &str) -> Option<Access> {
        match text {
            "deny" => Some(Access::Deny),
            "read" => Some(Access::Read),
            "list" if self.resource == Resource::Key => Some(Access::List),
            "write" => Some(Access::Write),
            _ => None,
        }
    }

    fn choices(self) -> &'static str {
        match self.resource {
            Resource::Key => "read, list, write or deny",
            _ => "read, write or deny",
        }
    }
}
