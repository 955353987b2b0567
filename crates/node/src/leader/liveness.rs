//! Which nodes are alive: gossip suspects, the leader confirms by asking the node itself once more.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use pontoon_controllers::Liveness;
use pontoon_gossip::{Member, Status};
use pontoon_model::resource;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Leader;
use crate::config::NODE_PORT;
use crate::identity::node_dns_name;
use crate::tls::ALPN_HTTP1;

/// How often everything is judged anew, whether or not gossip had news.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// How long a node that gossip has given up may take to answer the last question.
const LAST_QUESTION: Duration = Duration::from_millis(300);
/// A leader that has just begun has not heard from all nodes yet: one that gossip does not know counts as
/// alive for this long.
const UNKNOWN_GRACE: Duration = Duration::from_secs(10);

/// Judges until the token ends it.
pub(super) async fn run(mut leader: Leader, stop: CancellationToken) {
    let began = tokio::time::Instant::now();
    let mut tick = tokio::time::interval(JUDGE_EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            changed = leader.members.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
        let members = leader.members.borrow_and_update().clone();
        tokio::select! {
            () = judge(&leader, &members, began.elapsed() < UNKNOWN_GRACE) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn judge(leader: &Leader, members: &[Member], is_young: bool) {
    let by_name: BTreeMap<&str, &Member> = members.iter().map(|m| (m.name.as_str(), m)).collect();
    let nodes: Vec<String> = {
        let cache = leader.view.read();
        cache.entries(resource::NODES, None).map(|(key, _)| key.name.clone()).collect()
    };
    let mut questions = JoinSet::new();
    for node in nodes {
        match by_name.get(node.as_str()).map(|member| member.status) {
            Some(Status::Alive | Status::Suspect) => set(leader, &node, true),
            // One that left has taken its object with it. Whose object is still there did not leave in order, or
            // did not say so itself: every node has gossip's key.
            Some(Status::Left | Status::Failed) => {
                let address = SocketAddr::new(by_name[node.as_str()].address.ip(), NODE_PORT);
                let tls = leader.tls.clone();
                questions.spawn(async move {
                    let name = node_dns_name(&node);
                    let answer = tls.connect(address, &name, ALPN_HTTP1);
                    let alive =
                        matches!(tokio::time::timeout(LAST_QUESTION, answer).await, Ok(Ok(_)));
                    (node, alive)
                });
            }
            None => set(leader, &node, is_young),
        }
    }
    while let Some(answered) = questions.join_next().await {
        if let Ok((node, alive)) = answered {
            set(leader, &node, alive);
        }
    }
}

fn set(leader: &Leader, node: &str, alive: bool) {
    leader.view.change(|cache| {
        if cache.liveness(node).is_some_and(|known| known.alive == alive) {
            return None;
        }
        if !alive {
            tracing::warn!(node, "the node is lost");
        }
        cache.set_liveness(node, Liveness { alive, since: Timestamp::now() })
    });
}
