//! `create`, `update`, `patch`, `delete` and `deletecollection`.

use http::header::WARNING;
use http::{HeaderValue, Response, StatusCode};
use pontoon_model::resource::Resource;
use pontoon_model::status::Status;
use pontoon_model::{unsupported, validate};
use pontoon_objects::{FieldValidation, Patch, Sub, WriteOptions};
use serde_json::Value;

use crate::accept;
use crate::body::Body;
use crate::call::Call;
use crate::content::{self, Decoded, Language};
use crate::node_restriction;
use crate::options;
use crate::path::Target;
use crate::respond;

use super::read;

/// More operations than this in a JSON patch are refused.
const MAX_OPERATIONS: usize = 10_000;

pub(super) async fn create(mut call: Call) -> Result<Response<Body>, Status> {
    let form = accept::of_objects(&call.headers)?;
    let options = options::write(&call.query)?;
    let decoded = call.decode_body().await?;
    check_fits(&call.target, &decoded.value)?;
    node_restriction::check_created_name(&call, &decoded.value)?;
    let mut warnings = check_fields(call.target.resource, &decoded, &options)?;
    let Target { resource, namespace, .. } = &call.target;
    warnings.extend(unsupported::warnings(resource, &decoded.value));
    let object =
        call.objects().create(resource, namespace.as_deref(), decoded.value, &options).await?;
    Ok(warned(read::one(StatusCode::CREATED, &object, form, &call.query)?, &warnings))
}

pub(super) async fn update(mut call: Call) -> Result<Response<Body>, Status> {
    let form = accept::of_objects(&call.headers)?;
    let options = options::write(&call.query)?;
    let decoded = call.decode_body().await?;
    check_fits(&call.target, &decoded.value)?;
    let mut warnings = check_fields(call.target.resource, &decoded, &options)?;
    let Target { resource, namespace, .. } = &call.target;
    let (name, sub) = (call.target.name(), sub(&call.target));
    if sub == Sub::None {
        warnings.extend(unsupported::warnings(resource, &decoded.value));
    }
    let object = call
        .objects()
        .update(resource, namespace.as_deref(), name, decoded.value, sub, &options)
        .await?;
    Ok(warned(read::one(StatusCode::OK, &object, form, &call.query)?, &warnings))
}

pub(super) async fn patch(mut call: Call) -> Result<Response<Body>, Status> {
    let form = accept::of_objects(&call.headers)?;
    let options = options::write(&call.query)?;
    let patch = read_patch(&mut call).await?;
    let target = &call.target;
    let object = call
        .objects()
        .patch(target.resource, target.namespace(), target.name(), &patch, sub(target), &options)
        .await?;
    let warnings = match object.value() {
        Ok(value) if sub(target) == Sub::None && unsupported::may_warn(target.resource) => {
            unsupported::warnings(target.resource, &value)
        }
        _ => Vec::new(),
    };
    Ok(warned(read::one(StatusCode::OK, &object, form, &call.query)?, &warnings))
}

pub(super) async fn delete(mut call: Call) -> Result<Response<Body>, Status> {
    let body = call.decode_optional_body().await?;
    let options = options::delete(body, &call.query)?;
    let Target { resource, namespace, .. } = &call.target;
    let name = call.target.name();
    let object = call.objects().delete(resource, namespace.as_deref(), name, &options).await?;
    if object.meta.is_terminating() {
        let form = accept::of_objects(&call.headers)?;
        return read::one(StatusCode::OK, &object, form, &call.query);
    }
    Ok(respond::status(&Status::success(resource, name, &object.meta.uid)))
}

pub(super) async fn delete_collection(mut call: Call) -> Result<Response<Body>, Status> {
    let form = accept::of_objects(&call.headers)?;
    let body = call.decode_optional_body().await?;
    let options = options::delete(body, &call.query)?;
    let resource = call.target.resource;
    let selected = options::list(resource, &call.query)?;
    let list = call
        .objects()
        .delete_collection(resource, call.target.namespace(), &selected, &options)
        .await?;
    read::many(resource, &list, form, &call.query)
}

/// The patch in the body, by the content type; 415 for a language that is not spoken.
pub(super) async fn read_patch(call: &mut Call) -> Result<Patch, Status> {
    let media_type = content::media_type(&call.headers);
    let make: fn(Value) -> Patch = match media_type.as_str() {
        "application/json-patch+json" => Patch::Json,
        "application/merge-patch+json" => Patch::Merge,
        "application/strategic-merge-patch+json" => Patch::Strategic,
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
            return Err(Status::unsupported_media_type(
                "server-side apply is not served by this version of Pontoon: apply without --server-side",
            ));
        }
        other => {
            return Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
            )));
        }
    };
    let bytes = content::read(call.take_body()).await?;
    let value = content::decode(Language::Json, &bytes)?.value;
    if value.as_array().is_some_and(|operations| operations.len() > MAX_OPERATIONS) {
        return Err(Status::too_large(format!(
            "the allowed maximum operations in a JSON patch is {MAX_OPERATIONS}"
        )));
    }
    Ok(make(value))
}

fn sub(target: &Target) -> Sub {
    match target.subresource() {
        "status" => Sub::Status,
        "finalize" => Sub::Finalize,
        _ => Sub::None,
    }
}

/// Checks that the body is an object of the kind, namespace and name that the path says.
pub(super) fn check_fits(target: &Target, body: &Value) -> Result<(), Status> {
    let Value::Object(_) = body else {
        return Err(Status::bad_request("the body of the request must be an object"));
    };
    let resource = target.resource;
    let given = |pointer: &str| {
        body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
    };
    if let Some(version) = given("/apiVersion").filter(|v| *v != resource.api_version()) {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            resource.api_version()
        )));
    }
    if let Some(kind) = given("/kind").filter(|kind| *kind != resource.kind) {
        return Err(Status::bad_request(format!(
            "the kind in the data ({kind}) does not match the expected kind ({})",
            resource.kind
        )));
    }
    let namespace = given("/metadata/namespace");
    if resource.namespaced && namespace.is_some_and(|given| Some(given) != target.namespace()) {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    match (given("/metadata/name"), target.name.as_deref()) {
        (Some(given), Some(name)) if given != name => Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
        _ => Ok(()),
    }
}

/// What is wrong with the fields of a body: refused when the client wants strictness, told otherwise.
fn check_fields(
    resource: &Resource,
    decoded: &Decoded,
    options: &WriteOptions,
) -> Result<Vec<String>, Status> {
    let doubled = || decoded.duplicates.iter().map(|path| format!("duplicate field \"{path}\""));
    match options.field_validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => {
            let unknown = validate::unknown_fields(resource, &decoded.value).into_iter();
            Ok(doubled().chain(unknown.map(|path| format!("unknown field \"{path}\""))).collect())
        }
        // Unknown fields are refused with the object's own checks.
        FieldValidation::Strict if decoded.duplicates.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => Err(Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            resource.kind,
            resource.version,
            resource.kind,
            doubled().collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// The response with its warnings, which clients show to people.
fn warned(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    const TOLD: usize = 16;
    for warning in warnings.iter().take(TOLD) {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}
