//! Images between nodes: a node asks the others for what it lacks, by digest, over mutual TLS, and serves
//! what it has.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use pontoon_agent::ImageSource;
use pontoon_gossip::{Member, Status};
use pontoon_image::{
    BlobSource, Digest, Image, ImageError, ImageStore, Progress, Reference, RegistryConfig,
};
use tokio::io::AsyncRead;
use tokio::sync::watch;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::config::NODE_PORT;
use crate::identity::node_dns_name;
use crate::rpc::{Body, Refusal, full};
use crate::tls::{ALPN_HTTP1, Tls};

/// Nodes asked for an image before its registry is.
const NODES_ASKED_MAX: usize = 16;
/// How long another node may send nothing before somebody else is asked.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The largest manifest that is taken from another node.
const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// Where images come from: this node, other nodes, registries, in that order.
#[derive(Clone)]
pub struct Images {
    pub store: ImageStore,
    pub registries: Arc<RegistryConfig>,
    /// The others, once this node is a member of a cluster.
    pub peers: Option<Peers>,
}

/// The other nodes of the cluster.
#[derive(Clone)]
pub struct Peers {
    pub node: String,
    pub tls: Tls,
    pub members: watch::Receiver<Arc<Vec<Member>>>,
}

impl Images {
    async fn pull(&self, reference: &Reference) -> Result<Arc<Image>, ImageError> {
        self.store.pull(reference, &self.registries, Progress::none()).await
    }

    async fn ask_peers(&self, reference: &Reference) -> Option<Arc<Image>> {
        let peers = self.peers.as_ref()?;
        let members = peers.members.borrow().clone();
        let alive = members.iter().filter(|m| m.status == Status::Alive && m.name != peers.node);
        for member in alive.take(NODES_ASKED_MAX) {
            let source =
                Peer { tls: peers.tls.clone(), name: member.name.clone(), address: member.address };
            match self.store.fetch(reference, &source, Progress::none()).await {
                Ok(image) => return Some(image),
                Err(error) => {
                    tracing::debug!(node = member.name, %error, "fetch {reference} from a node")
                }
            }
        }
        None
    }

    /// Answers another node's request for a manifest or a blob.
    pub async fn serve(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let answered = if path == "/images/manifest" {
            self.serve_manifest(request.uri().query().unwrap_or_default()).await
        } else if let Some(digest) = path.strip_prefix("/images/blob/") {
            self.serve_blob(digest).await
        } else {
            Err(Refusal::not_found("there is no such request"))
        };
        answered.unwrap_or_else(Refusal::into_response)
    }

    async fn serve_manifest(&self, query: &str) -> Result<Response<Body>, Refusal> {
        let name = query.strip_prefix("reference=").unwrap_or_default();
        let name = crate::admin::query::decode(name);
        let reference: Reference =
            name.parse().map_err(|_| Refusal::bad_request("no image name"))?;
        let manifest = self.store.export_manifest(&reference).await;
        let manifest = manifest.map_err(|e| Refusal::not_found(crate::rpc::chain(&e)))?;
        Ok(Response::new(full(manifest)))
    }

    async fn serve_blob(&self, digest: &str) -> Result<Response<Body>, Refusal> {
        let digest: Digest = digest.parse().map_err(|_| Refusal::bad_request("no digest"))?;
        let opened = self.store.open_blob(&digest).await;
        let (file, _) = opened.map_err(|e| Refusal::not_found(crate::rpc::chain(&e)))?;
        let stream = ReaderStream::with_capacity(file, 256 << 10).map_ok(Frame::data);
        Ok(Response::new(BodyExt::boxed_unsync(StreamBody::new(stream))))
    }
}

#[async_trait]
impl ImageSource for Images {
    async fn fetch(&self, reference: &Reference, fresh: bool) -> Result<Arc<Image>, ImageError> {
        if fresh && reference.registry().is_some() {
            return match self.pull(reference).await {
                Ok(image) => Ok(image),
                Err(error) => self.ask_peers(reference).await.ok_or(error),
            };
        }
        // What no registry has was loaded or imported on some node: this one, or another.
        if let Some(image) = self.store.get(reference) {
            return Ok(image);
        }
        match self.ask_peers(reference).await {
            Some(image) => Ok(image),
            None => self.pull(reference).await,
        }
    }
}

/// The stream, ended by an error when nothing comes for long: a node that lost its power says no goodbye.
fn lively<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    stream: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures::stream::try_unfold(stream, |mut stream| async move {
        let next = tokio::time::timeout(SILENCE_MAX, stream.next()).await?;
        let next = next.transpose().map_err(io::Error::other)?;
        Ok(next.map(|bytes| (bytes, stream)))
    })
}

/// One other node as a source of blobs.
struct Peer {
    tls: Tls,
    name: String,
    address: SocketAddr,
}

impl Peer {
    async fn get(&self, path: &str) -> io::Result<Response<Incoming>> {
        let address = SocketAddr::new(self.address.ip(), NODE_PORT);
        let stream = self.tls.connect(address, &node_dns_name(&self.name), ALPN_HTTP1).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Ends when the answer's body does.
        tokio::spawn(connection);
        let request = Request::builder()
            .uri(path)
            .header(http::header::HOST, &self.name)
            .body(full(""))
            .map_err(io::Error::other)?;
        let answer = tokio::time::timeout(SILENCE_MAX, sender.send_request(request)).await?;
        answer.map_err(io::Error::other)
    }
}

#[async_trait]
impl BlobSource for Peer {
    async fn manifest(&self, reference: &Reference) -> io::Result<Option<Bytes>> {
        let name = crate::admin::query::encode(&reference.to_string());
        let response = self.get(&format!("/images/manifest?reference={name}")).await?;
        match response.status() {
            StatusCode::OK => {
                let body = Limited::new(response.into_body(), MANIFEST_BYTES_MAX).collect();
                let body = tokio::time::timeout(SILENCE_MAX, body).await?;
                Ok(Some(body.map_err(io::Error::other)?.to_bytes()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(io::Error::other(format!("{} answered {status}", self.name))),
        }
    }

    async fn blob(&self, digest: &Digest) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let response = self.get(&format!("/images/blob/{digest}")).await?;
        if response.status() != StatusCode::OK {
            return Err(io::Error::other(format!("{} answered {}", self.name, response.status())));
        }
        Ok(Box::new(StreamReader::new(Box::pin(lively(response.into_body().into_data_stream())))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_blob_that_stops_coming_is_an_error() {
        let come = [Ok::<_, io::Error>(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"b"))];
        let stream = Box::pin(futures::stream::iter(come).chain(futures::stream::pending()));
        let all: Vec<io::Result<Bytes>> = lively(stream).collect().await;
        let kinds: Vec<Result<usize, io::ErrorKind>> =
            all.into_iter().map(|r| r.map(|b| b.len()).map_err(|e| e.kind())).collect();
        assert_eq!(kinds, [Ok(1), Ok(1), Err(io::ErrorKind::TimedOut)]);
    }
}
