//! The documents are whole: every kind is there, every reference leads somewhere, and every list that is
//! merged by a key says so.

use pontoon_model::resource;

use super::*;

fn v3(group: &str, version: &str) -> Value {
    serde_json::from_slice(&OpenApi::new("v1").v3(group, version).unwrap()).unwrap()
}

fn each(value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                visit(key, inner);
                each(inner, visit);
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| each(inner, visit)),
        _ => {}
    }
}

fn check_references(document: &Value) {
    let mut count = 0;
    each(document, &mut |key, value| {
        if key == "$ref"
            && let Some(reference) = value.as_str()
        {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            count += 1;
        }
    });
    assert!(count > 0);
}

#[test]
fn every_kind_has_a_schema_with_its_name_and_a_path_to_patch_it() {
    for resource in resource::ALL {
        let document = v3(resource.group, resource.version);
        check_references(&document);
        let kind =
            json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let named =
            schemas.values().filter(|s| s["x-kubernetes-group-version-kind"] == json!([kind]));
        assert_eq!(named.count(), 1, "{resource}: run the generator in crates/api-kube/schema");
        let paths = document["paths"].as_object().unwrap();
        let patches: Vec<&Value> = paths
            .values()
            .filter_map(|item| item.get("patch"))
            .filter(|patch| patch["x-kubernetes-group-version-kind"] == kind)
            .collect();
        assert!(!patches.is_empty(), "{resource}");
        for patch in patches {
            let parameters = patch["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|p| p["name"] == "fieldValidation"));
            assert!(
                patch["requestBody"]["content"]["application/strategic-merge-patch+json"]
                    .is_object()
            );
        }
    }
}

#[test]
fn every_merge_key_is_of_a_field_that_exists() {
    let text = definitions::TEXT;
    let schemas: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
    let all = Definitions::load("#/components/schemas/").unwrap().all();
    for rule in merge_keys::ALL {
        let suffix = format!(".{}", rule.of);
        let of_type = all.iter().filter(|(name, _)| name.ends_with(&suffix));
        let mut marked = 0;
        for (name, schema) in of_type {
            assert!(schemas.contains_key(name));
            marked += schema["properties"]
                .as_object()
                .into_iter()
                .flat_map(|fields| fields.values())
                .filter(|field| field.get("x-kubernetes-patch-strategy").is_some())
                .count();
        }
        assert!(marked > 0, "{}", rule.of);
    }
}

#[test]
fn version_two_is_whole() {
    let document: Value = serde_json::from_slice(&OpenApi::new("v1").v2().unwrap()).unwrap();
    check_references(&document);
    let env =
        "/definitions/io.k8s.api.core.v1.Container/properties/env/x-kubernetes-patch-merge-key";
    assert_eq!(document.pointer(env), Some(&json!("name")));
    assert!(
        document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"].is_object()
    );
}

#[test]
fn the_index_names_every_group_version() {
    let index = OpenApi::new("v1").index();
    for resource in resource::ALL {
        let path = match resource.group {
            "" => "api/v1".to_owned(),
            group => format!("apis/{group}/{}", resource.version),
        };
        let url = index["paths"][&path]["serverRelativeURL"].as_str().unwrap();
        assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")));
    }
}
