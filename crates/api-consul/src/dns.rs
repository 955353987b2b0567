//! Consul's DNS: nodes, services, prepared queries and addresses by name, and names by address.
//!
//! `feed` makes a table of what the catalog has whenever that changes; an answer is a look-up in the newest table and
//! waits for nothing. DNS sees what the anonymous token may see.

mod answer;
mod feed;
mod fit;
mod name;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use pontoon_traffic::dns::request::{self, Unanswerable};
use pontoon_traffic::dns::{DnsServer, Respond, Response, ServeError, Transport};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::server::ConsulServer;
use feed::Feed;
use fit::{Room, encode};
use name::Zone;
use table::Table;

/// The domain that Consul answers for unless it is told another.
pub const DOMAIN: &str = "consul";

/// Why DNS is not served.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The domain or the datacenter cannot be a part of a name.
    #[error("serving DNS for {domain:?} in datacenter {datacenter:?}: these make no domain name")]
    Domain { domain: String, datacenter: String },
    /// The addresses cannot be had.
    #[error(transparent)]
    Bind(#[from] ServeError),
}

/// Consul's DNS, bound to its addresses.
pub struct ConsulDns {
    server: DnsServer<Names>,
    feed: Feed,
}

impl ConsulDns {
    /// Binds UDP and TCP to each address, to answer for `domain`.
    pub async fn bind(
        server: &ConsulServer,
        domain: &str,
        addresses: &[SocketAddr],
    ) -> Result<ConsulDns, DnsError> {
        let datacenter = server.inner.settings.datacenter.clone();
        let zone = Zone::new(domain, &datacenter)
            .ok_or(DnsError::Domain { domain: domain.to_owned(), datacenter })?;
        let zone = Arc::new(zone);
        let (sender, table) = watch::channel(None);
        let names = Arc::new(Names { zone: Arc::clone(&zone), table });
        let bound = DnsServer::bind(addresses, names).await?;
        Ok(ConsulDns { server: bound, feed: Feed::new(server.clone(), zone, sender) })
    }

    /// The addresses that were bound.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.server.addresses()
    }

    /// Answers until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let fed = shutdown.run_until_cancelled(self.feed.follow());
        tokio::join!(self.server.run(shutdown.clone()), fed);
    }
}

/// Answers from the newest table; a failure until there is one.
struct Names {
    zone: Arc<Zone>,
    table: watch::Receiver<Option<Arc<Table>>>,
}

impl Respond for Names {
    fn respond(self: &Arc<Self>, packet: &[u8], transport: Transport) -> Response {
        let request = match request::receive(packet) {
            Ok(request) => request,
            Err(why) => return unanswered(why),
        };
        let query = match request::question(&request) {
            Ok(query) => query,
            Err(why) => return unanswered(why),
        };
        let room = Room::of(&request, transport);
        let table = self.table.borrow().clone();
        let draft = match &table {
            Some(table) => answer::answer(table, &self.zone, &request, query, &room),
            None => answer::failed(&request, ResponseCode::ServFail),
        };
        encode(draft, &room).map_or(Response::Nothing, Response::Now)
    }
}

fn unanswered(why: Unanswerable) -> Response {
    match why {
        Unanswerable::Ignore => Response::Nothing,
        Unanswerable::Refuse(reply) => reply.to_vec().map_or(Response::Nothing, Response::Now),
    }
}
