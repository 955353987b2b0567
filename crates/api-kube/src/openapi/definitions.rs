//! The schemas themselves: what `k8s-openapi` has, with Kubernetes' extensions added.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_model::resource::{self, Resource};
use pontoon_model::status::Status;
use serde_json::{Map, Value, json};

use super::merge_keys;
use crate::discovery;
use crate::review;

/// Made by `crates/api-kube/schema`.
pub(crate) const TEXT: &str = include_str!("definitions.json");

const WRITTEN_PREFIX: &str = "#/definitions/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// All schemas by name, with references in the wanted form.
pub(super) struct Definitions {
    schemas: BTreeMap<String, Value>,
    prefix: &'static str,
}

impl Definitions {
    /// `prefix` is where references lead in the document: `#/components/schemas/` or `#/definitions/`.
    pub(super) fn load(prefix: &'static str) -> Result<Definitions, Status> {
        let schemas: BTreeMap<String, Value> = serde_json::from_str(TEXT)
            .map_err(|error| Status::internal(format!("read the built-in schemas: {error}")))?;
        let mut definitions = Definitions { schemas, prefix };
        for schema in definitions.schemas.values_mut() {
            rewrite(schema, prefix);
        }
        definitions.add_merge_keys();
        definitions.add_int_or_string();
        definitions.add_lists();
        definitions.add_kinds();
        Ok(definitions)
    }

    pub(super) fn all(self) -> BTreeMap<String, Value> {
        self.schemas
    }

    /// The schemas of a group version's kinds and all that they refer to.
    pub(super) fn of_group_version(
        mut self,
        group: &str,
        version: &str,
    ) -> BTreeMap<String, Value> {
        let mut wanted = BTreeSet::from([meta("Status"), meta("DeleteOptions")]);
        for resource in discovery::objects_in(group, version) {
            wanted.insert(schema_name(resource.group, resource.version, resource.kind));
            wanted.insert(schema_name(resource.group, resource.version, &resource.list_kind()));
            let parts = resource.subresources.iter();
            wanted.extend(parts.map(|part| schema_name(part.group, part.version, part.kind)));
        }
        let reviews = discovery::reviews_in(group, version);
        wanted.extend(reviews.map(|r| schema_name(r.group, r.version, r.kind)));
        let mut found = BTreeMap::new();
        while let Some(name) = wanted.pop_first() {
            let Some(schema) = self.schemas.remove(&name) else { continue };
            references(&schema, self.prefix, &mut wanted);
            found.insert(name, schema);
        }
        found
    }

    fn add_merge_keys(&mut self) {
        for rule in merge_keys::ALL {
            let places =
                [schema_name("", "v1", rule.of), schema_name("apps", "v1", rule.of), meta(rule.of)];
            for place in places {
                if let Some(schema) = self.schemas.get_mut(&place) {
                    rule.add_to(schema);
                }
            }
        }
    }

    fn add_int_or_string(&mut self) {
        let name = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
        let Some(Value::Object(schema)) = self.schemas.get_mut(name) else { return };
        schema.remove("x-kubernetes-int-or-string");
        schema.insert("format".to_owned(), "int-or-string".into());
        if self.prefix == WRITTEN_PREFIX {
            schema.insert("type".to_owned(), "string".into());
        } else {
            schema.insert("oneOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
        }
    }

    fn add_lists(&mut self) {
        for resource in resource::ALL {
            let name = schema_name(resource.group, resource.version, &resource.list_kind());
            let schema = list_schema(resource, self.prefix);
            self.schemas.insert(name, schema);
        }
    }

    fn add_kinds(&mut self) {
        for resource in resource::ALL {
            let Resource { group, version, kind, .. } = **resource;
            self.add_kind(group, version, kind);
            self.add_kind(group, version, &resource.list_kind());
            for part in resource.subresources {
                self.add_kind(part.group, part.version, part.kind);
            }
        }
        for review in review::ALL {
            self.add_kind(review.group, review.version, review.kind);
        }
    }

    fn add_kind(&mut self, group: &str, version: &str, kind: &str) {
        let name = schema_name(group, version, kind);
        if let Some(schema) = self.schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": group, "version": version, "kind": kind}]);
        }
    }
}

fn list_schema(resource: &Resource, prefix: &str) -> Value {
    let of = |name: String| format!("{prefix}{name}");
    let item = of(schema_name(resource.group, resource.version, resource.kind));
    json!({
        "description": format!("{} is a list of {} objects.", resource.list_kind(), resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the schema of this list."},
            "kind": {"type": "string", "description": "Kind of this list."},
            "metadata": {
                "allOf": [{"$ref": of(meta("ListMeta"))}],
                "description": "Standard list metadata.",
            },
            "items": {
                "type": "array",
                "items": {"$ref": item},
                "description": "The objects.",
            },
        },
    })
}

/// `io.k8s.api.<group>.<version>.<kind>`, the group without `.k8s.io`.
pub(crate) fn schema_name(group: &str, version: &str, kind: &str) -> String {
    let group = match group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    format!("io.k8s.api.{group}.{version}.{kind}")
}

pub(crate) fn meta(kind: &str) -> String {
    format!("{META}.{kind}")
}

/// Makes references lead to where the document has the schemas. Version 2 has no `allOf` around them.
fn rewrite(value: &mut Value, prefix: &str) {
    match value {
        Value::Object(map) => {
            let target = map.get("$ref").and_then(Value::as_str);
            if let Some(name) = target.and_then(|target| target.strip_prefix(WRITTEN_PREFIX)) {
                let reference = format!("{prefix}{name}");
                map.insert("$ref".to_owned(), reference.into());
            }
            if prefix == WRITTEN_PREFIX {
                unwrap_single(map);
            }
            map.values_mut().for_each(|inner| rewrite(inner, prefix));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| rewrite(inner, prefix)),
        _ => {}
    }
}

fn unwrap_single(map: &mut Map<String, Value>) {
    let reference = match map.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => only.get("$ref").cloned(),
        _ => None,
    };
    if let Some(reference) = reference {
        map.remove("allOf");
        map.insert("$ref".to_owned(), reference);
    }
}

fn references(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            let target = map.get("$ref").and_then(Value::as_str);
            if let Some(name) = target.and_then(|target| target.strip_prefix(prefix)) {
                found.insert(name.to_owned());
            }
            map.values().for_each(|inner| references(inner, prefix, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, prefix, found)),
        _ => {}
    }
}
