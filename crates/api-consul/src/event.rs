//! `/v1/event/`: messages to everybody, of which the newest are kept.
//!
//! Consul spreads events by gossip, and each agent keeps those that it heard and that are for it. Here they are in the
//! store, in the same order for all; each server shows those that are for its node.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pontoon_store::{Compare, DeleteRange, KeyValue, Put, Range, Read, Txn, WatchRequest};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use crate::agent::registered;
use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::record::Service;
use crate::keyspace;
use crate::permit::Wish;
use crate::refusal::Refusal;

/// Events that are kept, as by Consul's agents.
const KEPT: u64 = 256;
/// Attempts to be the next event while others fire.
const ATTEMPTS: usize = 1000;
/// Memory that a pattern may take.
const FILTER_BYTES: usize = 1 << 20;

/// An event, as it is kept and as clients read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    #[serde(rename = "ID")]
    id: Uuid,
    name: String,
    /// In base64; `null` if there is none.
    payload: Option<String>,
    node_filter: String,
    service_filter: String,
    tag_filter: String,
    version: u64,
    #[serde(rename = "LTime")]
    time: u64,
}

impl Event {
    fn decode(kv: &KeyValue) -> Result<Event, Refusal> {
        let damaged = "what is stored of an event is damaged, or of a newer version";
        serde_json::from_slice(&kv.value).map_err(|_| Refusal::failed(damaged))
    }

    /// True if it is for a node, by its name, or by a service there with such a tag.
    fn is_for<'c>(&self, node: &str, mut here: impl Iterator<Item = &'c Service>) -> bool {
        let has_tag = |service: &Service| {
            let any = self.tag_filter.is_empty();
            any || service.tags.iter().any(|tag| is_match(&self.tag_filter, tag))
        };
        let is_it = |service: &Service| is_match(&self.service_filter, &service.name);
        is_match(&self.node_filter, node)
            && (self.service_filter.is_empty() || here.any(|it| is_it(it) && has_tag(it)))
    }

    /// The number that Consul makes of an event's id for clients to wait behind.
    fn index(&self) -> u64 {
        let (high, low) = self.id.as_u64_pair();
        high ^ low
    }
}

pub(crate) async fn fire(call: Call) -> Result<Answer, Refusal> {
    let name = call.name("Missing name")?;
    call.require(Wish::EventWrite(&name))?;
    let [node, service, tag] = filters(&call)?;
    let mut event = Event {
        id: Uuid::new_v4(),
        name,
        payload: (!call.body.is_empty()).then(|| STANDARD.encode(&call.body)),
        node_filter: node,
        service_filter: service,
        tag_filter: tag,
        version: 1,
        time: 0,
    };
    for _ in 0..ATTEMPTS {
        event.time = next_time(&call).await?;
        if write(&call, &event).await? {
            // As in Consul, who fires an event is not told its place among others.
            event.time = 0;
            return call.json(&event);
        }
    }
    Err(Refusal::Busy("too many events are fired at once; try again".to_owned()))
}

/// Patterns of the nodes, services and tags that an event is for.
fn filters(call: &Call) -> Result<[String; 3], Refusal> {
    let filters = ["node", "service", "tag"].map(|name| (name, call.query.text(name).into_owned()));
    for (name, pattern) in &filters {
        if let Err(error) = compile(pattern) {
            return Err(Refusal::Failed(format!("Invalid {name} filter: {error}")));
        }
    }
    let [(_, node), (_, service), (_, tag)] = filters;
    if !tag.is_empty() && service.is_empty() {
        return Err(Refusal::failed("Cannot provide tag filter without service filter"));
    }
    Ok([node, service, tag])
}

async fn next_time(call: &Call) -> Result<u64, Refusal> {
    let range = Range { keys_only: true, ..Range::prefix(keyspace::EVENTS) };
    let found = call.store().range(range, Read::Linearizable).await?;
    let last = found.kvs.last().map(|kv| &kv.key[keyspace::EVENTS.len()..]);
    let last = last.and_then(|digits| std::str::from_utf8(digits).ok());
    let last = last.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    Ok(last + 1)
}

/// Writes an event and forgets those that are too old; false if another has its place.
async fn write(call: &Call, event: &Event) -> Result<bool, Refusal> {
    let value = serde_json::to_vec(event);
    let value = value.map_err(|error| Refusal::Failed(format!("write an event: {error}")))?;
    let key = keyspace::event(event.time);
    let mut txn =
        Txn::new().when(Compare::absent(key.clone())).then(Put::new(key, Bytes::from(value)));
    if let Some(oldest) = (event.time + 1).checked_sub(KEPT) {
        let end = Some(keyspace::event(oldest));
        txn = txn.then(DeleteRange { end, ..DeleteRange::key(keyspace::EVENTS) });
    }
    Ok(call.store().txn(txn).await?.succeeded)
}

/// The events, after a new one if the client knows the last already.
pub(crate) async fn list(call: Call) -> Result<Answer, Refusal> {
    let options = call.options()?;
    let deadline = Instant::now() + options.wait;
    loop {
        let (events, revision) = seen(&call).await?;
        let index = events.last().map_or(1, Event::index);
        // The index says which event is the last, not how many there are: it is the same or it is not.
        if index != options.index || Instant::now() >= deadline {
            return Ok(call.json(&events)?.with_index(index));
        }
        drop(events);
        let more = WatchRequest::prefix(keyspace::EVENTS).from(revision + 1);
        let Ok(mut watch) = call.store().watch(more) else { continue };
        if let Ok(None) = tokio::time::timeout_at(deadline, watch.next()).await {
            return Err(Refusal::failed("the store has stopped"));
        }
    }
}

/// The events that the client wants and may see, and the revision at which they were read.
async fn seen(call: &Call) -> Result<(Vec<Event>, u64), Refusal> {
    let found = call.store().range(Range::prefix(keyspace::EVENTS), Read::Local).await?;
    let (catalog, _) = call.server.catalog(Read::Local).await?;
    let name = call.query.text("name");
    let mut events = Vec::with_capacity(found.kvs.len());
    for kv in &found.kvs {
        let event = Event::decode(kv)?;
        let wanted = name.is_empty() || event.name == name;
        if wanted
            && event.is_for(call.node(), registered(&catalog, call.node()))
            && call.permit.allows(Wish::EventRead(&event.name))
        {
            events.push(event);
        }
    }
    Ok((events, found.revision))
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(FILTER_BYTES).build()
}

/// An empty pattern is for all; what was no pattern was refused when the event was fired.
fn is_match(pattern: &str, text: &str) -> bool {
    pattern.is_empty() || compile(pattern).is_ok_and(|pattern| pattern.is_match(text))
}
