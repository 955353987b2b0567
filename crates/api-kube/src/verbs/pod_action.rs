//! What is posted at a pod: its binding to a node, and its eviction from one.

use http::{Response, StatusCode};
use pontoon_model::resource::PODS;
use pontoon_model::status::Status;
use serde_json::Value;

use crate::body::Body;
use crate::call::Call;
use crate::options;
use crate::query::Query;
use crate::respond;

pub(super) async fn bind(mut call: Call) -> Result<Response<Body>, Status> {
    let binding = call.decode_body().await?.value;
    check_kind(&binding, "Binding", "v1", call.target.name())?;
    let text = |pointer: &str| binding.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let node = text("/target/name");
    if node.is_empty() || !matches!(text("/target/kind"), "" | "Node") {
        return Err(options::invalid_option("target", "Invalid value: must name a Node"));
    }
    let uid = Some(text("/metadata/uid")).filter(|uid| !uid.is_empty());
    let namespace = call.target.namespace().unwrap_or_default();
    if !options::write(&call.query)?.dry_run {
        call.objects().bind(namespace, call.target.name(), uid, node).await?;
    }
    created(call.target.name())
}

pub(super) async fn evict(mut call: Call) -> Result<Response<Body>, Status> {
    let mut eviction = call.decode_body().await?.value;
    check_kind(&eviction, "Eviction", "policy/v1", call.target.name())?;
    let given = eviction.get_mut("deleteOptions").map(Value::take).filter(|given| !given.is_null());
    let mut options = options::delete(given, &Query::default())?;
    options.dry_run |= options::write(&call.query)?.dry_run;
    let namespace = call.target.namespace().unwrap_or_default();
    call.objects().evict(namespace, call.target.name(), &options).await?;
    created(call.target.name())
}

fn created(name: &str) -> Result<Response<Body>, Status> {
    let mut status = Status::success(PODS, name, "");
    status.details = None;
    status.code = 201;
    Ok(respond::json_bytes(StatusCode::CREATED, respond::to_json(&status)?))
}

fn check_kind(body: &Value, kind: &str, version: &str, name: &str) -> Result<(), Status> {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let fits = |given: &str, wanted: &str| given.is_empty() || given == wanted;
    if !body.is_object() || !fits(text("/kind"), kind) || !fits(text("/apiVersion"), version) {
        return Err(Status::bad_request(format!(
            "the object provided is not a {kind} of {version}"
        )));
    }
    if !fits(text("/metadata/name"), name) {
        return Err(Status::bad_request("name in URL does not match name in the object"));
    }
    Ok(())
}
