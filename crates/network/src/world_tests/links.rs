//! Links: the overlay, attachments, partitions, and that nothing is left.

use crate::world::{OUTSIDE, Server, World, ask, can_run, exchange, udp, who};
use crate::{Bridge, Cuts, LinkKind, Masquerade, Netns, Network, Peer, Vxlan};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

#[tokio::test]
async fn pods_reach_pods_across_nodes_by_their_own_addresses() {
    if !can_run() {
        return;
    }
    let world = World::new(2).await;
    let near = world.nodes[0].pod(2).await;
    let beside = world.nodes[0].pod(3).await;
    let far = world.nodes[1].pod(2).await;
    for (from, to) in [(&near, &far), (&far, &near), (&near, &beside)] {
        assert_eq!(ask(&from.netns, to.target()).unwrap(), format!("{} {}", to.name, from.address));
    }
    assert_eq!(who(ask(&world.nodes[0].netns, far.target())), far.name);
    assert_eq!(who(ask(&world.nodes[0].netns, near.target())), near.name);
}

#[tokio::test]
async fn peers_are_changed_by_their_difference() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let network = &world.nodes[0].network;
    let peer = |number: u8, underlay: u8| Peer {
        underlay: Ipv4Addr::new(172, 30, 0, underlay),
        subnet: format!("10.244.{number}.0/24").parse().unwrap(),
    };
    let change = |peers| async { network.set_peers("vx0", peers).await.unwrap() };
    let first = change(vec![peer(2, 2), peer(3, 3)]).await;
    assert_eq!((first.added, first.removed), (2, 0));
    let again = change(vec![peer(2, 2), peer(3, 3)]).await;
    assert_eq!((again.added, again.removed), (0, 0));
    let moved = change(vec![peer(2, 2), peer(3, 30)]).await;
    assert_eq!((moved.added, moved.removed), (1, 0));
    assert_eq!(change(vec![peer(3, 30)]).await.removed, 1);
    let overlay = |routes: Vec<crate::Route>| {
        routes
            .into_iter()
            .filter(|r| r.gateway.is_some() && r.destination.prefix_len() == 24)
            .count()
    };
    assert_eq!(overlay(network.routes().await.unwrap()), 1);
    change(Vec::new()).await;
    assert_eq!(overlay(network.routes().await.unwrap()), 0);
    assert!(network.set_peers("no-such", Vec::new()).await.unwrap_err().is_missing());
}

#[tokio::test]
async fn everything_can_be_made_twice() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let before = node.network.links().await.unwrap();
    let bridge =
        Bridge { name: "br0".to_owned(), address: "10.244.1.1/24".parse().unwrap(), mtu: 1450 };
    let vxlan = Vxlan {
        name: "vx0".to_owned(),
        vni: 1,
        local: node.underlay,
        port: 4789,
        subnet: node.subnet,
        mtu: 1450,
    };
    node.network.ensure_bridge(bridge.clone()).await.unwrap();
    node.network.ensure_vxlan(vxlan.clone()).await.unwrap();
    assert_eq!(node.network.links().await.unwrap(), before);
    let other = Bridge { address: "10.244.9.1/24".parse().unwrap(), mtu: 1400, ..bridge };
    node.network.ensure_bridge(other).await.unwrap();
    node.network.ensure_vxlan(Vxlan { vni: 2, ..vxlan }).await.unwrap();
    let addresses = node.network.addresses().await.unwrap();
    let of_bridge: Vec<_> = addresses.iter().filter(|a| a.link == "br0").collect();
    assert_eq!(of_bridge.len(), 1);
    assert_eq!(of_bridge[0].address, "10.244.9.1/24".parse().unwrap());
    assert_eq!(of_bridge[0].mtu, 1400);
    let clash =
        Bridge { name: "vx0".to_owned(), address: "10.0.0.1/24".parse().unwrap(), mtu: 1500 };
    assert!(node.network.ensure_bridge(clash).await.is_err());
}

#[tokio::test]
async fn attachments_are_found_again_and_replaced() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let first = node.pod(2).await;
    // The same host end for a new pod: the daemon had died before it could detach the old one.
    let second = node.pod(2).await;
    let later = node.netns.run(|| Network::new("test").unwrap()).unwrap();
    let found = later.attachments().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].host_ifname.as_str(), found[0].tag.as_str()), ("pod1-2", "uid-1-2"));
    assert_eq!(ask(&node.netns, second.target()).unwrap(), "pod1-2 10.244.1.1");
    let inside = first.netns.run(|| Network::new("test").unwrap()).unwrap();
    assert_eq!(inside.links().await.unwrap().len(), 1, "the old pod has loopback only");
    assert!(later.detach("pod1-2").await.unwrap());
    assert!(!later.detach("pod1-2").await.unwrap());
}

#[tokio::test]
async fn a_failed_attachment_leaves_nothing() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let before = node.network.links().await.unwrap().len();
    let pod = Netns::create().unwrap();
    let attachment = |bridge: &str, ifname: &str| crate::Attachment {
        netns: pod.path(),
        host_ifname: "veth-x".to_owned(),
        ifname: ifname.to_owned(),
        address: "10.244.1.9/24".parse().unwrap(),
        gateway: "10.244.1.1".parse().unwrap(),
        mtu: 1450,
        bridge: bridge.to_owned(),
        tag: String::new(),
    };
    let error = node.network.attach(attachment("no-such", "eth0")).await.unwrap_err();
    assert!(error.to_string().contains("no-such"), "{error}");
    let error = node.network.attach(attachment("br0", "lo")).await.unwrap_err();
    assert!(error.is_exists(), "{error}");
    let error = node.network.attach(attachment("br0", "a name that is long")).await.unwrap_err();
    assert!(error.to_string().contains("no name"), "{error}");
    assert_eq!(node.network.links().await.unwrap().len(), before);
}

#[tokio::test]
async fn the_default_address_is_that_of_the_default_route() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let found = world.nodes[0].network.default_address().await.unwrap().unwrap();
    assert_eq!(found.address, "172.30.0.1/24".parse().unwrap());
    assert_eq!((found.link.as_str(), found.mtu), ("eth0", 1500));
    // The switch has no default route, and a bridge is no card.
    assert_eq!(world.network.default_address().await.unwrap(), None);
}

#[tokio::test]
async fn packets_between_two_machines_can_be_cut_and_healed() {
    if !can_run() {
        return;
    }
    let world = World::new(2).await;
    let server = Server::start(&world.nodes[1].netns, "two");
    let to = SocketAddrV4::new(world.nodes[1].underlay, crate::world::PORT);
    let socket = udp(&world.nodes[0].netns, to);
    assert_eq!(exchange(&socket, "before").unwrap(), "two 172.30.0.1 before");
    let cuts = world.switch.run(|| Cuts::new("pontoon-cuts").unwrap()).unwrap();
    let pair = (world.nodes[0].underlay, world.nodes[1].underlay);
    cuts.set(BTreeSet::from([pair])).await.unwrap();
    socket.send(b"lost").unwrap();
    // A third machine is not concerned.
    assert_eq!(
        exchange(&udp(&world.outside, to), "third").unwrap(),
        format!("two {OUTSIDE} third")
    );
    cuts.set(BTreeSet::new()).await.unwrap();
    assert_eq!(exchange(&socket, "after").unwrap(), "two 172.30.0.1 after");
    cuts.set(BTreeSet::new()).await.unwrap();
    drop(server);
}

#[tokio::test]
async fn a_machine_whose_link_is_down_is_reached_again_when_it_is_up() {
    if !can_run() {
        return;
    }
    let world = World::new(2).await;
    let _server = Server::start(&world.nodes[1].netns, "two");
    let to = SocketAddrV4::new(world.nodes[1].underlay, crate::world::PORT);
    let socket = udp(&world.nodes[0].netns, to);
    assert_eq!(exchange(&socket, "before").unwrap(), "two 172.30.0.1 before");
    world.network.set_up("node2", false).await.unwrap();
    let links = world.network.links().await.unwrap();
    assert!(links.iter().any(|link| link.name == "node2" && !link.up));
    socket.send(b"lost").unwrap();
    world.network.set_up("node2", true).await.unwrap();
    // The carrier comes back a little later; TCP asks again until then.
    assert_eq!(ask(&world.nodes[0].netns, to).unwrap(), "two 172.30.0.1");
    assert_eq!(exchange(&socket, "after").unwrap(), "two 172.30.0.1 after");
}

#[tokio::test]
async fn machines_reach_the_outside_of_their_switch_by_masquerade() {
    if !can_run() {
        return;
    }
    // The world's first node is a host here, its pod bridge a switch, and a pod a machine.
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let machine = node.pod(2).await;
    let _server = Server::start(&world.outside, "outside");
    let to = SocketAddrV4::new(OUTSIDE, crate::world::PORT);
    let masquerade = || Masquerade::new("pontoon-machines", node.subnet).unwrap();
    let masquerade = node.netns.run(masquerade).unwrap();
    masquerade.ensure().await.unwrap();
    masquerade.ensure().await.unwrap();
    assert_eq!(ask(&machine.netns, to).unwrap(), "outside 172.30.0.1");
    assert!(masquerade.remove().await.unwrap());
    assert!(!masquerade.remove().await.unwrap());
}

#[tokio::test]
async fn cleanup_leaves_nothing_but_what_was_there() {
    if !can_run() {
        return;
    }
    let world = World::new(2).await;
    let node = &world.nodes[0];
    let _pods = [node.pod(2).await, node.pod(3).await];
    node.tables.sync(std::sync::Arc::new(crate::world::table([]))).await.unwrap();
    let neighbour = node.netns.run(|| Network::new("other").unwrap()).unwrap();
    let address = "10.9.0.1/24".parse().unwrap();
    let bridge = Bridge { name: "other0".to_owned(), address, mtu: 1500 };
    neighbour.ensure_bridge(bridge).await.unwrap();
    assert_eq!(node.network.cleanup().await.unwrap(), 4);
    assert!(node.tables.remove().await.unwrap());
    let links = node.network.links().await.unwrap();
    let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(names, ["lo", "eth0", "other0"]);
    let routes = node.network.routes().await.unwrap();
    assert!(routes.iter().all(|r| !crate::world::cluster().contains(&r.destination)), "{routes:?}");
    assert!(routes.iter().all(|r| r.destination != crate::world::services()), "{routes:?}");
    assert!(!node.tables.remove().await.unwrap());
    assert_eq!(node.network.cleanup().await.unwrap(), 0);
    assert!(links.iter().all(|link| link.kind != LinkKind::Vxlan));
}
