//! The form of the stored JSON: apiVersion, kind and metadata first, so that the resourceVersion
//! can be put in at a known place.

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::resource::Resource;

/// The stored JSON of an object. apiVersion and kind are the resource's, a resourceVersion is left
/// out; something that is no JSON object becomes an object with nothing in it.
pub fn encode(resource: &'static Resource, value: Value) -> Bytes {
    let mut map = match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    map.remove("apiVersion");
    map.remove("kind");
    let mut meta = match map.remove("metadata") {
        Some(Value::Object(meta)) => meta,
        _ => Map::new(),
    };
    meta.remove("resourceVersion");
    meta.remove("selfLink");
    let mut out = BytesMut::with_capacity(1024);
    out.put_slice(resource.head.as_bytes());
    put_members(&mut out, &meta);
    out.put_u8(b'}');
    if !map.is_empty() {
        out.put_u8(b',');
        put_members(&mut out, &map);
    }
    out.put_u8(b'}');
    out.freeze()
}

fn put_members(out: &mut BytesMut, map: &Map<String, Value>) {
    for (i, (name, value)) in map.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        let name = Value::String(name.clone());
        out.put_slice(name.to_string().as_bytes());
        out.put_u8(b':');
        serde_json::to_writer(out.writer(), value).expect("a JSON value is written to memory");
    }
}

/// The stored JSON with the resourceVersion as metadata's first member. Zero is left out.
pub(super) fn with_revision(resource: &Resource, stored: &Bytes, revision: u64) -> Bytes {
    if revision == 0 {
        return stored.clone();
    }
    let (head, tail) = stored.split_at(resource.head.len());
    let comma = if tail.first() == Some(&b'}') { "" } else { "," };
    let version = format!(r#""resourceVersion":"{revision}"{comma}"#);
    let mut out = BytesMut::with_capacity(stored.len() + version.len());
    out.put_slice(head);
    out.put_slice(version.as_bytes());
    out.put_slice(tail);
    out.freeze()
}

/// A time as Kubernetes writes it in metadata: UTC, whole seconds.
pub fn timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
