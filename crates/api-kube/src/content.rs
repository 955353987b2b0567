//! Reading request bodies: JSON, YAML and Kubernetes' protobuf, bounded in size, nesting and repetition.

mod protobuf;
mod strict;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use pontoon_model::status::Status;
use serde_json::Value;

pub(crate) type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// The largest request body, as in Kubernetes.
pub(crate) const MAX_BODY: usize = 3 * 1024 * 1024;
/// Deeper nesting than any object has; the stack is safe far beyond it.
const MAX_DEPTH: usize = 100;
/// YAML nodes: a body of 3 MB of JSON has fewer in practice.
const MAX_NODES: usize = 300_000;

/// The languages of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Json,
    Yaml,
    Protobuf,
}

/// A decoded body, with the paths of the fields that were given twice.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub value: Value,
    pub duplicates: Vec<String>,
}

/// The whole body, or 413.
pub(crate) async fn read(body: RequestBody) -> Result<Bytes, Status> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(Status::too_large(format!("Request entity too large: limit is {MAX_BODY}")))
        }
        Err(error) => Err(Status::bad_request(format!("the body could not be read: {error}"))),
    }
}

/// The media type without parameters, in small letters; empty when there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The language of an object in a body; 415 for what is not spoken.
pub(crate) fn language(headers: &HeaderMap) -> Result<Language, Status> {
    match media_type(headers).as_str() {
        "" | "application/json" => Ok(Language::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Language::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Language::Protobuf),
        other => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}) - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        ))),
    }
}

/// The value in a body; 400 when it is malformed, too deep, or grows beyond bounds by aliases.
pub(crate) fn decode(language: Language, bytes: &[u8]) -> Result<Decoded, Status> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Status::bad_request("the body of the request is empty"));
    }
    match language {
        Language::Json => strict::from_json(bytes),
        Language::Yaml => {
            let value = from_yaml(bytes)?;
            Ok(Decoded { value, duplicates: Vec::new() })
        }
        Language::Protobuf => {
            let value = protobuf::decode(bytes)?;
            Ok(Decoded { value, duplicates: Vec::new() })
        }
    }
}

fn from_yaml(bytes: &[u8]) -> Result<Value, Status> {
    let malformed = |what: String| {
        Status::bad_request(format!("the body of the request is not valid YAML: {what}"))
    };
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
    let options = serde_saphyr::options! {
        // Names such as `y` and `no` are texts.
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
            max_documents: 2,
            max_anchors: 100,
            max_aliases: 1000,
            max_total_scalar_bytes: 2 * MAX_BODY,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: 1000,
        },
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| malformed(error.to_string()))?;
    match <[Value; 1]>::try_from(documents) {
        Ok([only]) => Ok(only),
        Err(many) => Err(malformed(format!("it has {} documents, not one", many.len()))),
    }
}
