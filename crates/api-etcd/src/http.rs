//! What etcd answers without gRPC: whether this member is healthy, and which version it has. Probes and load balancers
//! ask for these, with HTTP/1.1 too.

use std::time::Duration;

use ::http::{HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use pontoon_store::{Range, Read};

use crate::grpc::{Answer, Call, Reply};
use crate::maintenance::VERSION;
use crate::server::{Access, EtcdServer, NOBODY, SERVICES};

/// A member that cannot read within this time is not healthy.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);
/// The version of the data, which clients take for that of the cluster.
const CLUSTER_VERSION: &str = "3.5.0";

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

impl EtcdServer {
    /// Answers what was not asked by gRPC.
    pub(crate) async fn http(self, call: Call, access: Access) -> Answer {
        if access == Access::Nobody {
            return text(StatusCode::UNAUTHORIZED, NOBODY);
        }
        let path = call.uri().path();
        let is_service = path.get(1..).and_then(|path| path.split_once('/'));
        if is_service.is_some_and(|(service, _)| SERVICES.contains(&service)) {
            let words = "this is served by gRPC: HTTP/2, and the content type application/grpc";
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, words);
        }
        let is_read = matches!(*call.method(), Method::GET | Method::HEAD);
        match path {
            "/health" | "/version" if !is_read => {
                text(StatusCode::METHOD_NOT_ALLOWED, "this can only be read")
            }
            "/health" => match self.sickness().await {
                None => json(StatusCode::OK, r#"{"health":"true","reason":""}"#.to_owned()),
                Some(why) => {
                    let body = format!(r#"{{"health":"false","reason":"{why}"}}"#);
                    json(StatusCode::SERVICE_UNAVAILABLE, body)
                }
            },
            "/version" => {
                let body =
                    format!(r#"{{"etcdserver":"{VERSION}","etcdcluster":"{CLUSTER_VERSION}"}}"#);
                json(StatusCode::OK, body)
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "beside gRPC there are /health and /version; the JSON gateway (/v3/…) and /metrics of etcd are not served",
            ),
        }
    }

    /// Why this member is not healthy, in etcd's words.
    async fn sickness(&self) -> Option<&'static str> {
        let store = &self.inner.store;
        if store.status().disk_full {
            return Some("ALARM NOSPACE");
        }
        if self.inner.leadership.borrow().leader.is_none() {
            return Some("RAFT NO LEADER");
        }
        let range = Range { count_only: true, ..Range::key(&b"\0"[..]) };
        let read = tokio::time::timeout(HEALTH_PATIENCE, store.range(range, Read::Linearizable));
        let read = read.await.is_ok_and(|read| read.is_ok());
        (!read).then_some("RANGE ERROR")
    }
}

fn json(status: StatusCode, body: String) -> Answer {
    answer(status, JSON, body.into())
}

fn text(status: StatusCode, words: &'static str) -> Answer {
    answer(status, TEXT, format!("{words}\n").into())
}

fn answer(status: StatusCode, kind: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(Reply::whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
