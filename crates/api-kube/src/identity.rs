//! Who makes a request, as the TLS layer has proved it.

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of node identities; what they may do is limited to their own node.
pub const NODES: &str = "system:nodes";
const AUTHENTICATED: &str = "system:authenticated";
const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// A proved user name with its groups. A node is user `system:node:<name>` or plain `<name>` in the group
/// `system:nodes`; an administrator is any user in `system:masters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
}

impl Identity {
    /// A user whose certificate names these groups; `system:authenticated` is added.
    pub fn new(user: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Identity {
        let mut groups: Vec<String> = groups.into_iter().collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Identity { user: user.into(), groups }
    }

    /// A request that proved nothing: it gets 401 everywhere but on the health and version pages.
    pub fn anonymous() -> Identity {
        Identity { user: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()] }
    }

    /// A member of `system:masters`.
    pub fn admin() -> Identity {
        Identity::new("admin", [MASTERS.to_owned()])
    }

    /// The node of this name.
    pub fn node(name: &str) -> Identity {
        Identity::new(format!("{NODE_USER_PREFIX}{name}"), [NODES.to_owned()])
    }

    pub fn is_anonymous(&self) -> bool {
        self.groups.iter().any(|group| group == UNAUTHENTICATED)
    }

    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// The node that this identity is, if it is one.
    pub(crate) fn node_name(&self) -> Option<&str> {
        let is_node = self.groups.iter().any(|group| group == NODES);
        is_node.then(|| self.user.strip_prefix(NODE_USER_PREFIX).unwrap_or(&self.user))
    }
}

const NODE_USER_PREFIX: &str = "system:node:";
