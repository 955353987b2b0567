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

#[cfg(test)]
mod tests;
