//! What a token may do: its policies joined, and what is the case where none of them has a rule.

use std::collections::{BTreeMap, HashMap};

use super::rules::{Access, Resource, Rule, Rules, Scope};
use super::segments::{Segments, stronger};

/// What is the case without a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    Deny,
    /// All but to see and change tokens and policies, and to take snapshots, which have them in them.
    Allow,
    /// All: access control is off, or the token is the built-in one for management.
    AllowAll,
}

/// A question to [`Authorizer::enforce`] that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnforceError {
    #[error("Invalid ACL resource requested: {0:?}")]
    Resource(String),
    #[error("Invalid access level for {resource} resource: {access}")]
    Access { resource: String, access: String },
}

/// Decides what a token may do.
#[derive(Clone, Debug)]
pub struct Authorizer {
    segments: HashMap<Resource, Segments>,
    otherwise: Otherwise,
}

impl Authorizer {
    /// Joins policies. Of rules for the same name, a denial counts over all others, and writing over reading.
    pub fn new<'a>(
        policies: impl IntoIterator<Item = &'a Rules>,
        otherwise: Otherwise,
    ) -> Authorizer {
        let mut authorizer = Authorizer { segments: HashMap::new(), otherwise };
        let mut services: BTreeMap<&Scope, (Access, Option<Access>)> = BTreeMap::new();
        for rule in policies.into_iter().flat_map(|policy| &policy.0) {
            authorizer.add(rule.resource, &rule.scope, rule.access);
            if rule.resource == Resource::Service {
                let joined = services.entry(&rule.scope).or_insert((rule.access, None));
                *joined = join_service(*joined, rule);
            }
        }
        for (scope, (service, intentions)) in services {
            // Who may see a service may see its intentions; to change them needs its own word.
            let implied = if service == Access::Deny { Access::Deny } else { Access::Read };
            authorizer.add(Resource::Intention, scope, intentions.unwrap_or(implied));
        }
        authorizer
    }

    fn add(&mut self, resource: Resource, scope: &Scope, access: Access) {
        let segments = self.segments.entry(resource).or_default();
        match scope {
            Scope::Whole => segments.add_prefix(b"", access),
            Scope::Exact(name) => segments.add_exact(name.as_bytes(), access),
            Scope::Prefix(prefix) => segments.add_prefix(prefix.as_bytes(), access),
        }
    }

    /// True if a name of a resource may be read, listed or written; a resource without names takes any.
    pub fn allows(&self, resource: Resource, name: impl AsRef<[u8]>, wanted: Access) -> bool {
        let name = name.as_ref();
        match (resource, name) {
            (Resource::Intention, b"*") if wanted == Access::Write => {
                self.allows_all(resource, wanted)
            }
            (Resource::Intention, b"*") => self.allows_any(resource, wanted),
            _ => self.decide(resource, wanted, self.rule(resource, name)),
        }
    }

    /// True if all that begins with `prefix` may be written, as deleting it at once needs: the prefix itself
    /// may be written, and no rule below it says otherwise.
    pub fn allows_key_prefix(&self, prefix: impl AsRef<[u8]>) -> bool {
        let prefix = prefix.as_ref();
        let Some(keys) = self.segments.get(&Resource::Key) else {
            return self.otherwise(Resource::Key);
        };
        let own = self.decide(Resource::Key, Access::Write, keys.longest_prefix(prefix));
        own && keys.below(prefix).all(|access| access == Access::Write)
    }

    /// True if every name of a resource may be read, listed or written.
    pub fn allows_all(&self, resource: Resource, wanted: Access) -> bool {
        let Some(segments) = self.segments.get(&resource) else { return self.otherwise(resource) };
        let own = self.decide(resource, wanted, segments.longest_prefix(b""));
        own && segments.below(b"").all(|access| grants(access, wanted))
    }

    /// True if there is a name of a resource that may be read, listed or written.
    pub fn allows_any(&self, resource: Resource, wanted: Access) -> bool {
        let Some(segments) = self.segments.get(&resource) else { return self.otherwise(resource) };
        self.decide(resource, wanted, segments.longest_prefix(b""))
            || segments.below(b"").any(|access| grants(access, wanted))
    }

    /// True if snapshots may be taken and restored: there are tokens in them.
    pub fn allows_snapshot(&self) -> bool {
        self.allows(Resource::Acl, "", Access::Write)
    }

    /// Answers a question in Consul's own words: may `access` be had to `segment` of `resource`?
    pub fn enforce(
        &self,
        resource: &str,
        segment: &str,
        access: &str,
    ) -> Result<bool, EnforceError> {
        let found = RESOURCES.iter().find(|(name, _)| *name == resource);
        let (_, found) = found.ok_or_else(|| EnforceError::Resource(resource.to_owned()))?;
        let wanted = match (found, access.to_ascii_lowercase().as_str()) {
            (_, "read") => Access::Read,
            (_, "write") => Access::Write,
            (Resource::Key, "list") => Access::List,
            (Resource::Key, "write-prefix") => return Ok(self.allows_key_prefix(segment)),
            _ => {
                let (resource, access) = (resource.to_owned(), access.to_owned());
                return Err(EnforceError::Access { resource, access });
            }
        };
        Ok(self.allows(*found, segment, wanted))
    }

    fn rule(&self, resource: Resource, name: &[u8]) -> Option<Access> {
        let find = |resource| self.segments.get(&resource).and_then(|rules| rules.find(name));
        match resource {
            // These came later than the operator's rules, which covered what they do.
            Resource::Mesh | Resource::Peering => {
                find(resource).or_else(|| find(Resource::Operator))
            }
            _ => find(resource),
        }
    }

    fn decide(&self, resource: Resource, wanted: Access, rule: Option<Access>) -> bool {
        rule.map_or_else(|| self.otherwise(resource), |access| grants(access, wanted))
    }

    fn otherwise(&self, resource: Resource) -> bool {
        match self.otherwise {
            Otherwise::Deny => false,
            Otherwise::Allow => resource != Resource::Acl,
            Otherwise::AllowAll => true,
        }
    }
}

/// Consul's names of what can be asked about.
const RESOURCES: [(&str, Resource); 13] = [
    ("acl", Resource::Acl),
    ("agent", Resource::Agent),
    ("event", Resource::Event),
    ("intention", Resource::Intention),
    ("key", Resource::Key),
    ("keyring", Resource::Keyring),
    ("mesh", Resource::Mesh),
    ("node", Resource::Node),
    ("operator", Resource::Operator),
    ("peering", Resource::Peering),
    ("query", Resource::Query),
    ("service", Resource::Service),
    ("session", Resource::Session),
];

fn grants(access: Access, wanted: Access) -> bool {
    access != Access::Deny && access >= wanted
}

fn join_service(joined: (Access, Option<Access>), rule: &Rule) -> (Access, Option<Access>) {
    let intentions = match (joined.1, rule.intentions) {
        (Some(a), Some(b)) => Some(stronger(a, b)),
        (a, b) => a.or(b),
    };
    (stronger(joined.0, rule.access), intentions)
}
