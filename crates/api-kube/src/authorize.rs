//! Who may do what. Administrators may do everything; a node may read what it needs, and write its own status and
//! its own lease (its events go with its reports, where they are checked); everybody who is known may ask what is served and who they are.

use pontoon_model::resource::{Resource, find};
use pontoon_model::status::Status;

use crate::identity::Identity;

/// Where nodes keep their leases.
const NODE_LEASES: &str = "kube-node-lease";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE_EXISTING: &[&str] = &["patch", "update"];

/// The pages that everybody who is known may read.
pub(crate) const OPEN_PATHS: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
];

/// What a request wants to do, in Kubernetes' words. Empty texts mean "none" or "all".
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes<'r> {
    pub verb: &'r str,
    pub group: &'r str,
    pub resource: &'r str,
    pub subresource: &'r str,
    pub namespace: &'r str,
    pub name: &'r str,
    /// The path, for what is no resource.
    pub path: Option<&'r str>,
    /// The field selector of a list or watch.
    pub field_selector: Option<&'r str>,
}

impl<'r> Attributes<'r> {
    pub(crate) fn of_verb(verb: &'r str) -> Attributes<'r> {
        Attributes { verb, ..Attributes::default() }
    }

    /// `pods/log`, as rules name it.
    fn full_resource(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            part => format!("{}/{part}", self.resource),
        }
    }
}

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// For a node: only if the object is a pod bound to it, or one that such a pod refers to.
    IfOwnPod,
    Denied(String),
}

/// Some verbs on some resources.
pub(crate) struct Rule {
    pub verbs: &'static [&'static str],
    pub groups: &'static [&'static str],
    pub resources: &'static [&'static str],
    scope: Scope,
}

/// To which objects of a resource a node's rule goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    /// Objects with the name of the node.
    OwnName,
    /// Leases with the name of the node, in the namespace of such leases.
    OwnLease,
    /// Pods bound to the node and what they refer to.
    OwnPods,
}

const MASTER_RULES: &[Rule] =
    &[Rule { verbs: &["*"], groups: &["*"], resources: &["*"], scope: Scope::All }];

const NODE_RULES: &[Rule] = &[
    Rule {
        verbs: READ,
        groups: &[""],
        resources: &["nodes", "services", "endpoints", "namespaces"],
        scope: Scope::All,
    },
    Rule {
        verbs: READ,
        groups: &["discovery.k8s.io"],
        resources: &["endpointslices"],
        scope: Scope::All,
    },
    Rule { verbs: READ, groups: &[""], resources: &["pods"], scope: Scope::OwnPods },
    Rule {
        verbs: &["get"],
        groups: &[""],
        resources: &["configmaps", "secrets", "serviceaccounts"],
        scope: Scope::OwnPods,
    },
    Rule {
        verbs: WRITE_EXISTING,
        groups: &[""],
        resources: &["nodes/status"],
        scope: Scope::OwnName,
    },
    Rule {
        verbs: WRITE_EXISTING,
        groups: &[""],
        resources: &["pods/status"],
        scope: Scope::OwnPods,
    },
    Rule {
        verbs: &["create", "get", "patch", "update"],
        groups: &["coordination.k8s.io"],
        resources: &["leases"],
        scope: Scope::OwnLease,
    },
];

/// What may be asked by everybody who is known.
const COMMON_RULES: &[Rule] = &[
    Rule {
        verbs: &["create"],
        groups: &["authorization.k8s.io"],
        resources: &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        scope: Scope::All,
    },
    Rule {
        verbs: &["create"],
        groups: &["authentication.k8s.io"],
        resources: &["selfsubjectreviews"],
        scope: Scope::All,
    },
];

/// The rules that hold for an identity.
pub(crate) fn rules_of(identity: &Identity) -> Vec<&'static Rule> {
    if identity.is_anonymous() {
        return Vec::new();
    }
    let special: &[Rule] = match (identity.is_master(), identity.node_name()) {
        (true, _) => MASTER_RULES,
        (false, Some(_)) => NODE_RULES,
        (false, None) => &[],
    };
    special.iter().chain(COMMON_RULES).collect()
}

/// Whether the identity may do this, as far as the request alone tells.
pub(crate) fn decide(identity: &Identity, wanted: &Attributes<'_>) -> Decision {
    if identity.is_anonymous() {
        return Decision::Denied(
            "nothing is open to those who do not show who they are".to_owned(),
        );
    }
    if identity.is_master() {
        return Decision::Allowed;
    }
    if let Some(path) = wanted.path {
        return decide_path(wanted.verb, path);
    }
    let resource = wanted.full_resource();
    let fits = |rule: &&&Rule| {
        rule.verbs.contains(&wanted.verb)
            && rule.groups.contains(&wanted.group)
            && rule.resources.contains(&resource.as_str())
    };
    match rules_of(identity).iter().find(fits) {
        Some(rule) => in_scope(rule.scope, identity.node_name().unwrap_or_default(), wanted),
        None => Decision::Denied(String::new()),
    }
}

fn decide_path(verb: &str, path: &str) -> Decision {
    let open = OPEN_PATHS.iter().any(|open| match open.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == *open,
    });
    if open && matches!(verb, "get" | "head") {
        Decision::Allowed
    } else {
        Decision::Denied(String::new())
    }
}

fn in_scope(scope: Scope, node: &str, wanted: &Attributes<'_>) -> Decision {
    let own_name = wanted.name == node;
    match scope {
        Scope::All => Decision::Allowed,
        Scope::OwnName if own_name => Decision::Allowed,
        // The name of what is created stands in its body and is compared there.
        Scope::OwnLease
            if wanted.namespace == NODE_LEASES
                && (own_name || (wanted.verb == "create" && wanted.name.is_empty())) =>
        {
            Decision::Allowed
        }
        Scope::OwnName | Scope::OwnLease => {
            Decision::Denied(format!("node \"{node}\" may only write what is its own"))
        }
        Scope::OwnPods if wanted.verb == "list" || wanted.verb == "watch" => {
            let own = format!("spec.nodeName={node}");
            let selector = wanted.field_selector.unwrap_or_default();
            if selector.split(',').any(|term| term == own) {
                Decision::Allowed
            } else {
                Decision::Denied(format!(
                    "node \"{node}\" can only list and watch pods with the field selector {own}"
                ))
            }
        }
        Scope::OwnPods => Decision::IfOwnPod,
    }
}

/// The 403 for a refusal, in Kubernetes' words.
pub(crate) fn refusal(identity: &Identity, wanted: &Attributes<'_>, reason: &str) -> Status {
    let user = &identity.user;
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if let Some(path) = wanted.path {
        return forbidden(format!(
            "forbidden: User \"{user}\" cannot {} path \"{path}\"{why}",
            wanted.verb
        ));
    }
    let scope = match wanted.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let told = format!(
        "User \"{user}\" cannot {} resource \"{}\" in API group \"{}\" {scope}{why}",
        wanted.verb,
        wanted.full_resource(),
        wanted.group,
    );
    let resource: Option<&'static Resource> = find(wanted.group, wanted.resource);
    match resource {
        Some(resource) if !wanted.name.is_empty() => {
            Status::forbidden(resource, wanted.name, &told)
        }
        Some(resource) => {
            let mut status = Status::forbidden(resource, "", &told);
            status.message = format!("{} is forbidden: {told}", resource.qualified());
            status
        }
        None => forbidden(format!("{} is forbidden: {told}", wanted.resource)),
    }
}

fn forbidden(message: String) -> Status {
    let mut status = Status::bad_request(message);
    status.code = 403;
    "Forbidden".clone_into(&mut status.reason);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(verb: &'static str) -> Attributes<'static> {
        Attributes { resource: "pods", namespace: "a", name: "p", ..Attributes::of_verb(verb) }
    }

    fn check(identity: &Identity, wanted: Attributes<'_>, allowed: bool) {
        let decision = decide(identity, &wanted);
        assert_eq!(!matches!(decision, Decision::Denied(_)), allowed, "{wanted:?}: {decision:?}");
    }

    #[test]
    fn administrators_may_everything_and_strangers_nothing() {
        for verb in ["get", "delete", "create"] {
            check(&Identity::admin(), pods(verb), true);
            check(&Identity::anonymous(), pods(verb), false);
            check(&Identity::new("eve", []), pods(verb), false);
        }
        let version = Attributes { path: Some("/version"), ..Attributes::of_verb("get") };
        check(&Identity::new("eve", []), version, true);
        check(&Identity::anonymous(), version, false);
        let metrics = Attributes { path: Some("/metrics"), ..Attributes::of_verb("get") };
        check(&Identity::new("eve", []), metrics, false);
    }

    #[test]
    fn a_node_reads_what_it_needs() {
        let node = Identity::node("n1");
        check(&node, Attributes { resource: "services", ..Attributes::of_verb("watch") }, true);
        let own = Attributes { field_selector: Some("spec.nodeName=n1"), ..pods("list") };
        check(&node, own, true);
        let other = Attributes { field_selector: Some("spec.nodeName=n2"), ..pods("list") };
        check(&node, other, false);
        check(&node, Attributes { field_selector: None, ..pods("watch") }, false);
        assert_eq!(decide(&node, &pods("get")), Decision::IfOwnPod);
        let secret = Attributes { resource: "secrets", ..pods("get") };
        assert_eq!(decide(&node, &secret), Decision::IfOwnPod);
        check(&node, Attributes { resource: "secrets", ..pods("list") }, false);
    }

    #[test]
    fn a_node_writes_only_its_own() {
        let node = Identity::node("n1");
        let node_status = |name| Attributes {
            resource: "nodes",
            subresource: "status",
            name,
            ..Attributes::of_verb("patch")
        };
        check(&node, node_status("n1"), true);
        check(&node, node_status("n2"), false);
        check(&node, Attributes { subresource: "", ..node_status("n1") }, false);
        let lease = |namespace, name, verb| Attributes {
            group: "coordination.k8s.io",
            resource: "leases",
            namespace,
            name,
            ..Attributes::of_verb(verb)
        };
        check(&node, lease(NODE_LEASES, "n1", "update"), true);
        check(&node, lease(NODE_LEASES, "", "create"), true);
        check(&node, lease(NODE_LEASES, "n2", "update"), false);
        check(&node, lease("default", "n1", "update"), false);
        check(&node, Attributes { subresource: "status", ..pods("patch") }, true);
        for verb in ["create", "delete", "patch", "update"] {
            check(&node, pods(verb), false);
        }
        check(&node, Attributes { subresource: "exec", ..pods("create") }, false);
        check(&node, Attributes { resource: "events", ..pods("create") }, false);
    }

    #[test]
    fn refusals_read_as_in_kubernetes() {
        let status = refusal(&Identity::new("eve", []), &pods("list"), "");
        assert_eq!(status.code, 403);
        assert_eq!(
            status.message,
            "pods \"p\" is forbidden: User \"eve\" cannot list resource \"pods\" in API group \"\" in the namespace \"a\""
        );
    }
}
