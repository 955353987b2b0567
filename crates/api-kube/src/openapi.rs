//! The schemas of what is served, for `kubectl apply`, `explain` and other tools: OpenAPI v3 a group version,
//! and v2 in one. Made from `definitions.json` when first asked for.

mod definitions;
mod merge_keys;
mod paths;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use pontoon_model::status::Status;
use serde_json::{Map, Value, json};

use crate::discovery;
use crate::respond;
use definitions::Definitions;
pub(crate) use definitions::{TEXT as SCHEMAS, meta as meta_schema, schema_name};

/// The documents that were asked for, kept as bytes.
pub(crate) struct OpenApi {
    version: String,
    made: Mutex<BTreeMap<String, Bytes>>,
}

impl OpenApi {
    /// `version` stands in the documents and in their addresses.
    pub(crate) fn new(version: &str) -> OpenApi {
        OpenApi { version: version.to_owned(), made: Mutex::default() }
    }

    /// `/openapi/v3`: where the documents are.
    pub(crate) fn index(&self) -> Value {
        let mut paths = Map::new();
        for group in discovery::group_names() {
            for version in discovery::versions_of(group) {
                let path = match group {
                    "" => format!("api/{version}"),
                    group => format!("apis/{group}/{version}"),
                };
                let url = format!("/openapi/v3/{path}?hash={}", self.hash());
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        json!({"paths": paths})
    }

    /// Changes whenever the documents may have changed.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = DefaultHasher::new();
        definitions::TEXT.hash(&mut hasher);
        self.version.hash(&mut hasher);
        format!("{:016X}", hasher.finish())
    }

    /// `/openapi/v3/api/v1` and its like.
    pub(crate) fn v3(&self, group: &str, version: &str) -> Result<Bytes, Status> {
        self.once(discovery::group_version(group, version), || {
            let definitions = Definitions::load("#/components/schemas/")?;
            let schemas = definitions.of_group_version(group, version);
            Ok(json!({
                "openapi": "3.0.0",
                "info": self.info(),
                "paths": paths::v3(group, version),
                "components": {"schemas": schemas},
            }))
        })
    }

    /// `/openapi/v2`.
    pub(crate) fn v2(&self) -> Result<Bytes, Status> {
        self.once("v2".to_owned() + "/all", || {
            let definitions = Definitions::load("#/definitions/")?;
            Ok(json!({
                "swagger": "2.0",
                "info": self.info(),
                "paths": paths::v2(),
                "definitions": definitions.all(),
            }))
        })
    }

    /// `/openapi/v2` in the protobuf form that `kubectl` falls back to for kinds that version 3 does not have: a
    /// document of no schemas, for all that there are are in version 3.
    pub(crate) fn v2_protobuf(&self) -> Vec<u8> {
        let info = [field(1, "Kubernetes".as_bytes()), field(2, self.version.as_bytes())].concat();
        [field(1, b"2.0"), field(2, &info)].concat()
    }

    fn info(&self) -> Value {
        json!({"title": "Kubernetes", "version": self.version})
    }

    fn once(
        &self,
        key: String,
        make: impl FnOnce() -> Result<Value, Status>,
    ) -> Result<Bytes, Status> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = made.get(&key) {
            return Ok(bytes.clone());
        }
        let bytes = Bytes::from(respond::to_json(&make()?)?);
        made.insert(key, bytes.clone());
        Ok(bytes)
    }
}

/// A protobuf field that holds bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(content);
    field
}

#[cfg(test)]
mod tests;
