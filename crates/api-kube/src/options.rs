//! Kubernetes' request options (`ListOptions`, `DeleteOptions`, ...) read from query and body.

use pontoon_model::resource::Resource;
use pontoon_model::selector::{FieldSelector, LabelSelector};
use pontoon_model::status::{Cause, Status};
use pontoon_model::validate::MAX_GRACE_SECONDS;
use pontoon_objects::{
    DeleteOptions, FieldValidation, ListOptions, Propagation, VersionMatch, WatchOptions,
    WriteOptions,
};
use serde::Deserialize;
use serde_json::Value;

use crate::query::Query;

const MAX_FIELD_MANAGER: usize = 128;

/// What a list or `deletecollection` selects.
pub(crate) fn list(resource: &Resource, query: &Query) -> Result<ListOptions, Status> {
    let version = version(query)?;
    let continue_token = query.get("continue").map(str::to_owned);
    let options = ListOptions {
        labels: labels(query)?,
        fields: fields(resource, query)?,
        limit: query.number("limit")?.unwrap_or(0),
        resource_version: version,
        resource_version_match: version_match(query, version)?,
        continue_token,
    };
    let exact = options.resource_version_match.is_some();
    if exact && options.continue_token.is_some() {
        return Err(forbidden_match("is forbidden when continue is provided"));
    }
    Ok(options)
}

/// What a watch follows.
pub(crate) fn watch(resource: &Resource, query: &Query) -> Result<WatchOptions, Status> {
    let send_initial = query.flag("sendInitialEvents");
    let bookmarks = query.flag("allowWatchBookmarks");
    match (query.get("resourceVersionMatch"), send_initial) {
        (None, false) | (Some("NotOlderThan"), true) => {}
        (None, true) => {
            return Err(forbidden_match("is required when sendInitialEvents is set"));
        }
        (Some(_), _) => {
            return Err(forbidden_match(
                "is forbidden for watch unless sendInitialEvents is provided, and then must be NotOlderThan",
            ));
        }
    }
    Ok(WatchOptions {
        resource_version: version(query)?,
        labels: labels(query)?,
        fields: fields(resource, query)?,
        bookmarks,
        timeout: query.timeout()?,
        send_initial,
    })
}

fn labels(query: &Query) -> Result<Option<LabelSelector>, Status> {
    let Some(text) = query.get("labelSelector") else { return Ok(None) };
    let selector =
        LabelSelector::parse(text).map_err(|error| Status::bad_request(error.to_string()))?;
    Ok((!selector.is_empty()).then_some(selector))
}

fn fields(resource: &Resource, query: &Query) -> Result<Option<FieldSelector>, Status> {
    let Some(text) = query.get("fieldSelector") else { return Ok(None) };
    let refuse = |error: pontoon_model::selector::BadSelector| {
        Status::bad_request(format!(
            "Unable to find \"{}\" that match label selector \"\", field selector \"{text}\": {error}",
            resource.qualified()
        ))
    };
    let selector = FieldSelector::parse(text).map_err(refuse)?;
    selector.check(resource).map_err(refuse)?;
    Ok((!selector.is_empty()).then_some(selector))
}

fn version(query: &Query) -> Result<Option<u64>, Status> {
    let Some(text) = query.get("resourceVersion") else { return Ok(None) };
    let why = format!("Invalid value: \"{text}\": must be a resourceVersion that the server gave");
    text.parse().map(Some).map_err(|_| invalid_option("resourceVersion", &why))
}

fn version_match(query: &Query, version: Option<u64>) -> Result<Option<VersionMatch>, Status> {
    let Some(text) = query.get("resourceVersionMatch") else { return Ok(None) };
    let matched = match text {
        "NotOlderThan" => VersionMatch::NotOlderThan,
        "Exact" => VersionMatch::Exact,
        other => {
            let why = format!(
                "Unsupported value: \"{other}\": supported values: \"Exact\", \"NotOlderThan\""
            );
            return Err(invalid_option("resourceVersionMatch", &why));
        }
    };
    match (version, matched) {
        (None, _) => Err(forbidden_match("is forbidden unless resourceVersion is provided")),
        (Some(0), VersionMatch::Exact) => {
            Err(forbidden_match("\"Exact\" is forbidden for resourceVersion \"0\""))
        }
        _ => Ok(Some(matched)),
    }
}

fn forbidden_match(why: &str) -> Status {
    invalid_option("resourceVersionMatch", &format!("Forbidden: resourceVersionMatch {why}"))
}

/// 422 for an option of the request.
pub(crate) fn invalid_option(field: &str, why: &str) -> Status {
    let mut status = Status::bad_request(format!("the request is invalid: {field}: {why}"));
    status.code = 422;
    "Invalid".clone_into(&mut status.reason);
    status.details = Some(Box::new(pontoon_model::status::Details {
        causes: vec![Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: why.to_owned(),
            field: field.to_owned(),
        }],
        ..Default::default()
    }));
    status
}

/// How a write is done.
pub(crate) fn write(query: &Query) -> Result<WriteOptions, Status> {
    let field_validation = match query.get("fieldValidation") {
        None | Some("Warn") => FieldValidation::Warn,
        Some("Strict") => FieldValidation::Strict,
        Some("Ignore") => FieldValidation::Ignore,
        Some(other) => {
            let why = format!(
                "Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
            );
            return Err(invalid_option("fieldValidation", &why));
        }
    };
    let field_manager = query.get("fieldManager").map(str::to_owned);
    if field_manager.as_ref().is_some_and(|name| name.len() > MAX_FIELD_MANAGER) {
        let why = format!("Too long: may not be more than {MAX_FIELD_MANAGER} bytes");
        return Err(invalid_option("fieldManager", &why));
    }
    Ok(WriteOptions { dry_run: dry_run(query.values("dryRun"))?, field_manager, field_validation })
}

fn dry_run<'q>(values: impl Iterator<Item = &'q str>) -> Result<bool, Status> {
    let mut all = false;
    for value in values {
        match value {
            "All" => all = true,
            "" => {}
            other => {
                let why = format!("Unsupported value: \"{other}\": supported values: \"All\"");
                return Err(invalid_option("dryRun", &why));
            }
        }
    }
    Ok(all)
}

/// `DeleteOptions` as they are sent in the body of a DELETE or in an eviction.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteBody {
    kind: Option<String>,
    grace_period_seconds: Option<i64>,
    preconditions: Option<Preconditions>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    dry_run: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// How an object is deleted: the body counts, and the query where the body says nothing.
pub(crate) fn delete(body: Option<Value>, query: &Query) -> Result<DeleteOptions, Status> {
    let body: DeleteBody = match body {
        Some(value) => serde_json::from_value(value)
            .map_err(|error| Status::bad_request(format!("DeleteOptions: {error}")))?,
        None => DeleteBody::default(),
    };
    if body.kind.as_deref().is_some_and(|kind| kind != "DeleteOptions") {
        return Err(Status::bad_request("the body of a DELETE must be DeleteOptions"));
    }
    let grace_seconds = body.grace_period_seconds.or(grace(query)?);
    if grace_seconds.is_some_and(|seconds| seconds < 0) {
        return Err(invalid_option("gracePeriodSeconds", "Invalid value: must not be negative"));
    }
    if grace_seconds.is_some_and(|seconds| seconds > MAX_GRACE_SECONDS) {
        let why = format!("Invalid value: must be less than or equal to {MAX_GRACE_SECONDS}");
        return Err(invalid_option("gracePeriodSeconds", &why));
    }
    let policy = body.propagation_policy.as_deref().or_else(|| query.get("propagationPolicy"));
    let orphan =
        body.orphan_dependents.or_else(|| query.get("orphanDependents").map(|v| v == "true"));
    let preconditions = body.preconditions.unwrap_or_default();
    let dry_run_values = body.dry_run.unwrap_or_default();
    let dry_run_values = dry_run_values.iter().map(String::as_str).chain(query.values("dryRun"));
    Ok(DeleteOptions {
        grace_seconds,
        uid: preconditions.uid,
        resource_version: preconditions.resource_version.map(parse_version).transpose()?,
        propagation: propagation(policy, orphan)?,
        dry_run: dry_run(dry_run_values)?,
    })
}

fn grace(query: &Query) -> Result<Option<i64>, Status> {
    let Some(text) = query.get("gracePeriodSeconds") else { return Ok(None) };
    let why = format!("Invalid value: \"{text}\": must be a number");
    text.parse().map(Some).map_err(|_| invalid_option("gracePeriodSeconds", &why))
}

fn parse_version(text: String) -> Result<u64, Status> {
    let why = format!("Invalid value: \"{text}\": must be a resourceVersion that the server gave");
    text.parse().map_err(|_| invalid_option("preconditions.resourceVersion", &why))
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Status> {
    match (policy, orphan) {
        (Some(_), Some(_)) => Err(invalid_option(
            "propagationPolicy",
            "Invalid value: orphanDependents and propagationPolicy cannot be both set",
        )),
        (Some("Background"), None) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some("Orphan"), None) => Ok(Some(Propagation::Orphan)),
        (Some(other), None) => Err(invalid_option(
            "propagationPolicy",
            &format!(
                "Unsupported value: \"{other}\": supported values: \"Background\", \"Foreground\", \"Orphan\""
            ),
        )),
        (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (None, Some(false)) => Ok(Some(Propagation::Background)),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_model::resource::PODS;
    use serde_json::json;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn list_options_are_checked_as_in_kubernetes() {
        assert!(list(PODS, &query("limit=5&labelSelector=a%3Db&resourceVersion=0")).is_ok());
        for bad in [
            "resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersion=1&resourceVersionMatch=Sometimes",
            "resourceVersion=1&resourceVersionMatch=Exact&continue=x",
            "resourceVersion=x",
        ] {
            assert_eq!(list(PODS, &query(bad)).unwrap_err().code, 422, "{bad}");
        }
        for bad in ["limit=-1", "labelSelector=a%3D%3D%3Db", "fieldSelector=spec.nosuch%3D1"] {
            assert_eq!(list(PODS, &query(bad)).unwrap_err().code, 400, "{bad}");
        }
    }

    #[test]
    fn watch_options() {
        let options = watch(PODS, &query("timeoutSeconds=9&allowWatchBookmarks=true")).unwrap();
        assert_eq!(options.timeout.unwrap().as_secs(), 9);
        assert!(options.bookmarks && !options.send_initial);
        let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        assert!(watch(PODS, &query(initial)).unwrap().send_initial);
        assert!(watch(PODS, &query("sendInitialEvents=true")).is_err());
        assert!(watch(PODS, &query("resourceVersion=1&resourceVersionMatch=Exact")).is_err());
    }

    #[test]
    fn delete_options_from_body_and_query() {
        let body = json!({"kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": "u", "resourceVersion": "7"}, "dryRun": ["All"]});
        let options = delete(Some(body), &query("gracePeriodSeconds=9")).unwrap();
        assert_eq!(options.grace_seconds, Some(0));
        assert_eq!((options.uid.as_deref(), options.resource_version), (Some("u"), Some(7)));
        assert!(options.dry_run);
        let options = delete(None, &query("propagationPolicy=Orphan")).unwrap();
        assert_eq!(options.propagation, Some(Propagation::Orphan));
        for bad in [
            json!({"gracePeriodSeconds": -1}),
            json!({"gracePeriodSeconds": i64::MAX}),
            json!({"propagationPolicy": "Maybe"}),
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            json!({"dryRun": ["Some"]}),
            json!({"kind": "Pod"}),
        ] {
            assert!(delete(Some(bad.clone()), &query("")).is_err(), "{bad}");
        }
    }

    #[test]
    fn write_options() {
        let options = write(&query("dryRun=All&fieldValidation=Strict&fieldManager=x")).unwrap();
        assert!(options.dry_run);
        assert_eq!(options.field_validation, FieldValidation::Strict);
        assert!(write(&query("dryRun=Some")).is_err());
        assert!(write(&query("fieldValidation=Maybe")).is_err());
        assert!(write(&query(&format!("fieldManager={}", "x".repeat(200)))).is_err());
    }
}
