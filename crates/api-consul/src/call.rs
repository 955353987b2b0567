//! One request, read so far as all requests are: its path, query, token and body.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use pontoon_store::Store;
use serde::Serialize;

use crate::answer::{Answer, Meta};
use crate::json;
use crate::options::Options;
use crate::permit::{Permit, Wish};
use crate::query::Query;
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// A request.
pub(crate) struct Call {
    pub(crate) server: ConsulServer,
    pub(crate) method: Method,
    /// What of the path comes after the route: a key, an id, a name.
    pub(crate) rest: Bytes,
    pub(crate) query: Query,
    pub(crate) body: Bytes,
    pub(crate) permit: Arc<dyn Permit>,
}

impl Call {
    pub(crate) fn store(&self) -> &Store {
        &self.server.inner.store
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
