//! The answers of a node's name server: the newest zone's, and of the upstream servers for every other name.

use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use tokio::sync::{Semaphore, watch};
use tracing::debug;

use super::answer::{Outcome, Rotation, answer, encode, failure};
use super::request::{UNFRAGMENTED_BYTES, Unanswerable, receive, udp_limit};
use super::server::{Respond, Response, Transport};
use super::upstream::Upstream;
use super::zone::Zone;

/// Questions on their way to the upstream servers at one time.
const MOST_FORWARDED: usize = 512;
/// What goes through TCP.
const WHOLE_BYTES: usize = u16::MAX as usize;

/// Answers for the cluster's domain, and passes on what is not in it.
pub struct Resolver {
    zone: watch::Receiver<Arc<Zone>>,
    upstream: Upstream,
    rotation: Rotation,
    forwarded: Arc<Semaphore>,
}

/// What the upstream servers are asked for.
enum Asked {
    Whole,
    Target(Box<Message>, Name),
}

impl Resolver {
    /// One that reads the zone anew for each question.
    pub fn new(zone: watch::Receiver<Arc<Zone>>, upstream: Upstream) -> Self {
        let forwarded = Arc::new(Semaphore::new(MOST_FORWARDED));
        Self { zone, upstream, rotation: Rotation::default(), forwarded }
    }

    /// Asks upstream, unless too many wait for that already: then a UDP client is told at once, and a TCP client,
    /// whose connection is counted, waits.
    fn ask(
        self: &Arc<Self>,
        packet: &[u8],
        request: Message,
        asked: Asked,
        transport: Transport,
    ) -> Response {
        let (own, packet) = (Arc::clone(self), packet.to_vec());
        let forwarded = self.forwarded.clone();
        match transport {
            Transport::Udp => match forwarded.try_acquire_owned() {
                Ok(permit) => Response::Later(Box::pin(async move {
                    let limit = udp_limit(&request, UNFRAGMENTED_BYTES);
                    let bytes = own.answer_of_upstream(&packet, &request, asked, Some(limit)).await;
                    drop(permit);
                    bytes
                })),
                Err(_) => {
                    let limit = udp_limit(&request, UNFRAGMENTED_BYTES);
                    encode(&mut failure(&request), limit).map_or(Response::Nothing, Response::Now)
                }
            },
            Transport::Tcp => Response::Later(Box::pin(async move {
                let _permit = forwarded.acquire_owned().await.ok()?;
                own.answer_of_upstream(&packet, &request, asked, None).await
            })),
        }
    }

    /// The upstream servers' answer in bytes; `limit` is the client's when it came by UDP.
    async fn answer_of_upstream(
        &self,
        packet: &[u8],
        request: &Message,
        asked: Asked,
        limit: Option<usize>,
    ) -> Option<Vec<u8>> {
        let most = limit.unwrap_or(WHOLE_BYTES);
        let answered = match asked {
            Asked::Whole => self.upstream.forward(packet, limit.is_none()).await,
            Asked::Target(mut reply, target) => {
                let kind = request.queries.first()?.query_type();
                self.upstream.records(&target, kind).await.map(|records| {
                    reply.add_answers(records);
                    encode(&mut reply, most).unwrap_or_default()
                })
            }
        };
        match answered {
            Ok(bytes) if !bytes.is_empty() && bytes.len() <= most => Some(bytes),
            Ok(bytes) => {
                // A server that ignored the client's limit.
                let mut answer = Message::from_vec(&bytes).ok()?;
                encode(&mut answer, most)
            }
            Err(error) => {
                debug!(%error, "forwarding a DNS question");
                encode(&mut failure(request), most)
            }
        }
    }
}

impl Respond for Resolver {
    fn respond(self: &Arc<Self>, packet: &[u8], transport: Transport) -> Response {
        let send = |mut reply: Box<Message>, limit| {
            encode(&mut reply, limit).map_or(Response::Nothing, Response::Now)
        };
        let request = match receive(packet) {
            Ok(request) => request,
            Err(Unanswerable::Ignore) => return Response::Nothing,
            Err(Unanswerable::Refuse(reply)) => return send(reply, WHOLE_BYTES),
        };
        let limit = match transport {
            Transport::Udp => udp_limit(&request, UNFRAGMENTED_BYTES),
            Transport::Tcp => WHOLE_BYTES,
        };
        let zone = self.zone.borrow().clone();
        match answer(&zone, &request, &self.rotation) {
            Outcome::Reply(reply) => send(reply, limit),
            Outcome::Forward => self.ask(packet, request, Asked::Whole, transport),
            Outcome::Chase { reply, target } => {
                self.ask(packet, request, Asked::Target(reply, target), transport)
            }
            Outcome::Ignore => Response::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;
