//! The `scale` subresource: replicas of any workload, told in one form.

use http::{Response, StatusCode};
use pontoon_model::status::Status;
use pontoon_objects::Sub;
use serde_json::Value;

use crate::accept;
use crate::body::Body;
use crate::call::Call;
use crate::options;
use crate::respond;

use super::write;

pub(super) async fn get(call: Call) -> Result<Response<Body>, Status> {
    answer(&call).await
}

pub(super) async fn update(mut call: Call) -> Result<Response<Body>, Status> {
    let options = options::write(&call.query)?;
    let scale = call.decode_body().await?.value;
    check_is_scale(&scale, call.target.name())?;
    let target = &call.target;
    let (namespace, name) = (target.namespace(), target.name());
    call.objects().update(target.resource, namespace, name, scale, Sub::Scale, &options).await?;
    answer(&call).await
}

pub(super) async fn patch(mut call: Call) -> Result<Response<Body>, Status> {
    let options = options::write(&call.query)?;
    let patch = write::read_patch(&mut call).await?;
    let target = &call.target;
    let (namespace, name) = (target.namespace(), target.name());
    call.objects().patch(target.resource, namespace, name, &patch, Sub::Scale, &options).await?;
    answer(&call).await
}

async fn answer(call: &Call) -> Result<Response<Body>, Status> {
    let form = accept::of_objects(&call.headers)?;
    let target = &call.target;
    let namespace = target.namespace().unwrap_or_default();
    let scale = call.objects().scale(target.resource, namespace, target.name()).await?;
    respond::value(StatusCode::OK, &scale, form)
}

fn check_is_scale(body: &Value, name: &str) -> Result<(), Status> {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind_fits = matches!(text("/kind"), "" | "Scale")
        && matches!(text("/apiVersion"), "" | "autoscaling/v1");
    if !kind_fits {
        return Err(Status::bad_request("the object provided is not a Scale of autoscaling/v1"));
    }
    match text("/metadata/name") {
        "" => Ok(()),
        given if given == name => Ok(()),
        given => Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
    }
}
