//! The node API: logs, commands and pods of this node by HTTP. Who may ask is decided by who listens.

mod exec;
mod query;

use std::io;

use bytes::Bytes;
use futures::TryStreamExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::access::AccessError;
use crate::agent::Agent;
use query::Query;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Answers one request:
/// `GET /healthz`, `GET /pods`, `GET /logs/{namespace}/{pod}/{container}`, and the WebSocket
/// `GET /exec/{namespace}/{pod}/{container}`, which the caller's connection must allow to be upgraded. A refusal is a
/// Kubernetes `Status`.
pub async fn handle<B>(agent: &Agent, request: Request<B>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Option<Vec<String>> = path.split('/').skip(1).map(query::decode).collect();
    let parts = parts.unwrap_or_default();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if request.method() != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "only GET is served");
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match parts.as_slice() {
        ["healthz"] => text(StatusCode::OK, "ok"),
        ["pods"] => pods(agent),
        ["logs", namespace, pod, container] => logs(agent, [namespace, pod, container], &query),
        ["exec", namespace, pod, container] => {
            exec::handle(agent, [namespace, pod, container], &query, request).await
        }
        _ => refuse(StatusCode::NOT_FOUND, "NotFound", &format!("{path} is not served here")),
    }
}

fn logs(agent: &Agent, [namespace, pod, container]: [&str; 3], query: &Query) -> Response<Body> {
    let options = match query.log_options(jiff::Timestamp::now()) {
        Ok(options) => options,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, "BadRequest", &problem),
    };
    match agent.logs(namespace, pod, container, options) {
        Ok(stream) => {
            let body = StreamBody::new(stream.map_ok(Frame::data));
            respond(StatusCode::OK, "text/plain; charset=utf-8", body.boxed_unsync())
        }
        Err(error) => refuse_access(&error),
    }
}

fn pods(agent: &Agent) -> Response<Body> {
    let items: Vec<Pod> = agent
        .views()
        .into_iter()
        .map(|view| Pod { status: Some(view.status), ..(*view.pod).clone() })
        .collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    respond(StatusCode::OK, "application/json", full(list.to_string()))
}

fn refuse_access(error: &AccessError) -> Response<Body> {
    let (status, reason) = match error {
        AccessError::NoPod { .. } => (StatusCode::NOT_FOUND, "NotFound"),
        AccessError::NoContainer { .. }
        | AccessError::NotStarted { .. }
        | AccessError::NoPrevious { .. }
        | AccessError::NotRunning { .. } => (StatusCode::BAD_REQUEST, "BadRequest"),
        AccessError::Runtime(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    };
    refuse(status, reason, &error.to_string())
}

/// A Kubernetes `Status` that says no.
fn refuse(status: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16(),
    });
    respond(status, "application/json", full(body.to_string()))
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", full(text.to_owned()))
}

fn full(text: String) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
