//! The server: one connection at a time, each call by its path to the part that answers it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pontoon_store::{Leadership, Store};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};

use crate::cluster::Members;
use crate::connection::{Connection, Received};
use crate::grpc::{self, Answer, Call, refused, unary, unary_apart};
use crate::kv;
use crate::proto::ResponseHeader;
use crate::status::{Code, NO_LEADER, Status};

/// Calls that one connection may have open. Clients of many watches open one call for each.
const STREAMS_MAX: u32 = 8192;
/// What a client may send ahead, a call and a connection: a request of the largest size needs no pause.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of answers that wait in a connection for a call before its source is asked for no more.
const SEND_BUFFER: usize = 256 << 10;
/// Bytes of headers of a call.
const HEADERS_MAX: u32 = 16 << 10;
/// What is read ahead of a client that speaks HTTP/1.1, headers among it.
const HTTP1_MAX: usize = 16 << 10;
/// A client that says nothing is asked whether it lives after this time, and given up after the next.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(20);
/// Watchers of all connections: each costs about a kilobyte while nothing happens.
const WATCHERS_MAX: usize = 100_000;

/// What somebody without the right certificate is told.
pub(crate) const NOBODY: &str = "this port serves only those who show the client certificate of the cluster's administrator; \
     `pontoon etcd-env` on a manager writes it to files";

/// The services that are served.
pub(crate) const SERVICES: [&str; 8] = [
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Auth",
    "v3lockpb.Lock",
    "v3electionpb.Election",
];

/// What a server is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tells clusters apart; not 0.
    pub cluster_id: u64,
    /// A watcher that asked for it hears at least this often how far it is.
    pub progress_interval: Duration,
}

/// What the other end of a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    Admin,
    /// Everything but what would show the cluster's own keys: a snapshot.
    Anyone,
    /// Nothing, but it is told why.
    Nobody,
}

/// Serves etcd's API. Cheap to clone.
#[derive(Clone)]
pub struct EtcdServer {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) members: Arc<dyn Members>,
    pub(crate) settings: Settings,
    pub(crate) member: u64,
    /// Places for watchers.
    pub(crate) watchers: Arc<Semaphore>,
}

impl EtcdServer {
    /// A server of this store.
    #[must_use]
    pub fn new(store: Store, members: Arc<dyn Members>, settings: Settings) -> EtcdServer {
        let (leadership, member) = (store.leadership(), store.status().member);
        let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
        let inner = Inner { store, leadership, members, settings, member, watchers };
        EtcdServer { inner: Arc::new(inner) }
    }

    /// Serves one connection until it ends.
    pub async fn serve<T>(self, stream: T, access: Access)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |call| {
            let server = self.clone();
            // On the heap at once: they are moved several times.
            let call = Box::new(call);
            Box::pin(async move { Ok::<_, Infallible>(server.answer(call, access).await) })
        });
        let received = Received::default();
        let mut builder = auto::Builder::new(received.clone());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(KEEPALIVE_AFTER)
            .max_buf_size(HTTP1_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEADERS_MAX)
            .keep_alive_interval(KEEPALIVE_AFTER)
            .keep_alive_timeout(KEEPALIVE_PATIENCE);
        let wire = builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = Connection::new(Box::pin(wire), received).await {
            tracing::debug!(%error, "a connection of an etcd client ended");
        }
    }

    async fn answer(self, call: Call, access: Access) -> Answer {
        if !grpc::is_grpc(&call) {
            return Box::pin(self.http(call, access)).await;
        }
        if access == Access::Nobody {
            return refused(&Status::new(Code::Unauthenticated, NOBODY));
        }
        if wants_leader(&call) && self.inner.leadership.borrow().leader.is_none() {
            return refused(&NO_LEADER);
        }
        match grpc::deadline(call.headers()) {
            None => self.dispatch(call, access).await,
            Some(patience) => {
                match tokio::time::timeout(patience, self.dispatch(call, access)).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        refused(&Status::new(Code::DeadlineExceeded, "context deadline exceeded"))
                    }
                }
            }
        }
    }

    async fn dispatch(self, call: Call, access: Access) -> Answer {
        let Some((service, method)) = call.uri().path().rsplit_once('/') else {
            return unknown(call.uri().path());
        };
        match (service, method) {
            ("/etcdserverpb.KV", "Range") => {
                let serve = |q| async move { self.range(q).await };
                unary_apart(call, kv::is_large, serve).await
            }
            ("/etcdserverpb.KV", "Put") => unary(call, |q| self.put(q)).await,
            ("/etcdserverpb.KV", "Txn") => {
                let serve = |q| async move { self.txn(q).await };
                unary_apart(call, kv::txn_is_large, serve).await
            }
            ("/etcdserverpb.KV", "DeleteRange") => {
                let serve = |q| async move { self.delete_range(q).await };
                unary_apart(call, kv::delete_is_large, serve).await
            }
            ("/etcdserverpb.KV", "Compact") => unary(call, |q| self.compact(q)).await,
            ("/etcdserverpb.Watch", "Watch") => {
                let wants_leader = wants_leader(&call);
                self.watch(call, wants_leader)
            }
            // Rare ones have a place of their own: the other calls' is as large as the largest of these.
            ("/etcdserverpb.Lease", _) => Box::pin(self.lease(call)).await,
            ("/etcdserverpb.Cluster", _) => Box::pin(self.cluster(call)).await,
            ("/etcdserverpb.Maintenance", _) => Box::pin(self.maintenance(call, access)).await,
            ("/etcdserverpb.Auth", _) => Box::pin(self.auth(call)).await,
            ("/v3lockpb.Lock", _) => Box::pin(self.locks(call)).await,
            ("/v3electionpb.Election", _) => Box::pin(self.elections(call)).await,
            _ => unknown(call.uri().path()),
        }
    }

    /// The header of an answer that was made at `revision`.
    pub(crate) fn header(&self, revision: u64) -> Option<ResponseHeader> {
        self.inner.header(revision)
    }

    /// The header of an answer that has nothing to do with keys.
    pub(crate) fn header_now(&self) -> Option<ResponseHeader> {
        self.inner.header(self.inner.store.revision())
    }
}

impl Inner {
    pub(crate) fn header(&self, revision: u64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: self.settings.cluster_id,
            member_id: self.member,
            revision: signed(revision),
            raft_term: self.leadership.borrow().term,
        })
    }
}

/// True if the client would rather fail than be served by a member that has no leader.
fn wants_leader(call: &Call) -> bool {
    call.headers().get("hasleader").is_some_and(|value| value == "true")
}

/// The last part of a call's path.
pub(crate) fn method(call: &Call) -> &str {
    call.uri().path().rsplit('/').next().unwrap_or_default()
}

/// The answer to a call that there is not, in the words of the gRPC library that etcd is made with.
pub(crate) fn unknown(path: &str) -> Answer {
    let words = match path.trim_start_matches('/').rsplit_once('/') {
        Some((service, method)) if SERVICES.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    };
    refused(&Status::new(Code::Unimplemented, words))
}

/// A revision or count as etcd's messages carry it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A revision that a client names; what is not positive means "the newest".
pub(crate) fn revision(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
