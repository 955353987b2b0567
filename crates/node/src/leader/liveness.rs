//! How nodes live: gossip suspects, the leader confirms by asking the node itself, and an agent that does not
//! report is missed.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use pontoon_controllers::{Liveness, is_written_off};
use pontoon_gossip::{Member, Status};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Leader;
use crate::config::NODE_PORT;
use crate::identity::node_dns_name;
use crate::tls::{ALPN_HTTP1, Tls};

/// How often everything is judged anew, whether or not gossip had news.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// How long a node that gossip has given up may take to answer the last question.
const LAST_QUESTION: Duration = Duration::from_millis(300);
/// The same for a machine whose daemon is known to be down: it is asked every second, and one lost packet,
/// which the kernel sends again after a second, must not cost it its pods.
const PATIENT_QUESTION: Duration = Duration::from_millis(1_500);
/// A leader that has just begun has not heard from all nodes yet: one that gossip does not know counts as
/// alive for this long.
const UNKNOWN_GRACE: Duration = Duration::from_secs(10);
/// An agent whose heartbeat has not moved for so long is missed. It is written once a minute at least.
const SILENT_AFTER: Duration = Duration::from_secs(90);

/// Judges until the token ends it.
pub(super) async fn run(mut leader: Leader, stop: CancellationToken) {
    let began = Instant::now();
    let mut heartbeats = Heartbeats::default();
    let mut tick = tokio::time::interval(JUDGE_EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            changed = leader.members.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
        let members = leader.members.borrow_and_update().clone();
        let nodes = nodes(&leader);
        heartbeats.hear(&nodes, Instant::now());
        tokio::select! {
            () = judge(&leader, &nodes, &members, (&heartbeats, began)) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// What is known of a node before it is judged.
struct Known {
    name: String,
    liveness: Option<Liveness>,
    is_written_off: bool,
    heartbeat: Option<Timestamp>,
    /// As it last reported it.
    address: Option<IpAddr>,
}

fn nodes(leader: &Leader) -> Vec<Known> {
    let cache = leader.view.read();
    let known = |node: &std::sync::Arc<Node>| {
        let name = node.metadata.name.clone()?;
        let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        Some(Known {
            liveness: cache.liveness(&name),
            is_written_off: is_written_off(node),
            address: internal_ip(node),
            heartbeat: conditions.filter_map(|c| Some(c.last_heartbeat_time.as_ref()?.0)).max(),
            name,
        })
    };
    cache.list::<Node>(None).filter_map(known).collect()
}

fn internal_ip(node: &Node) -> Option<IpAddr> {
    let mut addresses = node.status.as_ref()?.addresses.as_ref()?.iter();
    addresses.find(|a| a.type_ == "InternalIP")?.address.parse().ok()
}

async fn judge(
    leader: &Leader,
    nodes: &[Known],
    members: &[Member],
    (heartbeats, began): (&Heartbeats, Instant),
) {
    let by_name: BTreeMap<&str, &Member> = members.iter().map(|m| (m.name.as_str(), m)).collect();
    let mut questions = JoinSet::new();
    for node in nodes {
        let member = by_name.get(node.name.as_str());
        match (member.map(|member| member.status), member.map(|m| m.address.ip()).or(node.address))
        {
            (Some(Status::Alive | Status::Suspect), _) => {
                let is_silent = heartbeats.is_silent(&node.name, Instant::now());
                let liveness = if is_silent { Liveness::AgentSilent } else { Liveness::Alive };
                set(leader, &node.name, liveness);
            }
            (None, _) if began.elapsed() < UNKNOWN_GRACE => {
                set(leader, &node.name, Liveness::Alive);
            }
            // One that left has taken its object with it. Whose object is still there did not leave in order, or
            // did not say so itself: every node has gossip's key.
            (_, Some(address)) => {
                let (tls, name) = (leader.tls.clone(), node.name.clone());
                let address = SocketAddr::new(address, NODE_PORT);
                let was_down = node.liveness == Some(Liveness::DaemonDown);
                let patience = if was_down { PATIENT_QUESTION } else { LAST_QUESTION };
                let is_gone = node.liveness == Some(Liveness::Lost) || node.is_written_off;
                questions.spawn(async move {
                    let answer = ask(&tls, address, &name, patience).await;
                    // The machine of a lost node was started anew: its containers are as lost as before.
                    let is_bare = is_gone && answer == Liveness::DaemonDown;
                    (name, if is_bare { Liveness::Lost } else { answer })
                });
            }
            (_, None) => set(leader, &node.name, Liveness::Lost),
        }
    }
    while let Some(answered) = questions.join_next().await {
        if let Ok((node, liveness)) = answered {
            set(leader, &node, liveness);
        }
    }
}

/// The last question to a node whose daemon gossip has given up. A machine that refuses, or accepts and says
/// nothing, is there without a daemon that answers; silence, or somebody else at its address, is its death.
async fn ask(tls: &Tls, address: SocketAddr, node: &str, patience: Duration) -> Liveness {
    match timeout(patience, TcpStream::connect(address)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            return Liveness::DaemonDown;
        }
        Ok(Err(_)) | Err(_) => return Liveness::Lost,
    }
    let name = node_dns_name(node);
    match timeout(LAST_QUESTION, tls.connect(address, &name, ALPN_HTTP1)).await {
        Ok(Ok(_)) => Liveness::Alive,
        // It has shown a certificate that is not this node's.
        Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => Liveness::Lost,
        Ok(Err(_)) | Err(_) => Liveness::DaemonDown,
    }
}

fn set(leader: &Leader, node: &str, liveness: Liveness) {
    leader.view.change(|cache| {
        if cache.liveness(node) == Some(liveness) {
            return None;
        }
        match liveness {
            Liveness::Alive => {}
            Liveness::AgentSilent => tracing::warn!(node, "the node's agent does not report"),
            Liveness::DaemonDown => tracing::warn!(node, "the node's daemon is down"),
            Liveness::Lost => tracing::warn!(node, "the node is lost"),
        }
        cache.set_liveness(node, liveness)
    });
}

/// When each node's heartbeat was seen to move, on our own clock: the node's may be wrong.
#[derive(Default)]
struct Heartbeats(BTreeMap<String, (Option<Timestamp>, Instant)>);

impl Heartbeats {
    fn hear(&mut self, nodes: &[Known], now: Instant) {
        let mut heard = BTreeMap::new();
        for node in nodes {
            // Whose daemon was away gets the whole time again to report.
            let is_away = matches!(node.liveness, Some(Liveness::DaemonDown | Liveness::Lost));
            let moved = match self.0.get(&node.name) {
                Some((heartbeat, moved)) if *heartbeat == node.heartbeat && !is_away => *moved,
                _ => now,
            };
            heard.insert(node.name.clone(), (node.heartbeat, moved));
        }
        self.0 = heard;
    }

    fn is_silent(&self, node: &str, now: Instant) -> bool {
        self.0.get(node).is_some_and(|(_, moved)| now.duration_since(*moved) > SILENT_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(heartbeat: i64, liveness: Option<Liveness>) -> [Known; 1] {
        let heartbeat = Timestamp::from_second(heartbeat).ok();
        [Known { name: "n".to_owned(), liveness, is_written_off: false, heartbeat, address: None }]
    }

    #[test]
    fn an_agent_is_missed_when_its_heartbeat_stands_still() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut heartbeats = Heartbeats::default();
        heartbeats.hear(&node(7, None), at(0));
        heartbeats.hear(&node(7, None), at(90));
        assert!(!heartbeats.is_silent("n", at(90)));
        assert!(heartbeats.is_silent("n", at(91)));
        heartbeats.hear(&node(5, None), at(91));
        assert!(!heartbeats.is_silent("n", at(91)), "also when its clock was set back");
        heartbeats.hear(&node(5, Some(Liveness::DaemonDown)), at(200));
        assert!(!heartbeats.is_silent("n", at(201)), "it was away");
        heartbeats.hear(&[], at(300));
        assert!(!heartbeats.is_silent("n", at(300)), "it is forgotten");
    }
}
