//! The table in the kernel: what is left of a predecessor, what others do to it, and what `nft` makes of it.

use crate::world::{TABLE, World, ask, can_run, key, service, table, who};
use crate::{HostPort, Netns, Protocol, ServiceTable, Tables};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 10), 80);

/// What `nft` says, where it is installed.
fn nft(netns: &Netns, arguments: &[&str]) -> Option<String> {
    let run = || Command::new("nft").args(arguments).output();
    match netns.run(run).unwrap() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            println!("skipped: nft cannot be run to compare with: {error}");
            None
        }
    }
}

#[tokio::test]
async fn a_predecessors_table_is_replaced() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let (old, new) = (node.pod(2).await, node.pod(3).await);
    let stale = table([
        ("hello", service(VIP.ip().octets(), &[&old])),
        ("gone", service([10, 96, 0, 99], &[&old])),
    ]);
    node.tables.sync(Arc::new(stale)).await.unwrap();
    // The daemon is killed here; the next one knows nothing.
    let tables = node.netns.run(|| Tables::new(TABLE).unwrap()).unwrap();
    let wanted = Arc::new(table([("hello", service(VIP.ip().octets(), &[&new]))]));
    tables.sync(Arc::clone(&wanted)).await.unwrap();
    assert_eq!(who(ask(&node.netns, VIP)), new.name);
    assert!(ask(&node.netns, SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 99), 80)).is_err());
    assert_eq!(tables.sync(wanted).await.unwrap().changes, 0);
}

#[tokio::test]
async fn a_table_that_somebody_removed_or_emptied_is_made_anew() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let (one, two) = (node.pod(2).await, node.pod(3).await);
    let wanted = Arc::new(table([("hello", service(VIP.ip().octets(), &[&one]))]));
    node.tables.sync(Arc::clone(&wanted)).await.unwrap();
    let stranger = node.netns.run(|| Tables::new(TABLE).unwrap()).unwrap();
    assert!(stranger.remove().await.unwrap());
    assert!(ask(&node.netns, VIP).is_err());
    node.tables.sync(Arc::clone(&wanted)).await.unwrap();
    assert_eq!(who(ask(&node.netns, VIP)), one.name);
    // The same name, but not our table: its parts are not where we left them.
    stranger.sync(Arc::new(table([]))).await.unwrap();
    let other = Arc::new(table([("hello", service(VIP.ip().octets(), &[&two]))]));
    node.tables.sync(other).await.unwrap();
    assert_eq!(who(ask(&node.netns, VIP)), two.name);
}

#[tokio::test]
async fn nft_reads_what_we_wrote() {
    if !can_run() {
        return;
    }
    let world = World::new(1).await;
    let node = &world.nodes[0];
    let (one, two) = (node.pod(2).await, node.pod(3).await);
    let mut hello = service(VIP.ip().octets(), &[&one, &two]);
    hello.node_port = Some(30_080);
    node.tables.sync(Arc::new(table([("hello", hello)]))).await.unwrap();
    let Some(listing) = nft(&node.netns, &["list", "table", "ip", TABLE]) else { return };
    for line in [
        "elements = { 10.96.0.10 . tcp . 80 : goto service-default/hello/http }",
        "elements = { tcp . 30080 : goto service-default/hello/http }",
        "10.244.1.2 . 10.244.1.2",
        "type nat hook prerouting priority dstnat; policy accept;",
        "type nat hook postrouting priority srcnat; policy accept;",
        "ip daddr . meta l4proto . th dport vmap @services",
        "ip saddr != 10.244.0.0/16 meta mark set meta mark | 0x00004000",
        "dnat ip to numgen inc mod 2 map { 0 : 10.244.1.2 . 8080, 1 : 10.244.1.3 . 8080 }",
        "ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade",
        "ip saddr . ip daddr @hairpin masquerade fully-random",
        "ip daddr 10.96.0.0/16 reject",
        "ct state new jump refuse",
    ] {
        assert!(listing.contains(line), "{line:?} is not in:\n{listing}");
    }
}

#[tokio::test]
async fn thousands_of_services_fit_and_one_of_them_changes_alone() {
    if !can_run() {
        return;
    }
    let netns = Netns::create().unwrap();
    let tables = netns.run(|| Tables::new(TABLE).unwrap()).unwrap();
    let backend = |a: u16, b: u8| {
        let [high, low] = a.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(10, 244, high * 10 + b, low), 80)
    };
    let mut wanted = table([]);
    for number in 0..2_000_u16 {
        let [high, low] = number.to_be_bytes();
        let mut one = service([10, 96, high, low], &[]);
        one.node_port = Some(30_000 + number);
        one.backends = (0..5).map(|b| backend(number, b)).collect();
        wanted.services.insert(key(&format!("s{number}")), one);
    }
    let big = key("s7");
    if let Some(service) = wanted.services.get_mut(&big) {
        service.backends =
            (1..=5_000).map(|port| SocketAddrV4::new([10, 244, 9, 9].into(), port)).collect();
    }
    tables.sync(Arc::new(wanted.clone())).await.unwrap();
    if let Some(service) = wanted.services.get_mut(&big) {
        service.backends.pop();
    }
    assert_eq!(tables.sync(Arc::new(wanted)).await.unwrap().changes, 1);
    assert!(tables.remove().await.unwrap());
}

/// A table that follows from a number: services come, go, move and change.
fn some_table(seed: u64) -> ServiceTable {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut pick = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut wanted = table([]);
    for name in ["a", "b", "c", "d"] {
        if pick(4) == 0 {
            continue;
        }
        // Four addresses for four names: they are taken over, and now and then contested.
        let mut one = service([10, 96, 0, pick(4) as u8], &[]);
        one.protocol = if pick(3) == 0 { Protocol::Udp } else { Protocol::Tcp };
        let backend = |n: u64| SocketAddrV4::new(Ipv4Addr::new(10, 244, 1, n as u8), 80);
        one.backends = (0..pick(4)).map(|n| backend(n + 2)).collect();
        one.node_port = (pick(2) == 0).then(|| 30_000 + pick(3) as u16);
        one.external_local = pick(3) == 0;
        one.local_backends = one.backends.iter().copied().take(pick(3) as usize).collect();
        one.affinity = (pick(3) == 0).then(|| Duration::from_secs(60 + pick(2)));
        wanted.services.insert(key(name), one);
    }
    for port in 0..pick(3) as u16 {
        let host_ip = (pick(2) == 0).then_some(Ipv4Addr::new(172, 30, 0, 1));
        let target = SocketAddrV4::new(Ipv4Addr::new(10, 244, 1, pick(9) as u8), 80);
        wanted.host_ports.insert(HostPort { host_ip, protocol: Protocol::Tcp, port, target });
    }
    wanted
}

#[tokio::test]
async fn many_small_changes_come_to_the_same_as_one_rebuild() {
    if !can_run() {
        return;
    }
    let netns = Netns::create().unwrap();
    let tables = || netns.run(|| Tables::new(TABLE).unwrap()).unwrap();
    let listing = || {
        let listing = nft(&netns, &["list", "table", "ip", TABLE])?;
        let mut blocks: Vec<_> = listing
            .split("\n\n")
            .map(|b| b.trim_end_matches(['}', '\n', '\t']).to_owned())
            .collect();
        blocks.sort();
        Some(blocks)
    };
    let changing = tables();
    for seed in 1..200 {
        let wanted = Arc::new(some_table(seed));
        let done = changing.sync(Arc::clone(&wanted)).await.unwrap();
        let found = listing();
        // A small change is never a rebuild in disguise.
        assert!(done.changes < 60, "{done:?}");
        if seed % 10 != 0 {
            continue;
        }
        let Some(found) = found else { return };
        let fresh = tables();
        fresh.sync(Arc::clone(&wanted)).await.unwrap();
        assert_eq!(Some(found), listing(), "after {seed} steps");
        // The table is another one now: go on from what the first one left.
        changing.remove().await.unwrap();
        changing.sync(Arc::new(some_table(seed - 1))).await.unwrap();
        changing.sync(wanted).await.unwrap();
    }
}
