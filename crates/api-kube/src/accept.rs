//! Which form of answer a client asks for, by its `Accept` header.

use http::HeaderMap;
use http::header::ACCEPT;
use pontoon_model::status::Status;

/// The forms an answer can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Yaml,
    /// A table for people, in this version of `meta.k8s.io`.
    Table(&'static str),
    /// Objects of which only the metadata is sent.
    Partial,
    /// The aggregated form of discovery.
    Discovery(&'static str),
}

/// How many alternatives of an `Accept` header are looked at.
const MAX_RANGES: usize = 16;

/// The forms that the client understands, in its order of liking; 406 when there is none.
pub(crate) fn forms(headers: &HeaderMap) -> Result<Vec<Form>, Status> {
    let Some(accept) = headers.get(ACCEPT) else { return Ok(vec![Form::Json]) };
    let text = accept.to_str().unwrap_or_default();
    let mut ranges: Vec<(Form, u16)> =
        text.split(',').take(MAX_RANGES).filter_map(parse_range).collect();
    ranges.sort_by_key(|(_, quality)| std::cmp::Reverse(*quality));
    if ranges.is_empty() && !text.trim().is_empty() {
        return Err(not_acceptable());
    }
    if ranges.is_empty() {
        ranges.push((Form::Json, 1000));
    }
    Ok(ranges.into_iter().map(|(form, _)| form).collect())
}

/// The first form that an object or list can have.
pub(crate) fn of_objects(headers: &HeaderMap) -> Result<Form, Status> {
    let forms = forms(headers)?;
    let served = |form: &Form| !matches!(form, Form::Discovery(_));
    forms.into_iter().find(served).ok_or_else(not_acceptable)
}

/// Whether the client wants OpenAPI version 2 as protobuf, as Go's clients do.
pub(crate) fn wants_openapi_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.starts_with("application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
}

fn not_acceptable() -> Status {
    Status::not_acceptable(
        "only the following media types are accepted: application/json, application/yaml",
    )
}

fn parse_range(range: &str) -> Option<(Form, u16)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
    let parameter = |name: &str| parameters.iter().find(|(key, _)| *key == name).map(|(_, v)| *v);
    let quality = match parameter("q") {
        Some(text) => thousandths(text)?,
        None => 1000,
    };
    let form = match media.as_str() {
        "application/json" => json_form(parameter("as"), parameter("g"), parameter("v"))?,
        "*/*" | "application/*" => Form::Json,
        "application/yaml" if parameter("as").is_none() => Form::Yaml,
        _ => return None,
    };
    (quality > 0).then_some((form, quality))
}

fn thousandths(quality: &str) -> Option<u16> {
    let quality: f32 = quality.parse().ok()?;
    // In range after the clamp, so the cast only cuts decimals.
    Some((quality.clamp(0.0, 1.0) * 1000.0) as u16)
}

fn json_form(kind: Option<&str>, group: Option<&str>, version: Option<&str>) -> Option<Form> {
    match (kind, group, version) {
        (None, _, _) => Some(Form::Json),
        (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(Form::Table("v1")),
        (Some("Table"), Some("meta.k8s.io"), Some("v1beta1")) => Some(Form::Table("v1beta1")),
        (
            Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
            Some("meta.k8s.io"),
            Some("v1"),
        ) => Some(Form::Partial),
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => {
            Some(Form::Discovery("v2"))
        }
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
            Some(Form::Discovery("v2beta1"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        of_objects(&headers).ok()
    }

    #[test]
    fn what_clients_send() {
        let kubectl_get = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(of(kubectl_get), Some(Form::Table("v1")));
        assert_eq!(of("application/json, */*"), Some(Form::Json));
        assert_eq!(of("application/vnd.kubernetes.protobuf, application/json"), Some(Form::Json));
        assert_eq!(of("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(of("application/yaml"), Some(Form::Yaml));
        assert_eq!(of("text/html"), None);
        assert_eq!(of("application/json;q=0.1,application/yaml;q=0.9"), Some(Form::Yaml));
        assert_eq!(of("application/json;as=Nonsense;g=x;v=v1"), None);
        assert_eq!(of("application/json;stream=watch"), Some(Form::Json));
    }
}
