//! Images between nodes: a node asks the others for what it lacks, by digest, over mutual TLS, and serves
//! what it has. Only nodes that the managers told of take part, and only managers are believed which image a tag is.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
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
    BlobSource, Digest, Image, ImageError, ImageStore, Keychain, Progress, Reference,
    RegistryConfig, builtin,
};
use tokio::io::AsyncRead;
use tokio::sync::watch;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::config::NODE_PORT;
use crate::identity::{certificate, node_dns_name};
use crate::known::{Known, KnownNode};
use crate::rpc::{Body, Refusal, full};
use crate::tls::{ALPN_HTTP1, Tls};

/// What the built-in image is made from.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";
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
    /// The nodes that belong to the cluster.
    pub known: watch::Receiver<Arc<Known>>,
}

impl Peers {
    /// The nodes that live and belong to the cluster, managers first.
    fn reachable(&self) -> Vec<Peer> {
        let known = self.known.borrow().clone();
        let members = self.members.borrow().clone();
        let alive = members.iter().filter(|m| m.status == Status::Alive && m.name != self.node);
        let peer = |member: &Member| {
            let (node, is_manager) = known.named(&member.name)?;
            let address = SocketAddr::new(member.address.ip(), NODE_PORT);
            Some(Peer { tls: self.tls.clone(), node: node.clone(), is_manager, address })
        };
        let mut peers: Vec<Peer> = alive.filter_map(peer).collect();
        peers.sort_by_key(|peer| !peer.is_manager);
        peers.truncate(NODES_ASKED_MAX);
        peers
    }
}

impl Images {
    /// Pulls an image; its registry is shown these credentials.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses, or the image is none for this node.
    pub async fn pull(
        &self,
        reference: &Reference,
        keychain: &Keychain,
        progress: Progress,
    ) -> Result<Arc<Image>, ImageError> {
        if reference.registry() == Some(builtin::REGISTRY) {
            return builtin::find(&self.store, Path::new(OWN_PROGRAM), reference).await;
        }
        let mut registries = RegistryConfig::clone(&self.registries);
        registries.keychain.extend(keychain.clone());
        self.store.pull(reference, &registries, progress).await
    }

    /// An image that another node has.
    async fn ask_peers(&self, reference: &Reference) -> Option<Arc<Image>> {
        // Every node has its own.
        if reference.registry() == Some(builtin::REGISTRY) {
            return None;
        }
        let peers = self.peers.as_ref()?.reachable();
        if reference.digest().is_some() {
            return self.fetch_from(reference, peers).await;
        }
        // Which image a tag stands for nobody can check: a node that runs pods could name its own as anything.
        let mut manifest = None;
        for manager in peers.iter().filter(|peer| peer.is_manager) {
            match manager.manifest(reference).await {
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    manifest = Some(bytes);
                    break;
                }
                Err(error) => {
                    tracing::debug!(node = manager.node.name, %error, "ask what {reference} is");
                }
            }
        }
        let manifest = manifest?;
        let given = |peer| Given { manifest: manifest.clone(), peer };
        self.fetch_from(reference, peers.into_iter().map(given)).await
    }

    /// The image from the first of these that has it all.
    async fn fetch_from<S: BlobSource>(
        &self,
        reference: &Reference,
        sources: impl IntoIterator<Item = S>,
    ) -> Option<Arc<Image>> {
        for source in sources {
            match self.store.fetch(reference, &source, Progress::none()).await {
                Ok(image) => return Some(image),
                Err(error) => tracing::debug!(%error, "fetch {reference} from a node"),
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
    async fn fetch(
        &self,
        reference: &Reference,
        fresh: bool,
        keychain: &Keychain,
    ) -> Result<Arc<Image>, ImageError> {
        if fresh && reference.registry().is_some() {
            return match self.pull(reference, keychain, Progress::none()).await {
                // Another node may have fetched it with the credentials of another pod.
                Err(error) if error.is_refusal() => Err(error),
                Err(error) => self.ask_peers(reference).await.ok_or(error),
                pulled => pulled,
            };
        }
        // What no registry has was loaded or imported on some node: this one, or another.
        if let Some(image) = self.store.get(reference) {
            return Ok(image);
        }
        match self.ask_peers(reference).await {
            Some(image) => Ok(image),
            None => self.pull(reference, keychain, Progress::none()).await,
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
    node: KnownNode,
    is_manager: bool,
    address: SocketAddr,
}

impl Peer {
    async fn get(&self, path: &str) -> io::Result<Response<Incoming>> {
        let name = &self.node.name;
        let stream = self.tls.connect(self.address, &node_dns_name(name), ALPN_HTTP1).await?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let who = leaf.map(certificate::Peer::of).transpose().map_err(io::Error::other)?;
        if !who.is_some_and(|who| self.node.is_of(&who)) {
            let words = format!("{name} is not the node of that name that the cluster has now");
            return Err(io::Error::other(words));
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Ends when the answer's body does.
        tokio::spawn(connection);
        let request = Request::builder()
            .uri(path)
            .header(http::header::HOST, name)
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
            status => Err(io::Error::other(format!("{} answered {status}", self.node.name))),
        }
    }

    async fn blob(&self, digest: &Digest) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let response = self.get(&format!("/images/blob/{digest}")).await?;
        if response.status() != StatusCode::OK {
            return Err(io::Error::other(format!(
                "{} answered {}",
                self.node.name,
                response.status()
            )));
        }
        Ok(Box::new(StreamReader::new(Box::pin(lively(response.into_body().into_data_stream())))))
    }
}

/// A node as a source of blobs for a manifest that is known already.
struct Given {
    manifest: Bytes,
    peer: Peer,
}

#[async_trait]
impl BlobSource for Given {
    async fn manifest(&self, _: &Reference) -> io::Result<Option<Bytes>> {
        Ok(Some(self.manifest.clone()))
    }

    async fn blob(&self, digest: &Digest) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        self.peer.blob(digest).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;
    use crate::identity::authority::{Authority, Subject};
    use crate::identity::certificate::{Credentials, Request};
    use pontoon_image::ImportChanges;
    use std::net::Ipv4Addr;
    use tokio_util::sync::CancellationToken;

    fn tls(authority: &Authority, name: &str, member: u64) -> Tls {
        let request = Request::create().unwrap();
        let (role, address) = (Role::Worker, "127.0.0.1".parse().unwrap());
        let subject = Subject::Node {
            name,
            member,
            role,
            address,
            service: Ipv4Addr::new(10, 96, 0, 1),
            cluster: "c1",
        };
        let certificate_pem = authority.sign(&request.request_pem, &subject).unwrap();
        let authority_pem = authority.certificate_pem.clone();
        Tls::new(Credentials { certificate_pem, key_pem: request.key_pem, authority_pem }).unwrap()
    }

    fn images(dir: &Path) -> Images {
        let store = ImageStore::open(dir).unwrap();
        Images { store, registries: Arc::default(), peers: None }
    }

    #[tokio::test]
    async fn a_node_is_asked_only_as_the_one_that_the_cluster_has() {
        drop(rustls::crypto::CryptoProvider::install_default(
            crate::tls::provider().as_ref().clone(),
        ));
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (images(&dir.path().join("a")), images(&dir.path().join("b")));
        let reference: Reference = "box:1".parse().unwrap();
        // The end of an empty archive.
        let tar = io::Cursor::new(vec![0; 1024]);
        let (changes, none) = (ImportChanges::default(), Progress::none());
        let image = there.store.import(tar, &reference, changes, none).await.unwrap();
        let authority = Authority::create("c1").unwrap();
        let listener = crate::listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, serving) = (CancellationToken::new(), Arc::new(there));
        let _stop = stop.clone().drop_guard();
        let server = tls(&authority, "n2", 5);
        tokio::spawn(crate::listen::tls(
            listener,
            server,
            &[ALPN_HTTP1],
            stop,
            move |stream, _| {
                let serving = serving.clone();
                crate::listen::http(stream, move |request| {
                    let serving = serving.clone();
                    async move { serving.serve(&request).await }
                })
            },
        ));
        let client = tls(&authority, "n1", 4);
        let peer = |member| {
            let node = KnownNode { name: "n2".to_owned(), member };
            Peer { tls: client.clone(), node, is_manager: false, address }
        };
        let refused = peer(6).manifest(&reference).await.unwrap_err();
        assert!(refused.to_string().contains("that the cluster has now"), "{refused}");
        let manifest = peer(5).manifest(&reference).await.unwrap().unwrap();
        // By digest from anybody, though it calls it by another name.
        let given = Given { manifest, peer: peer(5) };
        let name: Reference = "box:2".parse().unwrap();
        let fetched = here.fetch_from(&name, [given]).await.unwrap();
        assert_eq!((fetched.digest, &fetched.reference), (image.digest, &name));
    }

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
