//! Probes: what this node does itself to see how its services are.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use pontoon_store::{Read, WatchRequest};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::status::{OUTPUT_MAX, Told};
use crate::catalog::record::{Probe, Source, Status};
use crate::keyspace;
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// How long a probe may take that does not say.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after something failed.
const PAUSE: Duration = Duration::from_secs(1);

impl ConsulServer {
    /// Probes what this node's checks say, until the store stops. Every node with a server runs this.
    pub async fn probe_services(self) {
        while let Err(error) = self.follow_probes().await {
            tracing::warn!(%error, "follow this node's checks; it is tried again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Runs one task for each probe, and begins again whenever they are others; `Ok` when the store stops.
    async fn follow_probes(&self) -> Result<(), Refusal> {
        let node = &self.inner.settings.node;
        let [_, checks] = keyspace::of_node(node);
        let mut running = JoinSet::new();
        let mut known = BTreeMap::new();
        let (_, revision) = self.catalog(Read::Local).await?;
        let watch = self.inner.store.watch(WatchRequest::prefix(checks).from(revision + 1));
        let mut watch = watch.map_err(|error| Refusal::Failed(error.to_string()))?;
        loop {
            let (catalog, _) = self.catalog(Read::Local).await?;
            let all = catalog.node(node).into_iter().flat_map(|there| there.checks.values());
            let probes = all.filter(|check| matches!(check.source, Source::Probe { .. }));
            let probes: BTreeMap<_, _> =
                probes.map(|check| (check.id.clone(), check.source.clone())).collect();
            if probes != known {
                running.abort_all();
                while running.join_next().await.is_some() {}
                for (id, source) in &probes {
                    running.spawn(self.clone().probe(id.clone(), source.clone()));
                }
                known = probes;
            }
            drop(catalog);
            match watch.next().await {
                Some(batch) => drop(batch.map_err(|error| Refusal::Failed(error.to_string()))?),
                None => return Ok(()),
            }
        }
    }

    async fn probe(self, id: String, source: Source) {
        let Source::Probe { how, every, within } = source else { return };
        let every = every.to_std().unwrap_or(PATIENCE);
        let patience = within.and_then(crate::duration::GoDuration::to_std).unwrap_or(PATIENCE);
        let node = self.inner.settings.node.clone();
        loop {
            let probing = tokio::time::timeout(patience, look(&how));
            let (status, output) = probing.await.unwrap_or_else(|_| {
                (Status::Critical, format!("no answer within {} ms", patience.as_millis()))
            });
            let told = self.set_status(&node, &id, status, output, Told::InTime).await;
            if let Err(error) = told {
                tracing::debug!(%error, check = %id, "write how a check is; it is tried again");
            }
            // Probes that began together do not stay together.
            tokio::time::sleep(every.mul_f64(0.9 + rand::random::<f64>() / 5.0)).await;
        }
    }
}

/// One look at a service.
pub(super) async fn look(how: &Probe) -> (Status, String) {
    let looked = match how {
        Probe::Tcp(address) => connect(address)
            .await
            .map(|_| (Status::Passing, format!("TCP connect {address}: Success"))),
        Probe::Http { url, method, header, body } => ask(url, method, header, body).await,
    };
    looked.unwrap_or_else(|words| (Status::Critical, words))
}

/// A connection; never to an address that only the machine's provider answers at.
async fn connect(address: &str) -> Result<TcpStream, String> {
    let failed = |error| format!("dial tcp {address}: {error}");
    let found: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(failed)?.collect();
    let mut last = format!("dial tcp {address}: there is no such host");
    for address in found {
        if is_link_local(address.ip()) {
            last = format!("dial tcp {address}: link-local addresses are not probed");
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("dial tcp {address}: {error}"),
        }
    }
    Err(last)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// One request; a redirect is an answer like others, and not followed.
async fn ask(
    url: &str,
    method: &str,
    header: &BTreeMap<String, Vec<String>>,
    body: &str,
) -> Result<(Status, String), String> {
    let failed = |error: String| format!("{method} {url}: {error}");
    let uri: Uri = url.parse().map_err(|error| failed(format!("{error}")))?;
    let authority = uri.authority().ok_or_else(|| failed("there is no host".to_owned()))?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let stream = connect(&format!("{}:{port}", authority.host())).await?;
    let hyper_failed = |error: hyper::Error| failed(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(hyper_failed)?;
    let method_read = Method::from_bytes(method.as_bytes()).map_err(|e| failed(e.to_string()))?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
    *request.method_mut() = method_read;
    *request.uri_mut() = path.parse().map_err(|error| failed(format!("{error}")))?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| failed(error.to_string()));
    request.headers_mut().insert(http::header::HOST, value(authority.as_str())?);
    let agent = HeaderValue::from_static("Consul Health Check");
    request.headers_mut().insert(http::header::USER_AGENT, agent);
    for (name, values) in header {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| failed(e.to_string()))?;
        if let Some(last) = values.last() {
            request.headers_mut().insert(name, value(last)?);
        }
    }
    let answering = async {
        let (head, body) = sender.send_request(request).await.map_err(hyper_failed)?.into_parts();
        // A body that is too long is not shown.
        let body = Limited::new(body, OUTPUT_MAX).collect().await;
        Ok::<_, String>((
            head.status,
            body.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
        ))
    };
    // A server that hangs up has often answered before.
    let (mut answering, mut driving) = (std::pin::pin!(answering), std::pin::pin!(connection));
    let mut is_open = true;
    let (status, body) = loop {
        tokio::select! {
            answer = &mut answering => break answer?,
            _ended = &mut driving, if is_open => is_open = false,
        }
    };
    let output =
        format!("HTTP {method} {url}: {status} Output: {}", String::from_utf8_lossy(&body));
    Ok((meaning(status), output))
}

/// What an HTTP status says of a service, as in Consul.
fn meaning(status: StatusCode) -> Status {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Status::Warning,
        status if status.is_success() => Status::Passing,
        _ => Status::Critical,
    }
}
