//! One request about objects, taken apart.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Method};
use hyper::upgrade::OnUpgrade;
use pontoon_model::status::Status;
use pontoon_objects::Objects;
use serde_json::Value;

use crate::authorize::Attributes;
use crate::content::{self, Decoded, RequestBody};
use crate::identity::Identity;
use crate::in_flight::{Place, Sort};
use crate::path::Target;
use crate::query::Query;
use crate::server::Shared;
use crate::verbs::attach;

/// A request about objects, with all that answering it needs.
pub(crate) struct Call {
    pub shared: Arc<Shared>,
    pub identity: Identity,
    pub target: Target,
    pub verb: &'static str,
    pub query: Query,
    pub headers: HeaderMap,
    /// Behind a lock only because a body cannot be looked at from two threads, while a call is.
    pub body: Mutex<RequestBody>,
    /// Set when the client asks to change the protocol.
    pub upgrade: Option<OnUpgrade>,
    /// The place among the requests under way; moves into the answer of a long one.
    pub place: Option<Place>,
}

impl Call {
    pub(crate) fn objects(&self) -> &Objects {
        &self.shared.objects
    }

    /// What is asked, for the authorizer.
    pub(crate) fn attributes(&self) -> Attributes<'_> {
        Attributes {
            verb: self.verb,
            group: self.target.resource.group,
            resource: self.target.resource.plural,
            subresource: self.target.subresource(),
            namespace: self.target.namespace().unwrap_or_default(),
            name: self.target.name(),
            path: None,
            field_selector: self.query.get("fieldSelector"),
        }
    }

    pub(crate) fn take_body(&mut self) -> RequestBody {
        std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the body and decodes it.
    pub(crate) async fn decode_body(&mut self) -> Result<Decoded, Status> {
        let language = content::language(&self.headers)?;
        let bytes = content::read(self.take_body()).await?;
        content::decode(language, &bytes)
    }

    /// Takes the body and decodes it; `None` when it is empty.
    pub(crate) async fn decode_optional_body(&mut self) -> Result<Option<Value>, Status> {
        let bytes = content::read(self.take_body()).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let language = content::language(&self.headers)?;
        content::decode(language, &bytes).map(|decoded| Some(decoded.value))
    }
}

/// Whether a request may go on for long, and is counted apart then.
pub(crate) fn sort(verb: &str, target: &Target, query: &Query) -> Sort {
    let long = verb == "watch"
        || target.subresource() == "exec"
        || (target.subresource() == "log" && query.flag("follow"));
    if long { Sort::Long } else { Sort::Short }
}

/// Kubernetes' verb for a method on a target; 405 when there is none or the resource has it not.
pub(crate) fn verb(
    method: &Method,
    target: &Target,
    query: &Query,
) -> Result<&'static str, Status> {
    let named = target.name.is_some();
    let in_part = target.subresource.is_some();
    let verb = match *method {
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD if query.flag("watch") => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST if !named || in_part => "create",
        Method::PUT if named => "update",
        Method::PATCH if named => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => return Err(Status::method_not_allowed(target.resource, method.as_str())),
    };
    // A list over all namespaces can be read, but nothing can be written at that path.
    let all_namespaces = target.resource.namespaced && target.namespace.is_none();
    let served = match &target.subresource {
        Some(name) => {
            let part = target.resource.subresource(name).ok_or_else(|| attach::refuse(target))?;
            part.verbs.contains(&verb)
        }
        None => target.resource.verbs.contains(&verb),
    };
    if !served || (all_namespaces && !matches!(verb, "list" | "watch")) {
        return Err(Status::method_not_allowed(target.resource, verb));
    }
    Ok(verb)
}

/// The methods that a target answers to.
pub(crate) fn methods(target: &Target) -> String {
    let all = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let query = Query::default();
    let served = all
        .iter()
        .filter(|method| **method == Method::OPTIONS || verb(method, target, &query).is_ok());
    served.map(Method::as_str).collect::<Vec<_>>().join(", ")
}
