//! Services as clients see them.

use crate::world::{
    OUTSIDE, PORT, Pod, Server, World, ask, can_run, exchange, finish, open, service, table, udp,
    who,
};
use crate::{HostPort, Netns, Protocol};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 10), 80);
const NODE_PORT: u16 = 30_080;

/// Two pods on each of three nodes.
async fn six(world: &World) -> Vec<Pod> {
    let mut pods = Vec::new();
    for number in [2, 3] {
        for node in &world.nodes {
            pods.push(node.pod(number).await);
        }
    }
    pods
}

fn names(from: &Netns, to: SocketAddrV4, count: usize) -> Vec<String> {
    (0..count).map(|_| who(ask(from, to))).collect()
}

async fn strict_turns(bridge_netfilter: bool) {
    let world = World::new(3).await;
    world.nodes.iter().for_each(|node| node.set_bridge_netfilter(bridge_netfilter));
    let pods = six(&world).await;
    let mut hello = service(VIP.ip().octets(), &pods.iter().collect::<Vec<_>>());
    hello.node_port = Some(NODE_PORT);
    world.sync(&table([("hello", hello)])).await;
    let round: Vec<_> = pods.iter().map(|pod| pod.name.clone()).collect();
    let ten_rounds: Vec<_> = round.iter().cycle().take(60).cloned().collect();
    // A pod, the node itself, its port from itself, from a pod and from outside: one turn for all of them.
    let first = &world.nodes[0];
    let port = SocketAddrV4::new(first.underlay, NODE_PORT);
    for (from, to) in [
        (&pods[0].netns, VIP),
        (&first.netns, VIP),
        (&first.netns, port),
        (&pods[3].netns, port),
        (&world.outside, port),
    ] {
        assert_eq!(names(from, to, 60), ten_rounds, "to {to}");
    }
    // Each node has its own turn, and a pod elsewhere reaches this node's port, too.
    assert_eq!(names(&pods[1].netns, VIP, 6), round);
    assert_eq!(names(&pods[1].netns, port, 6), round);
}

#[tokio::test]
async fn connections_go_round_all_backends_in_strict_turn() {
    if can_run() {
        strict_turns(false).await;
    }
}

#[tokio::test]
async fn and_also_where_the_kernel_translates_inside_bridges() {
    if can_run() {
        strict_turns(true).await;
    }
}

#[tokio::test]
async fn a_pod_reaches_itself_by_its_service_and_its_host_port() {
    if !can_run() {
        return;
    }
    for bridge_netfilter in [false, true] {
        let world = World::new(1).await;
        let node = &world.nodes[0];
        node.set_bridge_netfilter(bridge_netfilter);
        let pod = node.pod(2).await;
        let mut wanted = table([("self", service(VIP.ip().octets(), &[&pod]))]);
        let target = pod.target();
        let port = HostPort { host_ip: None, protocol: Protocol::Tcp, port: 8000, target };
        wanted.host_ports.insert(port);
        world.sync(&wanted).await;
        assert_eq!(names(&pod.netns, VIP, 3), [pod.name.as_str(); 3]);
        let host = SocketAddrV4::new(node.underlay, 8000);
        assert_eq!(names(&pod.netns, host, 3), [pod.name.as_str(); 3]);
    }
}

#[tokio::test]
async fn host_ports_lead_to_their_pod_and_keep_the_client() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let (any, one) = (node.pod(2).await, node.pod(3).await);
    let port = |host_ip, pod: &Pod| HostPort {
        host_ip,
        protocol: Protocol::Tcp,
        port: 8000,
        target: pod.target(),
    };
    let mut wanted = table([]);
    wanted.host_ports =
        BTreeSet::from([port(None, &any), port(Some("10.244.1.1".parse().unwrap()), &one)]);
    world.sync(&wanted).await;
    let at = |ip: Ipv4Addr| SocketAddrV4::new(ip, 8000);
    assert_eq!(ask(&world.outside, at(node.underlay)).unwrap(), format!("pod1-2 {OUTSIDE}"));
    assert_eq!(who(ask(&node.netns, at(node.underlay))), "pod1-2");
    assert_eq!(who(ask(&node.netns, at(Ipv4Addr::new(10, 244, 1, 1)))), "pod1-3");
}

#[tokio::test]
async fn pods_are_masqueraded_outside_and_nowhere_else() {
    if !can_run() {
        return;
    }
    let world = World::new(2).await;
    let (near, far) = (world.nodes[0].pod(2).await, world.nodes[1].pod(2).await);
    let mut out = service(VIP.ip().octets(), &[&far]);
    out.node_port = Some(NODE_PORT);
    world.sync(&table([("far", out)])).await;
    let _outside = Server::start(&world.outside, "outside");
    let server = SocketAddrV4::new(OUTSIDE, PORT);
    assert_eq!(ask(&near.netns, server).unwrap(), "outside 172.30.0.1");
    let seen = |address: Ipv4Addr| format!("{} {address}", far.name);
    assert_eq!(ask(&near.netns, far.target()).unwrap(), seen(near.address));
    assert_eq!(ask(&near.netns, VIP).unwrap(), seen(near.address));
    // From outside by another node: the answer must come back by that node.
    let port = SocketAddrV4::new(world.nodes[0].underlay, NODE_PORT);
    assert_eq!(ask(&world.outside, port).unwrap(), seen(Ipv4Addr::new(10, 244, 1, 0)));
}

#[tokio::test]
async fn nothing_fails_while_backends_come_and_go_and_the_turn_stays_strict() {
    if !can_run() {
        return;
    }
    let world = World::new(3).await;
    let pods = six(&world).await;
    let wanted = |count: usize| {
        let backends: Vec<_> = pods.iter().take(count).collect();
        table([("hello", service(VIP.ip().octets(), &backends))])
    };
    world.sync(&wanted(6)).await;
    let client = world.nodes[0].pod(20).await;
    // One connection to each backend, open across all changes: the removed ones still serve theirs.
    let mut old: Vec<_> = (0..6).map(|_| open(&client.netns, VIP).unwrap()).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let traffic = thread::spawn(move || {
        while count.fetch_add(1, Ordering::Relaxed) < 1_000_000 {
            ask(&client.netns, VIP).unwrap();
        }
        client
    });
    for backends in (0..60).map(|n| 1 + n % 6) {
        let so_far = asked.load(Ordering::Relaxed);
        world.nodes[0].tables.sync(Arc::new(wanted(backends))).await.unwrap();
        while asked.load(Ordering::Relaxed) < so_far + 3 && !traffic.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    asked.store(1_000_000, Ordering::Relaxed);
    let client = traffic.join().unwrap();
    world.nodes[0].tables.sync(Arc::new(wanted(4))).await.unwrap();
    let round: Vec<_> = pods[..4].iter().map(|pod| pod.name.clone()).collect();
    assert_eq!(names(&client.netns, VIP, 8), [round.clone(), round].concat());
    for (stream, pod) in old.iter_mut().zip(&pods) {
        assert_eq!(who(finish(stream)), pod.name);
    }
}

#[tokio::test]
async fn a_service_without_backends_refuses_at_once() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let pod = node.pod(2).await;
    let mut empty = service(VIP.ip().octets(), &[]);
    empty.node_port = Some(NODE_PORT);
    world.sync(&table([("empty", empty.clone())])).await;
    let port = SocketAddrV4::new(node.underlay, NODE_PORT);
    let nobody = SocketAddrV4::new(Ipv4Addr::new(10, 96, 77, 77), 80);
    let refused = |from: &Netns, to| {
        assert_eq!(ask(from, to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "to {to}");
    };
    for to in [VIP, nobody, SocketAddrV4::new(*VIP.ip(), 81)] {
        refused(&pod.netns, to);
        refused(&node.netns, to);
    }
    refused(&world.outside, port);
    refused(&node.netns, port);
    refused(&pod.netns, port);
    // It has one now, and then none again.
    empty.backends = vec![pod.target()];
    world.sync(&table([("empty", empty.clone())])).await;
    assert_eq!(who(ask(&node.netns, VIP)), pod.name);
    assert_eq!(who(ask(&world.outside, port)), pod.name);
    refused(&pod.netns, SocketAddrV4::new(*VIP.ip(), 81));
    empty.backends.clear();
    world.sync(&table([("empty", empty)])).await;
    refused(&pod.netns, VIP);
    refused(&world.outside, port);
}

#[tokio::test]
async fn a_datagrams_next_one_finds_another_backend_when_its_own_is_gone() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let (client, one, two) = (node.pod(2).await, node.pod(3).await, node.pod(4).await);
    let mut dns = service(VIP.ip().octets(), &[&one, &two]);
    dns.protocol = Protocol::Udp;
    world.sync(&table([("dns", dns.clone())])).await;
    let socket = udp(&client.netns, VIP);
    for text in ["a", "b"] {
        assert_eq!(exchange(&socket, text).unwrap(), format!("pod1-3 {} {text}", client.address));
    }
    dns.backends = vec![two.target()];
    let done = node.tables.sync(Arc::new(table([("dns", dns)]))).await.unwrap();
    assert_eq!(done.connections_forgotten, 1);
    assert_eq!(exchange(&socket, "c").unwrap(), format!("pod1-4 {} c", client.address));
    assert_eq!(node.tables.forget(two.address).await.unwrap(), 1);
    assert_eq!(node.tables.forget(two.address).await.unwrap(), 0);
}

#[tokio::test]
async fn local_policy_keeps_the_client_and_never_goes_to_another_node() {
    if !can_run() {
        return;
    }
    let world = World::new(2).await;
    let (near, far) = (world.nodes[0].pod(2).await, world.nodes[1].pod(2).await);
    let mut local = service(VIP.ip().octets(), &[&near, &far]);
    local.protocol = Protocol::Udp;
    local.node_port = Some(NODE_PORT);
    local.external_local = true;
    let node = &world.nodes[0];
    let sync = |local_backends: Vec<SocketAddrV4>| {
        let mut service = local.clone();
        service.local_backends = local_backends;
        node.tables.sync(Arc::new(table([("local", service)])))
    };
    sync(Vec::new()).await.unwrap();
    let port = SocketAddrV4::new(node.underlay, NODE_PORT);
    let socket = udp(&world.outside, port);
    socket.send(b"dropped").unwrap();
    sync(vec![near.target()]).await.unwrap();
    for text in ["a", "b"] {
        let socket = udp(&world.outside, port);
        assert_eq!(exchange(&socket, text).unwrap(), format!("pod1-2 {OUTSIDE} {text}"));
    }
    assert_eq!(exchange(&socket, "c").unwrap(), format!("pod1-2 {OUTSIDE} c"));
    // Inside the cluster it is a service like any other.
    let inside: Vec<_> = (0..2).map(|_| who(exchange(&udp(&near.netns, port), "d"))).collect();
    assert_eq!(inside, ["pod1-2", "pod2-2"]);
}

#[tokio::test]
async fn a_client_keeps_its_backend_while_that_is_there() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let pods = [node.pod(2).await, node.pod(3).await, node.pod(4).await];
    let mut sticky = service(VIP.ip().octets(), &pods.iter().collect::<Vec<_>>());
    sticky.affinity = Some(Duration::from_secs(10_800));
    world.sync(&table([("sticky", sticky.clone())])).await;
    let clients = [node.pod(10).await, node.pod(11).await, node.pod(12).await, node.pod(13).await];
    let ask_all = || clients.iter().map(|client| names(&client.netns, VIP, 3)).collect::<Vec<_>>();
    let all = |names: [&str; 4]| names.map(|name| vec![name.to_owned(); 3]).to_vec();
    assert_eq!(ask_all(), all(["pod1-2", "pod1-3", "pod1-4", "pod1-2"]));
    sticky.backends.remove(0);
    world.sync(&table([("sticky", sticky.clone())])).await;
    assert_eq!(ask_all(), all(["pod1-3", "pod1-3", "pod1-4", "pod1-4"]));
    sticky.backends.insert(0, pods[0].target());
    world.sync(&table([("sticky", sticky.clone())])).await;
    assert_eq!(ask_all(), all(["pod1-3", "pod1-3", "pod1-4", "pod1-4"]));
    sticky.affinity = None;
    let done = node.tables.sync(Arc::new(table([("sticky", sticky)]))).await.unwrap();
    assert_eq!(done.changes, 4, "the service's chain and three backends' own");
    assert_eq!(names(&clients[0].netns, VIP, 3), ["pod1-2", "pod1-3", "pod1-4"]);
}

#[tokio::test]
async fn a_backend_may_be_a_node_itself() {
    if !can_run() {
        return;
    }
    let world = World::new(2).await;
    let (near, far) = (world.nodes[0].pod(2).await, world.nodes[1].pod(2).await);
    let _server = Server::start(&world.nodes[0].netns, "node1");
    let mut api = service(VIP.ip().octets(), &[]);
    api.node_port = Some(NODE_PORT);
    api.backends = vec![SocketAddrV4::new(world.nodes[0].underlay, PORT)];
    world.sync(&table([("api", api)])).await;
    for from in [&world.nodes[0].netns, &world.nodes[1].netns, &near.netns, &far.netns] {
        assert_eq!(names(from, VIP, 2), ["node1"; 2]);
    }
    for node in &world.nodes {
        let port = SocketAddrV4::new(node.underlay, NODE_PORT);
        assert_eq!(names(&world.outside, port, 2), ["node1"; 2]);
        assert_eq!(names(&node.netns, port, 2), ["node1"; 2]);
    }
}

#[tokio::test]
async fn a_host_port_on_loopback_is_reported_and_not_served() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let pod = world.nodes[0].pod(2).await;
    let mut wanted = table([]);
    wanted.host_ports.insert(HostPort {
        host_ip: Some(Ipv4Addr::LOCALHOST),
        protocol: Protocol::Tcp,
        port: 8000,
        target: pod.target(),
    });
    let done = world.nodes[0].tables.sync(Arc::new(wanted)).await.unwrap();
    assert_eq!(done.not_served.len(), 1, "{:?}", done.not_served);
}
