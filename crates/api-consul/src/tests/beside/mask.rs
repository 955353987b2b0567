//! Answers without what must differ: indexes, ids, times, ports.

use std::fmt;
use std::sync::LazyLock;

use ::http::HeaderMap;
use regex::{Captures, Regex};
use serde_json::Value;

use super::super::Said;

/// The ids that one side has told, in their order: the first that both tell are the same one.
#[derive(Clone, Default)]
pub(super) struct Ids(Vec<String>);

/// What is compared of an answer.
#[derive(PartialEq)]
pub(super) struct Seen {
    status: u16,
    /// The type of the content, and which of Consul's headers there are.
    headers: Vec<String>,
    body: Value,
}

/// Numbers that only tell time.
const INDEXES: &[&str] = &["CreateIndex", "ModifyIndex", "LTime", "LastIndex", "LastTerm"];
const HEADERS: &[&str] = &["x-consul-index", "x-consul-knownleader", "x-consul-lastcontact"];

static ID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap()
});
static TIME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").unwrap());
static PORT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"127\.0\.0\.1:\d+").unwrap());
static INDEX: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"modify index \d+").unwrap());

impl Seen {
    pub(super) fn of(said: &Said, ids: &mut Ids) -> Seen {
        let text = String::from_utf8_lossy(&said.body);
        let body = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()));
        let (status, mut headers) = (said.status.as_u16(), headers(&said.headers));
        if said.status.is_client_error() || said.status.is_server_error() {
            // An error of Consul's says sometimes what it was made from.
            headers.retain(|header| !header.starts_with("x-consul"));
        }
        Seen { status, headers, body: masked("", body, ids) }
    }

    /// All but the words.
    pub(super) fn head(&self) -> (u16, &[String]) {
        (self.status, &self.headers)
    }
}

fn headers(all: &HeaderMap) -> Vec<String> {
    let content = all.get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let there = HEADERS.iter().filter(|name| all.contains_key(**name));
    content.into_iter().chain(there.map(|name| (*name).to_owned())).collect()
}

fn masked(name: &str, value: Value, ids: &mut Ids) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| {
                let value = masked(&name, value, ids);
                (ids.text(&name), value)
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        Value::Array(items) => items.into_iter().map(|item| masked(name, item, ids)).collect(),
        Value::Number(number) if INDEXES.contains(&name) => {
            Value::from(u8::from(number.as_u64() != Some(0)))
        }
        // Go writes a number without a fraction where Rust writes `.0`.
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::String(text) => Value::String(ids.text(&text)),
        value => value,
    }
}

impl Ids {
    fn text(&mut self, text: &str) -> String {
        let text = ID.replace_all(text, |found: &Captures<'_>| {
            let id = &found[0];
            let at = self.0.iter().position(|known| known == id).unwrap_or_else(|| {
                self.0.push(id.to_owned());
                self.0.len() - 1
            });
            format!("<id {at}>")
        });
        let text = TIME.replace_all(&text, "<time>");
        let text = INDEX.replace_all(&text, "modify index <index>");
        PORT.replace_all(&text, "127.0.0.1:<port>").into_owned()
    }
}

/// The first field of this name anywhere in an answer, as text.
pub(super) fn field(said: &Said, name: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(&said.body).ok()?;
    let found = find(&body, name)?;
    Some(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
}

fn find<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(fields) => {
            fields.get(name).or_else(|| fields.values().find_map(|value| find(value, name)))
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, self.body)
    }
}
