//! A cluster of one store with the API on loopback, and a raw client for it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pontoon_model::resource::PODS;
use pontoon_objects::{DeleteOptions, Objects, WatchEvent, WatchOptions};
use pontoon_store::{BoxedStream, Member, Store, StoreConfig, Transport};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::fake_node::FakeNodes;
use crate::{ApiServer, Body, BuildInfo, Identity, Limits};

/// A cluster that lives as long as this value.
pub(super) struct Cluster {
    pub(super) objects: Objects,
    pub(super) server: ApiServer,
    pub(super) address: SocketAddr,
    pub(super) nodes: Arc<FakeNodes>,
    pub(super) shutdown: CancellationToken,
    _guard: DropGuard,
    _dir: TempDir,
}

struct NoPeers;

#[async_trait]
impl Transport for NoPeers {
    async fn connect(&self, to: &Member) -> io::Result<BoxedStream> {
        Err(io::Error::other(format!("there is no member {}", to.name)))
    }
}

impl Cluster {
    pub(super) async fn start() -> Cluster {
        Cluster::start_with(Limits::default()).await
    }

    pub(super) async fn start_with(limits: Limits) -> Cluster {
        let dir = TempDir::new().unwrap();
        let config = StoreConfig::new(dir.path(), 1);
        let store = Store::open(config, Arc::new(NoPeers)).await.unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 2377));
        store.bootstrap(Member { id: 1, name: "m1".to_owned(), address }).await.unwrap();
        let objects = Objects::new(store);
        objects.bootstrap().await.unwrap();
        let shutdown = CancellationToken::new();
        let nodes = Arc::new(FakeNodes::default());
        let server = ApiServer::with_limits(
            objects.clone(),
            nodes.clone(),
            BuildInfo::of_version("0.1.0"),
            shutdown.clone(),
            limits,
        );
        let address = listen(server.clone(), shutdown.clone()).await;
        let guard = shutdown.clone().drop_guard();
        Cluster { objects, server, address, nodes, shutdown, _guard: guard, _dir: dir }
    }

    /// A request of an administrator, without a network between.
    pub(super) async fn send(&self, request: Request<String>) -> Answer {
        self.send_as(Identity::admin(), request).await
    }

    pub(super) async fn send_as(&self, identity: Identity, request: Request<String>) -> Answer {
        let request = request.map(|body| Full::new(Bytes::from(body)));
        Answer::of(self.server.handle(identity, request).await).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(String::new()).unwrap()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(json_request(Method::POST, path, body)).await
    }

    pub(super) async fn create(&self, path: &str, body: Value) -> Value {
        let answer = self.post(path, &body).await;
        assert_eq!(answer.code, 201, "{path}: {}", answer.text());
        answer.json()
    }

    /// Does the part of a node's agent that ends pods which are to be deleted.
    pub(super) async fn end_pods(&self) {
        let options = WatchOptions { send_initial: true, ..WatchOptions::default() };
        let mut watch = self.objects.watch(PODS, None, options).await.unwrap();
        let objects = self.objects.clone();
        let shutdown = self.shutdown.clone();
        tokio::spawn(shutdown.run_until_cancelled_owned(async move {
            while let Some(Ok(event)) = watch.next().await {
                let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
                if !pod.meta.is_terminating() {
                    continue;
                }
                let at_once = DeleteOptions {
                    grace_seconds: Some(0),
                    uid: Some(pod.meta.uid.clone()),
                    ..DeleteOptions::default()
                };
                // Gone already is as good.
                drop(
                    objects
                        .delete(PODS, pod.meta.namespace.as_deref(), &pod.meta.name, &at_once)
                        .await,
                );
            }
        }));
    }
}

async fn listen(server: ApiServer, shutdown: CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = server.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let server = server.clone();
                async move { Ok::<_, io::Error>(server.handle(Identity::admin(), request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::spawn(connection);
        }
    }));
    address
}

pub(super) fn json_request(method: Method, path: &str, body: &Value) -> Request<String> {
    let request = Request::builder().method(method).uri(path);
    request.header("content-type", "application/json").body(body.to_string()).unwrap()
}

/// A pod of one container.
pub(super) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "pontoon.local/hello"}]},
    })
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) bytes: Bytes,
}

impl Answer {
    pub(super) async fn of(response: Response<Body>) -> Answer {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Code, reason and message of a refusal.
    pub(super) fn refusal(&self) -> (u16, String, String) {
        let status = self.json();
        assert_eq!(status["kind"], "Status", "{status}");
        assert_eq!(status["code"], self.code);
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        (self.code, text("reason"), text("message"))
    }
}
