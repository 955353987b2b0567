//! `get` and `list`, in the form that the client wants.

use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use pontoon_model::object::Object;
use pontoon_model::resource::Resource;
use pontoon_model::status::Status;
use pontoon_objects::List;
use serde_json::{Map, Value, json};

use crate::accept::{self, Form};
use crate::body::Body;
use crate::call::Call;
use crate::options;
use crate::query::Query;
use crate::respond;
use crate::table::{self, Include, Tabler};

pub(super) async fn get(call: Call) -> Result<Response<Body>, Status> {
    let form = accept::of_objects(&call.headers)?;
    let target = &call.target;
    let object = call.objects().get(target.resource, target.namespace(), target.name()).await?;
    one(StatusCode::OK, &object, form, &call.query)
}

/// An object as an answer.
pub(super) fn one(
    code: StatusCode,
    object: &Object,
    form: Form,
    query: &Query,
) -> Result<Response<Body>, Status> {
    match form {
        Form::Json | Form::Discovery(_) => Ok(respond::json_bytes(code, object.json())),
        Form::Yaml => respond::yaml(code, &value(object)?),
        Form::Partial => respond::value(code, &table::partial(value(object)?, "v1"), Form::Json),
        Form::Table(version) => {
            let meta = json!({"resourceVersion": object.meta.resource_version.to_string()});
            let tabler = tabler(object.resource, version, query)?;
            let table = tabler.table(std::slice::from_ref(object), meta, Timestamp::now());
            respond::value(code, &table, Form::Json)
        }
    }
}

pub(super) async fn list(call: Call) -> Result<Response<Body>, Status> {
    let form = accept::of_objects(&call.headers)?;
    let resource = call.target.resource;
    let options = options::list(resource, &call.query)?;
    let list = call.objects().list(resource, call.target.namespace(), &options).await?;
    many(resource, &list, form, &call.query)
}

/// A list as an answer.
pub(super) fn many(
    resource: &'static Resource,
    list: &List,
    form: Form,
    query: &Query,
) -> Result<Response<Body>, Status> {
    match form {
        Form::Json | Form::Discovery(_) => {
            Ok(respond::json_bytes(StatusCode::OK, list_json(resource, list)))
        }
        Form::Yaml => {
            let value: Value = serde_json::from_slice(&list_json(resource, list))
                .map_err(|error| Status::internal(format!("read a list: {error}")))?;
            respond::yaml(StatusCode::OK, &value)
        }
        Form::Partial => {
            let partial = |object: &Object| Ok(table::partial(value(object)?, "v1"));
            let items: Vec<Value> =
                list.items.iter().map(partial).collect::<Result<_, Status>>()?;
            let answer = json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": list_meta(list),
                "items": items,
            });
            respond::value(StatusCode::OK, &answer, Form::Json)
        }
        Form::Table(version) => {
            let tabler = tabler(resource, version, query)?;
            let table = tabler.table(&list.items, list_meta(list), Timestamp::now());
            respond::value(StatusCode::OK, &table, Form::Json)
        }
    }
}

/// A table's form, with what the query says about the objects in it.
pub(super) fn tabler(
    resource: &'static Resource,
    version: &'static str,
    query: &Query,
) -> Result<Tabler, Status> {
    let given = query.get("includeObject");
    let include = Include::parse(given).ok_or_else(|| {
        let why = format!(
            "Unsupported value: \"{}\": supported values: \"Metadata\", \"None\", \"Object\"",
            given.unwrap_or_default()
        );
        options::invalid_option("includeObject", &why)
    })?;
    Ok(Tabler::new(resource, version, include))
}

pub(super) fn value(object: &Object) -> Result<Value, Status> {
    object.value().map_err(|error| Status::internal(error.to_string()))
}

fn list_meta(list: &List) -> Value {
    let mut meta = Map::new();
    meta.insert("resourceVersion".to_owned(), list.revision.to_string().into());
    if let Some(token) = &list.continue_token {
        meta.insert("continue".to_owned(), token.as_str().into());
    }
    if let Some(remaining) = list.remaining.filter(|_| list.continue_token.is_some()) {
        meta.insert("remainingItemCount".to_owned(), remaining.into());
    }
    Value::Object(meta)
}

/// The list as JSON, put together from the objects' own bytes.
fn list_json(resource: &Resource, list: &List) -> Bytes {
    let head = format!(
        r#"{{"kind":"{}","apiVersion":"{}","metadata":{},"items":["#,
        resource.list_kind(),
        resource.api_version(),
        list_meta(list),
    );
    let items: Vec<Bytes> = list.items.iter().map(Object::json).collect();
    let size = items.iter().map(|item| item.len() + 1).sum::<usize>() + head.len() + 2;
    let mut text = Vec::with_capacity(size);
    text.extend_from_slice(head.as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(item);
    }
    text.extend_from_slice(b"]}");
    text.into()
}
