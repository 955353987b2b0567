//! Over real sockets on loopback.

use std::net::Ipv4Addr;

use tokio::net::UdpSocket;

use super::*;
use crate::config::Profile;
use crate::member::Status;

async fn start(name: &str, key: u8) -> (Gossip, CancellationToken) {
    let shutdown = CancellationToken::new();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = GossipConfig {
        name: name.into(),
        advertise: loopback,
        bind: loopback,
        key: [key; 32],
        meta: Meta { role: "worker".into(), ..Meta::default() },
        profile: Profile::Lan,
    };
    (Gossip::start(config, shutdown.clone()).await.unwrap(), shutdown)
}

/// Waits for it, however long that takes.
async fn until(gossip: &Gossip, done: impl Fn(&[Member]) -> bool) {
    gossip.members().wait_for(|members| done(members)).await.unwrap();
}

fn is(members: &[Member], name: &str, status: Status) -> bool {
    members.iter().any(|member| member.name == name && member.status == status)
}

#[tokio::test]
async fn three_nodes_find_each_other_and_see_one_die_and_one_leave() {
    let (a, stop_a) = start("a", 1).await;
    let (b, stop_b) = start("b", 1).await;
    let (c, stop_c) = start("c", 1).await;
    let seed = [a.local_addr()];
    assert_eq!(b.join(&seed).await.unwrap(), 1);
    assert_eq!(c.join(&seed).await.unwrap(), 1);
    for gossip in [&a, &b, &c] {
        until(gossip, |m| ["a", "b", "c"].iter().all(|name| is(m, name, Status::Alive))).await;
    }
    b.set_meta(Meta { role: "manager".into(), ..Meta::default() }).await.unwrap();
    until(&c, |m| m.iter().any(|member| member.meta.role == "manager")).await;

    c.leave().await.unwrap();
    stop_c.cancel();
    for gossip in [&a, &b] {
        until(gossip, |m| is(m, "c", Status::Left)).await;
    }
    stop_b.cancel();
    until(&a, |m| is(m, "b", Status::Failed)).await;
    a.force_leave("b").await.unwrap();
    until(&a, |m| is(m, "b", Status::Left)).await;
    assert!(matches!(a.force_leave("nobody").await, Err(GossipError::UnknownMember(_))));
    stop_a.cancel();
    assert!(matches!(stopped(&a).await, GossipError::Stopped));
}

/// The first answer after the end: commands already queued may still be taken.
async fn stopped(gossip: &Gossip) -> GossipError {
    loop {
        if let Err(error) = gossip.set_meta(Meta::default()).await {
            return error;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_has_another_key_is_not_heard() {
    let (a, stop_a) = start("a", 1).await;
    let (b, stop_b) = start("b", 2).await;
    assert_eq!(b.join(&[a.local_addr()]).await.unwrap(), 0);
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    stranger.send_to(&[1; 900], a.local_addr()).await.unwrap();
    stranger.send_to(&[], a.local_addr()).await.unwrap();
    assert_eq!(a.join(&[a.local_addr()]).await.unwrap(), 0, "nor is it its own seed");
    assert_eq!(a.members().borrow().len(), 1);
    stop_a.cancel();
    stop_b.cancel();
}

#[tokio::test]
async fn a_taken_port_and_bad_configuration_are_told() {
    let (a, stop) = start("a", 1).await;
    let config = GossipConfig {
        name: "b".into(),
        advertise: a.local_addr(),
        bind: a.local_addr(),
        key: [1; 32],
        meta: Meta::default(),
        profile: Profile::Wan,
    };
    let taken = Gossip::start(config.clone(), stop.clone()).await;
    assert!(matches!(taken, Err(GossipError::Bind { .. })));
    let nameless = GossipConfig { name: String::new(), ..config.clone() };
    assert!(matches!(Gossip::start(nameless, stop.clone()).await, Err(GossipError::Config(_))));
    let meta = Meta { role: "x".repeat(600), ..Meta::default() };
    let wordy = GossipConfig { meta, ..config };
    assert!(matches!(Gossip::start(wordy, stop.clone()).await, Err(GossipError::Config(_))));
    stop.cancel();
}
