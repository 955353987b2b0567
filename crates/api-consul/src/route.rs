//! All endpoints of Consul's API, as data: those that are served, and those that are refused by name.

use futures::future::BoxFuture;
use http::Method;

use crate::answer::Answer;
use crate::call::Call;
use crate::permit::Kind;
use crate::refusal::Refusal;
use crate::{
    acl, agent, catalog, coordinate, event, health, kv, operator, prepared, session, snapshot,
    status, txn,
};

/// What answers the calls of an endpoint.
pub(crate) type Handler = fn(Call) -> BoxFuture<'static, Result<Answer, Refusal>>;

/// The largest value of a key, and so the largest body: Consul's 512 kB.
pub(crate) const VALUE_MAX: usize = 512 << 10;
/// Bodies that describe one thing.
const OBJECT_MAX: usize = 64 << 10;
/// The payload of an event: all that Consul's gossip carries of one.
const EVENT_MAX: usize = 512;

/// An archive of a snapshot: what it unpacks to is bounded where that is done.
const ARCHIVE_MAX: usize = 8 << 20;

/// What an endpoint asks of a token, before it does or tells anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: it is for everybody, and the token is not looked at.
    Nothing,
    /// Permissions about these, for each thing that it does or tells; it is denied all others.
    To(&'static [Kind]),
}

/// An endpoint.
pub(crate) struct Route {
    /// Its path; one that ends in `/` has more behind it.
    pub(crate) path: &'static str,
    pub(crate) methods: &'static [Method],
    pub(crate) body_max: usize,
    pub(crate) needs: Needs,
    pub(crate) handler: Handler,
}

impl Needs {
    const fn of(kinds: &'static [Kind]) -> Needs {
        if kinds.is_empty() { Needs::Nothing } else { Needs::To(kinds) }
    }
}

impl Route {
    /// Its methods as a header lists them.
    pub(crate) fn allowed(&self) -> String {
        let methods = self.methods.iter().map(Method::as_str);
        std::iter::once("OPTIONS").chain(methods).collect::<Vec<_>>().join(",")
    }
}

/// One line of the table: path, methods, the largest body, what it asks permissions about, and the handler.
macro_rules! routes {
    ($($path:literal [$($method:ident)*] $body_max:expr, [$($kind:ident)*] => $handler:path;)*) => {
        &[$(Route {
            path: $path,
            methods: &[$(Method::$method),*],
            body_max: $body_max,
            needs: Needs::of(&[$(Kind::$kind),*]),
            handler: |call| Box::pin($handler(call)),
        }),*]
    };
}

pub(crate) const ROUTES: &[Route] = routes! {
    "/v1/kv/" [GET PUT DELETE] VALUE_MAX, [Key] => kv::answer;
    "/v1/txn" [PUT] VALUE_MAX, [Key Node Service] => txn::answer;
    "/v1/session/create" [PUT] OBJECT_MAX, [Session] => session::create;
    "/v1/session/destroy/" [PUT] OBJECT_MAX, [Session] => session::destroy;
    "/v1/session/renew/" [PUT] OBJECT_MAX, [Session] => session::renew;
    "/v1/session/info/" [GET] 0, [Session] => session::info;
    "/v1/session/node/" [GET] 0, [Session] => session::of_node;
    "/v1/session/list" [GET] 0, [Session] => session::list;
    "/v1/event/fire/" [PUT] EVENT_MAX, [Event] => event::fire;
    "/v1/event/list" [GET] 0, [Event] => event::list;
    "/v1/status/leader" [GET] 0, [] => status::leader;
    "/v1/status/peers" [GET] 0, [] => status::peers;
    "/v1/catalog/register" [PUT] OBJECT_MAX, [Node Service] => catalog::register;
    "/v1/catalog/deregister" [PUT] OBJECT_MAX, [Node Service] => catalog::deregister;
    "/v1/catalog/datacenters" [GET] 0, [] => catalog::datacenters;
    "/v1/catalog/nodes" [GET] 0, [Node] => catalog::nodes;
    "/v1/catalog/services" [GET] 0, [Service] => catalog::services;
    "/v1/catalog/service/" [GET] 0, [Node Service] => catalog::service;
    "/v1/catalog/node/" [GET] 0, [Node Service] => catalog::node;
    "/v1/catalog/node-services/" [GET] 0, [Node Service] => catalog::node_services;
    "/v1/health/node/" [GET] 0, [Node Service] => health::node;
    "/v1/health/checks/" [GET] 0, [Node Service] => health::of_service;
    "/v1/health/service/" [GET] 0, [Node Service] => health::service;
    "/v1/health/state/" [GET] 0, [Node Service] => health::state;
    "/v1/coordinate/datacenters" [GET] 0, [Node] => coordinate::datacenters;
    "/v1/coordinate/nodes" [GET] 0, [Node] => coordinate::nodes;
    "/v1/coordinate/node/" [GET] 0, [Node] => coordinate::node;
    "/v1/coordinate/update" [PUT] OBJECT_MAX, [Node] => coordinate::update;
    "/v1/query" [GET POST] OBJECT_MAX, [Query Node Service] => prepared::all;
    "/v1/query/" [GET PUT DELETE] OBJECT_MAX, [Query Node Service] => prepared::one;
    "/v1/snapshot" [GET PUT] ARCHIVE_MAX, [Acl] => snapshot::answer;
    "/v1/acl/bootstrap" [PUT] OBJECT_MAX, [] => acl::bootstrap;
    "/v1/acl/replication" [GET] 0, [] => acl::replication;
    "/v1/acl/token/self" [GET] 0, [] => acl::token::own;
    "/v1/acl/token" [PUT] OBJECT_MAX, [Acl] => acl::token::create;
    "/v1/acl/token/" [GET PUT DELETE] OBJECT_MAX, [Acl] => acl::token::one;
    "/v1/acl/tokens" [GET] 0, [Acl] => acl::token::list;
    "/v1/acl/policy" [PUT] VALUE_MAX, [Acl] => acl::policy::create;
    "/v1/acl/policy/name/" [GET] 0, [Acl] => acl::policy::by_name;
    "/v1/acl/policy/" [GET PUT DELETE] VALUE_MAX, [Acl] => acl::policy::one;
    "/v1/acl/policies" [GET] 0, [Acl] => acl::policy::list;
    "/v1/acl/role" [PUT] OBJECT_MAX, [Acl] => acl::role::create;
    "/v1/acl/role/name/" [GET] 0, [Acl] => acl::role::by_name;
    "/v1/acl/role/" [GET PUT DELETE] OBJECT_MAX, [Acl] => acl::role::one;
    "/v1/acl/roles" [GET] 0, [Acl] => acl::role::list;
    "/v1/acl/" [GET PUT POST DELETE] OBJECT_MAX, [] => acl::not_served;
    "/v1/operator/raft/configuration" [GET] 0, [Operator] => operator::raft_configuration;
    "/v1/operator/raft/peer" [DELETE] 0, [Operator] => operator::raft_peer;
    "/v1/operator/autopilot/configuration" [GET PUT] OBJECT_MAX, [Operator] => operator::configuration;
    "/v1/operator/autopilot/health" [GET] 0, [Operator] => operator::health;
    "/v1/agent/self" [GET] 0, [Agent] => agent::this;
    "/v1/agent/metrics" [GET] 0, [Agent] => agent::metrics;
    "/v1/agent/reload" [PUT] OBJECT_MAX, [Agent] => agent::reload;
    "/v1/agent/members" [GET] 0, [Node] => agent::members;
    "/v1/agent/services" [GET] 0, [Service] => agent::services;
    "/v1/agent/checks" [GET] 0, [Node Service] => agent::checks;
    "/v1/agent/service/register" [PUT] OBJECT_MAX, [Service] => agent::register::service;
    "/v1/agent/service/deregister/" [PUT] OBJECT_MAX, [Service] => agent::register::deregister_service;
    "/v1/agent/service/maintenance/" [PUT] OBJECT_MAX, [Service] => agent::register::service_maintenance;
    "/v1/agent/service/" [GET] 0, [Service] => agent::service;
    "/v1/agent/check/register" [PUT] OBJECT_MAX, [Node Service] => agent::register::check;
    "/v1/agent/check/deregister/" [PUT] OBJECT_MAX, [Node Service] => agent::register::deregister_check;
    "/v1/agent/check/pass/" [PUT] OBJECT_MAX, [Node Service] => agent::status::pass;
    "/v1/agent/check/warn/" [PUT] OBJECT_MAX, [Node Service] => agent::status::warn;
    "/v1/agent/check/fail/" [PUT] OBJECT_MAX, [Node Service] => agent::status::fail;
    "/v1/agent/check/update/" [PUT] OBJECT_MAX, [Node Service] => agent::status::update;
    "/v1/agent/health/service/id/" [GET] 0, [Service] => agent::health_by_id;
    "/v1/agent/health/service/name/" [GET] 0, [Service] => agent::health_by_name;
    "/v1/agent/maintenance" [PUT] OBJECT_MAX, [Node] => agent::register::maintenance;
    "/v1/agent/join/" [PUT] OBJECT_MAX, [Agent] => agent::join;
    "/v1/agent/leave" [PUT] OBJECT_MAX, [Agent] => agent::leave;
    "/v1/agent/force-leave/" [PUT] OBJECT_MAX, [Operator] => agent::force_leave;
};

/// Endpoints of Consul that are not served; one that ends in `/` stands for all below it.
const NOT_SERVED: &[&str] = &[
    "/v1/agent/",
    "/v1/catalog/",
    "/v1/config",
    "/v1/config/",
    "/v1/connect/",
    "/v1/coordinate/",
    "/v1/discovery-chain/",
    "/v1/exported-services",
    "/v1/health/",
    "/v1/imported-services",
    "/v1/internal/",
    "/v1/operator/",
    "/v1/peering",
    "/v1/peering/",
    "/v1/peerings",
];

/// The endpoint of a path, and what of the path is left for it.
pub(crate) fn find(path: &[u8]) -> Result<(&'static Route, usize), Refusal> {
    if let Some(route) = ROUTES.iter().find(|route| matches(route.path, path)) {
        return Ok((route, route.path.len()));
    }
    // As Go's router does: `/v1/kv` is meant to be `/v1/kv/`.
    let below =
        |route: &&Route| route.path.strip_suffix('/').is_some_and(|base| base.as_bytes() == path);
    if let Some(route) = ROUTES.iter().find(below) {
        return Err(Refusal::Moved(route.path.to_owned()));
    }
    let named = String::from_utf8_lossy(path).into_owned();
    match NOT_SERVED.iter().any(|pattern| matches(pattern, path)) {
        true => Err(Refusal::NotServed(named)),
        false => Err(Refusal::NotFound(format!(
            "Invalid URL path: {named} is not an endpoint of Consul's HTTP API"
        ))),
    }
}

fn matches(pattern: &str, path: &[u8]) -> bool {
    match pattern.ends_with('/') {
        true => path.starts_with(pattern.as_bytes()),
        false => path == pattern.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_endpoint() {
        let found = |path: &str| {
            find(path.as_bytes()).map(|(route, rest)| (route.path, path[rest..].to_owned()))
        };
        assert_eq!(found("/v1/kv/a/b"), Ok(("/v1/kv/", "a/b".to_owned())));
        assert_eq!(found("/v1/kv/"), Ok(("/v1/kv/", String::new())));
        assert_eq!(found("/v1/kv"), Err(Refusal::Moved("/v1/kv/".to_owned())));
        assert_eq!(found("/v1/txn"), Ok(("/v1/txn", String::new())));
        assert!(matches!(found("/v1/txn/a"), Err(Refusal::NotFound(_))));
        assert!(matches!(found("/v2/kv/a"), Err(Refusal::NotFound(_))));
        assert!(matches!(found("/v1/connect/ca/roots"), Err(Refusal::NotServed(_))));
    }

    #[test]
    fn no_endpoint_hides_another() {
        for (at, route) in ROUTES.iter().enumerate() {
            let found = ROUTES.iter().position(|other| matches(other.path, route.path.as_bytes()));
            assert_eq!(found, Some(at), "{}", route.path);
            assert!(!NOT_SERVED.contains(&route.path));
        }
    }
}
