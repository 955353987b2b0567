//! The table of resources itself.

use super::{Resource, Subresource};

const CRUD: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Kubernetes refuses to delete all services or namespaces of a cluster in one request.
const CRUD_ONE: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const GET_WRITE: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];

macro_rules! resource {
    ($name:ident = $group:literal, $version:literal, $plural:literal, $singular:literal, $kind:literal;
     $($rest:tt)*) => {
        #[doc = concat!("The resource `", $plural, "`.")]
        pub const $name: &Resource = &Resource {
            group: $group,
            version: $version,
            plural: $plural,
            singular: $singular,
            kind: $kind,
            $($rest)*
        };
    };
}

const fn status_of(group: &'static str, version: &'static str, kind: &'static str) -> Subresource {
    Subresource { name: "status", kind, group, version, verbs: GET_WRITE }
}

const SCALE: Subresource = Subresource {
    name: "scale",
    kind: "Scale",
    group: "autoscaling",
    version: "v1",
    verbs: GET_WRITE,
};

resource! { NAMESPACES = "", "v1", "namespaces", "namespace", "Namespace";
    short_names: &["ns"],
    namespaced: false,
    categories: &[],
    verbs: CRUD_ONE,
    subresources: &[
        Subresource { name: "finalize", kind: "Namespace", group: "", version: "v1", verbs: &["update"] },
        status_of("", "v1", "Namespace"),
    ],
    head: r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"#,
}

resource! { NODES = "", "v1", "nodes", "node", "Node";
    short_names: &["no"],
    namespaced: false,
    categories: &[],
    verbs: CRUD,
    subresources: &[status_of("", "v1", "Node")],
    head: r#"{"apiVersion":"v1","kind":"Node","metadata":{"#,
}

resource! { LEASES = "coordination.k8s.io", "v1", "leases", "lease", "Lease";
    short_names: &[],
    namespaced: true,
    categories: &[],
    verbs: CRUD,
    subresources: &[],
    head: r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"#,
}

resource! { PODS = "", "v1", "pods", "pod", "Pod";
    short_names: &["po"],
    namespaced: true,
    categories: &["all"],
    verbs: CRUD,
    subresources: &[
        Subresource { name: "binding", kind: "Binding", group: "", version: "v1", verbs: CREATE },
        Subresource { name: "eviction", kind: "Eviction", group: "policy", version: "v1", verbs: CREATE },
        Subresource { name: "exec", kind: "PodExecOptions", group: "", version: "v1", verbs: &["create", "get"] },
        Subresource { name: "log", kind: "Pod", group: "", version: "v1", verbs: &["get"] },
        status_of("", "v1", "Pod"),
    ],
    head: r#"{"apiVersion":"v1","kind":"Pod","metadata":{"#,
}

resource! { REPLICA_SETS = "apps", "v1", "replicasets", "replicaset", "ReplicaSet";
    short_names: &["rs"],
    namespaced: true,
    categories: &["all"],
    verbs: CRUD,
    subresources: &[SCALE, status_of("apps", "v1", "ReplicaSet")],
    head: r#"{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"#,
}

resource! { DEPLOYMENTS = "apps", "v1", "deployments", "deployment", "Deployment";
    short_names: &["deploy"],
    namespaced: true,
    categories: &["all"],
    verbs: CRUD,
    subresources: &[SCALE, status_of("apps", "v1", "Deployment")],
    head: r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"#,
}

resource! { DAEMON_SETS = "apps", "v1", "daemonsets", "daemonset", "DaemonSet";
    short_names: &["ds"],
    namespaced: true,
    categories: &["all"],
    verbs: CRUD,
    subresources: &[status_of("apps", "v1", "DaemonSet")],
    head: r#"{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"#,
}

resource! { CONTROLLER_REVISIONS = "apps", "v1", "controllerrevisions", "controllerrevision", "ControllerRevision";
    short_names: &[],
    namespaced: true,
    categories: &[],
    verbs: CRUD,
    subresources: &[],
    head: r#"{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{"#,
}

resource! { SERVICES = "", "v1", "services", "service", "Service";
    short_names: &["svc"],
    namespaced: true,
    categories: &["all"],
    verbs: CRUD,
    subresources: &[status_of("", "v1", "Service")],
    head: r#"{"apiVersion":"v1","kind":"Service","metadata":{"#,
}

resource! { ENDPOINTS = "", "v1", "endpoints", "endpoints", "Endpoints";
    short_names: &["ep"],
    namespaced: true,
    categories: &[],
    verbs: CRUD,
    subresources: &[],
    head: r#"{"apiVersion":"v1","kind":"Endpoints","metadata":{"#,
}

resource! { ENDPOINT_SLICES = "discovery.k8s.io", "v1", "endpointslices", "endpointslice", "EndpointSlice";
    short_names: &[],
    namespaced: true,
    categories: &[],
    verbs: CRUD,
    subresources: &[],
    head: r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"#,
}

resource! { CONFIG_MAPS = "", "v1", "configmaps", "configmap", "ConfigMap";
    short_names: &["cm"],
    namespaced: true,
    categories: &[],
    verbs: CRUD,
    subresources: &[],
    head: r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"#,
}

resource! { SECRETS = "", "v1", "secrets", "secret", "Secret";
    short_names: &[],
    namespaced: true,
    categories: &[],
    verbs: CRUD,
    subresources: &[],
    head: r#"{"apiVersion":"v1","kind":"Secret","metadata":{"#,
}

resource! { SERVICE_ACCOUNTS = "", "v1", "serviceaccounts", "serviceaccount", "ServiceAccount";
    short_names: &["sa"],
    namespaced: true,
    categories: &[],
    verbs: CRUD,
    subresources: &[],
    head: r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"#,
}

resource! { EVENTS = "", "v1", "events", "event", "Event";
    short_names: &["ev"],
    namespaced: true,
    categories: &[],
    verbs: CRUD,
    subresources: &[],
    head: r#"{"apiVersion":"v1","kind":"Event","metadata":{"#,
}

/// Every kind, in the order in which `api-resources` and "all" list them.
pub const ALL: &[&Resource] = &[
    CONFIG_MAPS,
    ENDPOINTS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    DEPLOYMENTS,
    REPLICA_SETS,
    LEASES,
    ENDPOINT_SLICES,
];
