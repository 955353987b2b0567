//! The name of one object: resource, namespace, name.

use std::fmt;

use pontoon_model::resource::Resource;

/// What a reconciler is called for, and what an action is done to.
///
/// Ordered by resource, then namespace, then name, so that one ordered map holds all objects and
/// a namespace of a resource is a range of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub resource: &'static Resource,
    /// `None` for what belongs to the cluster.
    pub namespace: Option<String>,
    pub name: String,
}

impl Key {
    pub fn new(resource: &'static Resource, namespace: Option<&str>, name: &str) -> Self {
        Self { resource, namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    /// The namespace, empty for what belongs to the cluster.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// Whether the object is of this resource.
    pub fn is(&self, resource: &Resource) -> bool {
        self.resource == resource
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.resource.plural, self.name),
            None => write!(f, "{}/{}", self.resource.plural, self.name),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
