//! The server: one connection at a time, each request by its path to the endpoint that answers it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pontoon_store::{Leadership, Store};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::acl::{AclSettings, Resolver, Secret};
use crate::answer::{Answer, Body};
use crate::call::{Call, Granted, refuse_namespaces};
use crate::catalog::view::Kept;
use crate::cluster::Cluster;
use crate::options::token;
use crate::path;
use crate::permit::{AllowAll, Permits};
use crate::query::Query;
use crate::refusal::Refusal;
use crate::route::{self, Needs, Route, VALUE_MAX};

/// How long a client may take to send the head of a request; connections without one are kept so long, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of the head of a request, and of what is read ahead.
const HEAD_MAX: usize = 64 << 10;

/// What a server is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the only datacenter there is.
    pub datacenter: String,
    /// The name of the node that this server is on: sessions belong to it unless they name another.
    pub node: String,
    /// Access control; where it is off, everybody may do everything.
    pub acl: Option<AclSettings>,
}

/// Serves Consul's API. Cheap to clone.
#[derive(Clone)]
pub struct ConsulServer {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) permits: Arc<dyn Permits>,
    pub(crate) settings: Settings,
    pub(crate) catalog: Kept,
}

impl ConsulServer {
    /// A server of this store. Somebody must also run [`ConsulServer::end_sessions`], [`ConsulServer::watch_checks`],
    /// [`ConsulServer::probe_services`] and [`ConsulServer::keep_tokens`] on every manager.
    #[must_use]
    pub fn new(store: Store, cluster: Arc<dyn Cluster>, settings: Settings) -> ConsulServer {
        let permits: Arc<dyn Permits> = match &settings.acl {
            None => Arc::new(AllowAll),
            Some(acl) => {
                let (datacenter, otherwise) = (settings.datacenter.clone(), acl.default_policy);
                Arc::new(Resolver::new(store.clone(), datacenter, otherwise.into()))
            }
        };
        ConsulServer::with_permits(store, cluster, permits, settings)
    }

    /// A server with tokens from elsewhere.
    pub(crate) fn with_permits(
        store: Store,
        cluster: Arc<dyn Cluster>,
        permits: Arc<dyn Permits>,
        settings: Settings,
    ) -> ConsulServer {
        let leadership = store.leadership();
        let inner =
            Inner { store, leadership, cluster, permits, settings, catalog: Kept::default() };
        ConsulServer { inner: Arc::new(inner) }
    }

    /// Serves one connection until it ends.
    pub async fn serve<T>(self, stream: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_MAX)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection of a Consul client ended");
        }
    }

    /// Answers one request.
    pub async fn answer<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let answer = match self.dispatch(request).await {
            Ok(answer) => answer,
            Err(refusal) => Answer::refused(&refusal),
        };
        answer.into_response()
    }

    async fn dispatch<B>(self, request: Request<B>) -> Result<Answer, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let path = path::decode(head.uri.path())?;
        if path == b"/" {
            return Ok(Answer::text(StatusCode::OK, "Consul Agent".to_owned()));
        }
        let (route, rest) = route::find(&path)?;
        if head.method == Method::OPTIONS {
            return Ok(Answer::allow(&route.allowed()));
        }
        if !route.methods.contains(&head.method) {
            let method = head.method.to_string();
            return Err(Refusal::Method { method, allowed: route.allowed() });
        }
        let query = Query::parse(head.uri.query().unwrap_or(""))?;
        refuse_namespaces(&query, &head.headers)?;
        let datacenter = query.text("dc");
        if !datacenter.is_empty() && datacenter != self.inner.settings.datacenter {
            return Err(Refusal::failed("No path to datacenter"));
        }
        let token = Secret::from(token(&query, &head.headers));
        let permit = self.permit(route, &token).await?;
        let body = if matches!(head.method, Method::PUT | Method::POST) {
            receive(body, route).await?
        } else {
            Bytes::new()
        };
        let rest = Bytes::from(path).slice(rest..);
        let call = Call { server: self, method: head.method, rest, query, body, token, permit };
        ask(route, call).await
    }

    /// What a token may do at an endpoint; one that is for everybody does not look at it.
    async fn permit(&self, route: &Route, token: &Secret) -> Result<Granted, Refusal> {
        let permit = match route.needs {
            Needs::Nothing => Arc::new(AllowAll),
            Needs::To(_) => self.inner.permits.of(token.reveal()).await?,
        };
        Ok(Granted::new(permit, route.needs))
    }
}

/// Has an endpoint answer. If it had to wait, and the token may do something else by now, it answers once more, at once:
/// what was waited for may not be told any more, or only now.
async fn ask(route: &Route, call: Call) -> Result<Answer, Refusal> {
    let again = call.again();
    let answer = (route.handler)(call).await;
    let Some(again) = again else { return answer };
    let permit = again.server.permit(route, &again.token).await?;
    match permit.is(&again.permit) {
        true => answer,
        false => (route.handler)(Call { permit, ..again }).await,
    }
}

/// A whole body, if it is not too large.
async fn receive<B>(body: B, route: &Route) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let announced = body.size_hint().lower();
    if announced > route.body_max as u64 {
        return Err(too_large(route, Some(announced)));
    }
    let receiving = Box::pin(Limited::new(body, route.body_max).collect());
    match tokio::time::timeout(BODY_TIMEOUT, receiving).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(route, None)),
        Ok(Err(error)) => Err(Refusal::BadRequest(format!("read the body: {error}"))),
        Err(_) => Err(Refusal::bad_request("the body did not come in time")),
    }
}

fn too_large(route: &Route, announced: Option<u64>) -> Refusal {
    let max = route.body_max;
    Refusal::TooLarge(match announced {
        Some(bytes) if max == VALUE_MAX => {
            format!("Request body({bytes} bytes) too large, max size: {max} bytes.")
        }
        _ => format!("Request body too large, max size: {max} bytes"),
    })
}
