//! The overlay's door: a frame from a machine that is no node reaches no pod.

use crate::world::{Node, OUTSIDE, Pod, TABLE, World, can_run, udp};
use crate::{OverlayGuard, mac};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

/// A VXLAN frame of network 1 for a node's device: a datagram from one pod to another.
fn frame(to: &Node, from: SocketAddrV4, target: SocketAddrV4, text: &str) -> Vec<u8> {
    let length = |header: usize| u16::try_from(header + text.len()).unwrap().to_be_bytes();
    let mut ip = [&[0x45, 0][..], &length(28), &[0, 0, 0, 0, 64, 17, 0, 0]].concat();
    ip.extend(from.ip().octets());
    ip.extend(target.ip().octets());
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut out = vec![8, 0, 0, 0, 0, 0, 1, 0];
    out.extend(mac::of(to.subnet.network()));
    out.extend([2, 0, 0, 0, 0, 1, 8, 0]);
    out.extend(ip);
    out.extend(
        [from.port().to_be_bytes(), target.port().to_be_bytes(), length(8), [0, 0]].concat(),
    );
    out.extend(text.as_bytes());
    out
}

/// A stranger speaks in the name of a pod; answers what that pod hears of it before its own next answer.
fn speak(world: &World, own: &UdpSocket, pod: &Pod, text: &str) -> Vec<String> {
    let node = &world.nodes[0];
    let std::net::SocketAddr::V4(port) = own.local_addr().unwrap() else { unreachable!() };
    let bytes = frame(node, port, pod.target(), text);
    udp(&world.outside, SocketAddrV4::new(node.underlay, 4789)).send(&bytes).unwrap();
    own.send(b"own").unwrap();
    let mut heard = Vec::new();
    let mut bytes = [0; 128];
    while heard.iter().all(|words: &String| !words.ends_with("own")) {
        let length = own.recv(&mut bytes).unwrap();
        heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    heard
}

#[tokio::test]
async fn frames_from_strangers_reach_no_pod() {
    if !can_run() {
        return;
    }
    let world = World::new(2).await;
    let (pod, asker) = (world.nodes[0].pod(2).await, world.nodes[1].pod(2).await);
    let own = udp(&asker.netns, pod.target());
    own.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let said = |text: &str| format!("{} {} {text}", pod.name, asker.address);
    assert_eq!(speak(&world, &own, &pod, "open"), [said("open"), said("own")], "unguarded");
    let make = || OverlayGuard::new(&format!("{TABLE}-overlay"), 4789).unwrap();
    let guard = world.nodes[0].netns.run(make).unwrap();
    let other = world.nodes[1].underlay;
    let admit = |nodes: &[Ipv4Addr]| guard.admit(nodes.iter().copied().collect::<BTreeSet<_>>());
    admit(&[other]).await.unwrap();
    assert_eq!(speak(&world, &own, &pod, "guarded"), [said("own")]);
    admit(&[other, OUTSIDE]).await.unwrap();
    assert_eq!(speak(&world, &own, &pod, "met"), [said("met"), said("own")]);
    admit(&[other]).await.unwrap();
    assert_eq!(speak(&world, &own, &pod, "forgotten"), [said("own")]);
    // Other ports are nobody's business here.
    let server = crate::world::Server::start(&world.nodes[0].netns, "node");
    let to = SocketAddrV4::new(world.nodes[0].underlay, crate::world::PORT);
    assert_eq!(crate::world::ask(&world.outside, to).unwrap(), format!("node {OUTSIDE}"));
    assert!(guard.remove().await.unwrap());
    assert!(!guard.remove().await.unwrap());
    assert_eq!(speak(&world, &own, &pod, "gone"), [said("gone"), said("own")]);
    drop(server);
}
