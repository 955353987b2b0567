//! One request, read so far as all requests are: its path, query, token and body.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use pontoon_store::Store;
use serde::Serialize;

use crate::acl::Secret;
use crate::answer::{Answer, Meta};
use crate::json;
use crate::options::Options;
use crate::permit::{Permit, Wish};
use crate::query::Query;
use crate::refusal::Refusal;
use crate::route::Needs;
use crate::server::ConsulServer;

/// Parameters with which a request waits for what is new.
const WAITS_FOR: [&str; 2] = ["index", "hash"];

/// A request.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) server: ConsulServer,
    pub(crate) method: Method,
    /// What of the path comes after the route: a key, an id, a name.
    pub(crate) rest: Bytes,
    pub(crate) query: Query,
    pub(crate) body: Bytes,
    /// The token that it shows; empty if none.
    pub(crate) token: Secret,
    /// What the token may do.
    pub(crate) permit: Granted,
}

/// What a token may do at an endpoint: what the token's permit says of what the endpoint is about, and nothing else.
#[derive(Clone)]
pub(crate) struct Granted {
    permit: Arc<dyn Permit>,
    needs: Needs,
}

impl Granted {
    pub(crate) fn new(permit: Arc<dyn Permit>, needs: Needs) -> Granted {
        Granted { permit, needs }
    }

    /// True if it is the very same permit: nothing has changed about the token.
    pub(crate) fn is(&self, other: &Granted) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.permit), Arc::as_ptr(&other.permit))
    }

    /// True if the token may do this, and the endpoint is one for it.
    pub(crate) fn allows(&self, wish: Wish<'_>) -> bool {
        let is_about = match self.needs {
            Needs::Nothing => false,
            Needs::To(kinds) => kinds.contains(&wish.kind()),
        };
        debug_assert!(is_about, "the route does not say that it asks for {wish:?}");
        is_about && self.permit.allows(wish)
    }
}

impl Permit for Granted {
    fn allows(&self, wish: Wish<'_>) -> bool {
        Granted::allows(self, wish)
    }
}

impl Call {
    pub(crate) fn store(&self) -> &Store {
        &self.server.inner.store
    }

    /// The same without waiting for anything, if this may wait while somebody changes what the token may do.
    pub(crate) fn again(&self) -> Option<Call> {
        let waits = WAITS_FOR.iter().any(|name| self.query.has(name));
        let is_asked =
            self.server.inner.settings.acl.is_some() && self.permit.needs != Needs::Nothing;
        if self.method != Method::GET || !waits || !is_asked {
            return None;
        }
        Some(Call { query: self.query.without(&WAITS_FOR), ..self.clone() })
    }

    /// The rest of the path as text, or what is said if it is empty.
    pub(crate) fn name(&self, missing: &str) -> Result<String, Refusal> {
        match self.rest.is_empty() {
            true => Err(Refusal::bad_request(missing)),
            false => Ok(String::from_utf8_lossy(&self.rest).into_owned()),
        }
    }

    pub(crate) fn options(&self) -> Result<Options, Refusal> {
        Options::parse(&self.query)
    }

    pub(crate) fn require(&self, wish: Wish<'_>) -> Result<(), Refusal> {
        if self.permit.allows(wish) { Ok(()) } else { Err(Refusal::Denied) }
    }

    /// The same, refused with the words of Consul's agents.
    pub(crate) fn require_of_agent(&self, wish: Wish<'_>) -> Result<(), Refusal> {
        self.require(wish).map_err(|refusal| match wish {
            Wish::ServiceWrite(name) => {
                Refusal::DeniedBecause(format!("Missing service:write on {name}"))
            }
            Wish::NodeWrite(name) => {
                Refusal::DeniedBecause(format!("Missing node:write on {name}"))
            }
            _ => refusal,
        })
    }

    /// The server's node.
    pub(crate) fn node(&self) -> &str {
        &self.server.inner.settings.node
    }

    /// Refuses a body that is for another datacenter.
    pub(crate) fn in_datacenter(&self, name: &str) -> Result<(), Refusal> {
        match name.is_empty() || name == self.server.inner.settings.datacenter {
            true => Ok(()),
            false => Err(Refusal::failed("No path to datacenter")),
        }
    }

    /// What is said of an answer that was made at `index`.
    pub(crate) fn meta(&self, options: &Options, index: Option<u64>) -> Meta {
        let known_leader = self.server.inner.leadership.borrow().leader.is_some();
        Meta { index, known_leader, consistency: options.consistency }
    }

    /// A value as the client wants to read it.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<Answer, Refusal> {
        Answer::json(value, self.pretty())
    }

    /// A value as the bytes that the client wants to read.
    pub(crate) fn encode(&self, value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
        json::encode(value, self.pretty())
    }

    pub(crate) fn pretty(&self) -> bool {
        self.query.has("pretty")
    }
}

/// Consul's words for what only its paid edition has.
pub(crate) fn refuse_namespaces(query: &Query, headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |what: &str| {
        let words =
            format!("Bad request: Invalid {what} - Namespaces are a Consul Enterprise feature");
        Err(Refusal::BadRequest(words))
    };
    if headers.get("x-consul-namespace").is_some_and(|value| !value.is_empty()) {
        return refuse("header: \"X-Consul-Namespace\"");
    }
    if !query.text("ns").is_empty() {
        return refuse("query parameter: \"ns\"");
    }
    Ok(())
}
