//! The node's own API on port 10250: logs and exec for managers, image blobs for the cluster's nodes.
//! Nobody is let in without a certificate of the cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::Member;
use crate::config::NODE_PORT;
use crate::identity::Role;
use crate::identity::certificate::Peer;
use crate::images::Images;
use crate::listen;
use crate::rpc::{Body, Refusal};
use crate::tls::{ALPN_H2, ALPN_HTTP1};

/// Where the node's API listens.
pub(super) fn address(advertise: IpAddr) -> SocketAddr {
    SocketAddr::new(super::any(advertise), NODE_PORT)
}

/// Serves until the member stops.
pub(super) async fn run(member: Member, images: Images, listener: TcpListener) {
    let (tls, stop) = (member.inner.tls.clone(), member.inner.stop.clone());
    let images = Arc::new(images);
    listen::tls(listener, tls, &[ALPN_HTTP1, ALPN_H2], stop, move |stream, peer| {
        let (member, images) = (member.clone(), images.clone());
        let peer = Arc::new(peer);
        listen::http(stream, move |request| {
            answer(member.clone(), images.clone(), peer.clone(), request)
        })
    })
    .await;
}

async fn answer(
    member: Member,
    images: Arc<Images>,
    peer: Arc<Option<Peer>>,
    request: Request<Incoming>,
) -> Response<Body> {
    let role = peer.as_ref().as_ref().and_then(|peer| peer.role);
    let is_for_nodes = request.uri().path().starts_with("/images/");
    match role {
        Some(_) if is_for_nodes && !peer.as_ref().as_ref().is_some_and(|p| member.knows(p)) => {
            Refusal::forbidden("this node knows of no such node").into_response()
        }
        Some(_) if is_for_nodes => images.serve(&request).await,
        Some(Role::Manager) if !peer.as_ref().as_ref().is_some_and(|p| member.knows_manager(p)) => {
            Refusal::forbidden("this node knows of no such manager").into_response()
        }
        Some(Role::Manager) => pontoon_agent::api::handle(&member.inner.agent, request).await,
        Some(Role::Worker) => {
            Refusal::forbidden("only managers may ask a node for logs and exec").into_response()
        }
        None => {
            Refusal::forbidden("this needs a certificate of the cluster's managers").into_response()
        }
    }
}
