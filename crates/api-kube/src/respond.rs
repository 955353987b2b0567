//! From values and refusals to HTTP responses.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use pontoon_model::status::Status;
use serde::Serialize;
use serde_json::Value;

use crate::accept::Form;
use crate::body::{self, Body};

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
pub(crate) const OPENAPI_PROTOBUF: HeaderValue =
    HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A response of one type and status, never cached and never sniffed.
pub(crate) fn of_type(code: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(crate) fn json_bytes(code: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    of_type(code, JSON, body::full(bytes))
}

/// A value as JSON, or as YAML when that is the form.
pub(crate) fn value(code: StatusCode, value: &Value, form: Form) -> Result<Response<Body>, Status> {
    match form {
        Form::Yaml => yaml(code, value),
        _ => Ok(json_bytes(code, to_json(value)?)),
    }
}

pub(crate) fn yaml(code: StatusCode, value: &Value) -> Result<Response<Body>, Status> {
    let text = serde_saphyr::to_string(value)
        .map_err(|error| Status::internal(format!("write YAML: {error}")))?;
    Ok(of_type(code, YAML, body::full(text)))
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(value).map_err(|error| Status::internal(format!("write JSON: {error}")))
}

pub(crate) fn text(code: StatusCode, text: &'static str) -> Response<Body> {
    of_type(code, TEXT, body::full(Bytes::from_static(text.as_bytes())))
}

/// A refusal (or a success without an object) as the response it makes.
pub(crate) fn status(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let bytes = serde_json::to_vec(status).unwrap_or_default();
    let mut response = json_bytes(code, bytes);
    let retry = status.details.as_ref().and_then(|details| details.retry_after_seconds);
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The answer to `OPTIONS`, and what goes with a 405.
pub(crate) fn with_allow(mut response: Response<Body>, methods: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(methods) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// A response that a client may keep for good, because its address changes with its content.
pub(crate) fn immutable(mut response: Response<Body>) -> Response<Body> {
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(CACHE_CONTROL, forever);
    response.headers_mut().insert(
        HeaderName::from_static("vary"),
        HeaderValue::from_static("Accept, Accept-Encoding"),
    );
    response
}
