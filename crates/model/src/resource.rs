//! Which kinds of object the cluster knows, as data: the table behind discovery, routing and keys.

mod table;

use std::fmt;
use std::hash::{Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use table::{
    ALL, CONFIG_MAPS, CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS,
    EVENTS, LEASES, NAMESPACES, NODES, PODS, REPLICA_SETS, SECRETS, SERVICE_ACCOUNTS, SERVICES,
};

/// A part of an object with its own path, such as `pods/log`. `kind`, `group` and `version` are
/// those of what is exchanged there.
#[derive(Debug)]
pub struct Subresource {
    pub name: &'static str,
    pub kind: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub verbs: &'static [&'static str],
}

/// A kind of object. There is one `&'static` value per kind; two are equal when group and plural are.
#[derive(Debug)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    pub short_names: &'static [&'static str],
    pub namespaced: bool,
    pub categories: &'static [&'static str],
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// How the stored and served JSON begins, up to and with metadata's opening brace.
    pub(crate) head: &'static str,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The kind of a list of these: `PodList`.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// `pods` or `deployments.apps`, as Kubernetes names a resource in messages.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Where an object is stored. The namespace is ignored for what belongs to the cluster.
    pub fn key(&self, namespace: Option<&str>, name: &str) -> String {
        let mut key = self.prefix(namespace);
        key.push_str(name);
        key
    }

    /// What the keys of all these objects, or of those in one namespace, begin with; ends in `/`.
    pub fn prefix(&self, namespace: Option<&str>) -> String {
        let group = if self.group.is_empty() { "core" } else { self.group };
        match namespace.filter(|n| self.namespaced && !n.is_empty()) {
            Some(namespace) => format!("/registry/{group}/{}/{namespace}/", self.plural),
            None => format!("/registry/{group}/{}/", self.plural),
        }
    }

    /// Namespace and name from a key below [`Resource::prefix`].
    pub fn parse_key<'k>(&self, key: &'k str) -> Option<(Option<&'k str>, &'k str)> {
        let rest = key.strip_prefix(self.prefix(None).as_str())?;
        if !self.namespaced {
            return Some((None, rest));
        }
        let (namespace, name) = rest.split_once('/')?;
        Some((Some(namespace), name))
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether status is written apart from the rest.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

/// The resource of a group (empty for core) by its plural name.
pub fn find(group: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|r| r.group == group && r.plural == plural)
}

/// The resource of an object with this `apiVersion` and `kind`.
pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|r| r.kind == kind && r.api_version() == api_version)
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || (self.group == other.group && self.plural == other.plural)
    }
}

impl Eq for Resource {}

impl Hash for Resource {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.group, self.plural).hash(state);
    }
}

impl PartialOrd for Resource {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Resource {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.group, self.plural).cmp(&(other.group, other.plural))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.qualified())
    }
}

/// A Rust type of a kind in the table.
pub trait Typed:
    k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Send + Sync + 'static
{
    const RESOURCE: &'static Resource;
}

macro_rules! typed {
    ($($ty:ty => $resource:ident),* $(,)?) => {$(
        impl Typed for $ty {
            const RESOURCE: &'static Resource = $resource;
        }
    )*};
}

typed! {
    k8s_openapi::api::core::v1::Namespace => NAMESPACES,
    k8s_openapi::api::core::v1::Node => NODES,
    k8s_openapi::api::core::v1::Pod => PODS,
    k8s_openapi::api::core::v1::Service => SERVICES,
    k8s_openapi::api::core::v1::Endpoints => ENDPOINTS,
    k8s_openapi::api::core::v1::ConfigMap => CONFIG_MAPS,
    k8s_openapi::api::core::v1::Secret => SECRETS,
    k8s_openapi::api::core::v1::ServiceAccount => SERVICE_ACCOUNTS,
    k8s_openapi::api::core::v1::Event => EVENTS,
    k8s_openapi::api::apps::v1::Deployment => DEPLOYMENTS,
    k8s_openapi::api::apps::v1::ReplicaSet => REPLICA_SETS,
    k8s_openapi::api::apps::v1::DaemonSet => DAEMON_SETS,
    k8s_openapi::api::apps::v1::ControllerRevision => CONTROLLER_REVISIONS,
    k8s_openapi::api::discovery::v1::EndpointSlice => ENDPOINT_SLICES,
    k8s_openapi::api::coordination::v1::Lease => LEASES,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_what_the_object_begins_with() {
        for r in ALL {
            let head = format!(
                r#"{{"apiVersion":"{}","kind":"{}","metadata":{{"#,
                r.api_version(),
                r.kind
            );
            assert_eq!(r.head, head);
        }
    }

    #[test]
    fn keys() {
        assert_eq!(PODS.key(Some("a"), "b"), "/registry/core/pods/a/b");
        assert_eq!(DEPLOYMENTS.prefix(None), "/registry/apps/deployments/");
        assert_eq!(NODES.key(Some("ignored"), "n"), "/registry/core/nodes/n");
        assert_eq!(PODS.parse_key("/registry/core/pods/a/b"), Some((Some("a"), "b")));
        assert_eq!(NODES.parse_key("/registry/core/nodes/n"), Some((None, "n")));
        assert_eq!(NODES.parse_key("/registry/core/pods/n"), None);
    }

    #[test]
    fn every_resource_is_found_again() {
        for r in ALL {
            assert_eq!(find(r.group, r.plural), Some(*r));
            assert_eq!(of_kind(&r.api_version(), r.kind), Some(*r));
        }
        assert_eq!(find("apps", "pods"), None);
    }
}
