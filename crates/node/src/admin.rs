//! The daemon's socket: the node's own requests below `/pontoon/v1`, and on a manager the Kubernetes API
//! with all rights. Only root can open the socket; that is its authentication.

mod cluster;
mod images;
mod nodes;
pub mod query;
mod store;

use std::sync::Arc;

use http::{Method, Request, Response, request};
use hyper::body::Incoming;
use pontoon_api_kube::Identity;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::daemon::Shared;
use crate::listen;
use crate::rpc::{Body, Refusal, json};

const PREFIX: &str = "/pontoon/v1/";

/// Serves the socket until the token ends it.
pub(crate) async fn serve(shared: Arc<Shared>, listener: UnixListener, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                tasks.spawn(connection(shared.clone(), stream, stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept on the socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(shared: Arc<Shared>, stream: UnixStream, stop: CancellationToken) {
    let serving = listen::http(stream, move |request| answer(shared.clone(), request));
    tokio::select! {
        () = serving => {}
        () = stop.cancelled() => {}
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let answered = match request.uri().path().strip_prefix(PREFIX) {
        Some(rest) => {
            let rest = rest.to_owned();
            let (parts, body) = request.into_parts();
            route(&shared, &rest, &parts, body).await
        }
        None => match shared.with_member(async |member| Ok(member.manager()?.clone())).await {
            Ok(manager) => Ok(manager.kube(Identity::admin(), request).await),
            Err(refusal) => Err(refusal),
        },
    };
    answered.unwrap_or_else(Refusal::into_response)
}

async fn route(
    shared: &Arc<Shared>,
    rest: &str,
    parts: &request::Parts,
    body: Incoming,
) -> Result<Response<Body>, Refusal> {
    let query = parts.uri.query();
    let words: Vec<String> = rest.split('/').map(query::decode).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (&parts.method, words.as_slice()) {
        (&Method::GET, ["status"]) => cluster::status(shared).await.map(|v| json(&v)),
        (&Method::POST, ["init"]) => cluster::init(shared, body).await.map(|v| json(&v)),
        (&Method::POST, ["join"]) => cluster::join(shared, body).await.map(|v| json(&v)),
        (&Method::POST, ["leave"]) => cluster::leave(shared, body).await.map(|v| json(&v)),
        (&Method::POST, ["join-token"]) => {
            cluster::join_token(shared, body).await.map(|v| json(&v))
        }
        (&Method::GET, ["members"]) => cluster::members(shared).await.map(|v| json(&v)),
        (&Method::GET, ["kubeconfig"]) => {
            let server = query::one(query, "server");
            cluster::kubeconfig(shared, server.as_deref()).await.map(|v| json(&v))
        }
        (&Method::GET, ["nodes"]) => nodes::list(shared).await.map(|v| json(&v)),
        (&Method::POST, ["nodes", name, "role"]) => {
            nodes::change_role(shared, name, body).await.map(|v| json(&v))
        }
        (&Method::DELETE, ["nodes", name]) => {
            let force = query::one(query, "force").as_deref() == Some("true");
            nodes::remove(shared, name, force).await.map(|v| json(&v))
        }
        (&Method::POST, ["force-new-cluster"]) => cluster::force(shared).await.map(|v| json(&v)),
        (&Method::GET, ["store", "snapshot"]) => store::snapshot(shared).await,
        (&Method::GET, ["store", "verify"]) => store::verify(shared).await.map(|v| json(&v)),
        (&Method::GET, ["images"]) => Ok(json(&images::list(shared))),
        (&Method::DELETE, ["images"]) => images::remove(shared, query).await.map(|v| json(&v)),
        (&Method::POST, ["images", "load"]) => images::load(shared, body).await.map(|v| json(&v)),
        (&Method::POST, ["images", "import"]) => {
            images::import(shared, query, body).await.map(|v| json(&v))
        }
        (&Method::POST, ["images", "pull"]) => images::pull(shared, query, body).await,
        (method, _) => Err(Refusal::not_found(format!(
            "{method} {}: this daemon ({}) knows no such request; is the command of another version?",
            parts.uri.path(),
            env!("CARGO_PKG_VERSION")
        ))),
    }
}
