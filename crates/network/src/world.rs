//! A small world for tests: nodes on a switch, pods on nodes, servers in pods; each a real network namespace
//! that is gone when its value is.

use crate::{
    Attachment, Bridge, MachineLink, Netns, Network, Peer, Protocol, ServicePortKey, ServiceTable,
    Tables, VirtualService, Vxlan,
};
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What never comes fails the test after this.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PORT: u16 = 8080;
pub(crate) const TABLE: &str = "pontoon-test";

/// Whether the test can be run; it says so if not.
pub(crate) fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

pub(crate) fn cluster() -> Ipv4Net {
    "10.244.0.0/16".parse().unwrap()
}

pub(crate) fn services() -> Ipv4Net {
    "10.96.0.0/16".parse().unwrap()
}

/// The switch and what is plugged into it.
pub(crate) struct World {
    pub(crate) switch: Netns,
    pub(crate) network: Network,
    pub(crate) nodes: Vec<Node>,
    /// A host on the switch that is no node.
    pub(crate) outside: Netns,
}

/// A node: its namespace, its end of the overlay, its tables.
pub(crate) struct Node {
    pub(crate) netns: Netns,
    pub(crate) network: Network,
    pub(crate) tables: Tables,
    pub(crate) underlay: Ipv4Addr,
    pub(crate) subnet: Ipv4Net,
}

pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 200);

impl World {
    pub(crate) async fn new(nodes: u8) -> Self {
        let switch = Netns::create().unwrap();
        let network = switch.run(|| Network::new("switch").unwrap()).unwrap();
        let address = "172.30.0.254/24".parse().unwrap();
        let bridge = Bridge { name: "sw0".to_owned(), address, mtu: 1500 };
        network.ensure_bridge(bridge).await.unwrap();
        let outside = Netns::create().unwrap();
        plug(&network, &outside, "outside", OUTSIDE).await;
        let mut world = Self { switch, network, nodes: Vec::new(), outside };
        for number in 1..=nodes {
            let node = Node::new(&world.network, number).await;
            world.nodes.push(node);
        }
        world.connect().await;
        world
    }

    /// Tells every node of every other.
    async fn connect(&self) {
        for node in &self.nodes {
            let peers = self.nodes.iter().filter(|peer| peer.underlay != node.underlay);
            let peers = peers.map(|p| Peer { underlay: p.underlay, subnet: p.subnet }).collect();
            node.network.set_peers("vx0", peers).await.unwrap();
        }
    }

    /// The same services on every node.
    pub(crate) async fn sync(&self, table: &ServiceTable) {
        for node in &self.nodes {
            node.tables.sync(Arc::new(table.clone())).await.unwrap();
        }
    }
}

async fn plug(network: &Network, netns: &Netns, name: &str, address: Ipv4Addr) {
    let link = MachineLink {
        netns: netns.path(),
        host_ifname: name.to_owned(),
        ifname: "eth0".to_owned(),
        address: Ipv4Net::new(address, 24).unwrap(),
        gateway: Some("172.30.0.254".parse().unwrap()),
        mtu: 1500,
        bridge: "sw0".to_owned(),
    };
    network.attach_machine(link).await.unwrap();
}

impl Node {
    async fn new(switch: &Network, number: u8) -> Self {
        let netns = Netns::create().unwrap();
        let underlay = Ipv4Addr::new(172, 30, 0, number);
        plug(switch, &netns, &format!("node{number}"), underlay).await;
        let subnet = Ipv4Net::new(Ipv4Addr::new(10, 244, number, 0), 24).unwrap();
        let (network, tables) =
            netns.run(|| (Network::new("test").unwrap(), Tables::new(TABLE).unwrap())).unwrap();
        network.ensure_forwarding().await.unwrap();
        let gateway = Ipv4Net::new(Ipv4Addr::new(10, 244, number, 1), 24).unwrap();
        let bridge = Bridge { name: "br0".to_owned(), address: gateway, mtu: 1450 };
        network.ensure_bridge(bridge).await.unwrap();
        let vxlan = Vxlan {
            name: "vx0".to_owned(),
            vni: 1,
            local: underlay,
            port: 4789,
            subnet,
            mtu: 1500 - Vxlan::OVERHEAD,
        };
        network.ensure_vxlan(vxlan).await.unwrap();
        network.ensure_route(services(), "br0").await.unwrap();
        Self { netns, network, tables, underlay, subnet }
    }

    /// Whether the kernel translates addresses inside bridges; it may be on or off on any machine.
    pub(crate) fn set_bridge_netfilter(&self, on: bool) {
        let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        let write = || fs::write(path, if on { "1" } else { "0" });
        if let Err(error) = self.netns.run(write).unwrap() {
            println!("bridge netfilter is not there: {error}");
        }
    }

    /// A pod with that last number in its address.
    pub(crate) async fn pod(&self, number: u8) -> Pod {
        let netns = Netns::create().unwrap();
        let [a, b, node, _] = self.subnet.network().octets();
        let address = Ipv4Addr::new(a, b, node, number);
        let attachment = Attachment {
            netns: netns.path(),
            host_ifname: format!("pod{node}-{number}"),
            ifname: "eth0".to_owned(),
            address: Ipv4Net::new(address, 24).unwrap(),
            gateway: Ipv4Addr::new(a, b, node, 1),
            mtu: 1450,
            bridge: "br0".to_owned(),
            tag: format!("uid-{node}-{number}"),
        };
        self.network.attach(attachment).await.unwrap();
        let name = format!("pod{node}-{number}");
        let server = Server::start(&netns, &name);
        Pod { _server: server, netns, address, name }
    }
}

/// A pod that answers on [`PORT`] by TCP and UDP with its name and its client's address.
pub(crate) struct Pod {
    _server: Server,
    pub(crate) netns: Netns,
    pub(crate) address: Ipv4Addr,
    pub(crate) name: String,
}

impl Pod {
    pub(crate) fn target(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, PORT)
    }
}

/// Threads that answer, until it is dropped.
pub(crate) struct Server {
    tcp: TcpListener,
    udp: UdpSocket,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(netns: &Netns, name: &str) -> Self {
        let any = (Ipv4Addr::UNSPECIFIED, PORT);
        let open = || (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
        let (tcp, udp) = netns.run(open).unwrap();
        let (listener, name_tcp) = (tcp.try_clone().unwrap(), name.to_owned());
        let (socket, name_udp) = (udp.try_clone().unwrap(), name.to_owned());
        let threads = vec![
            thread::spawn(move || {
                while let Ok((mut stream, client)) = listener.accept() {
                    let name = name_tcp.clone();
                    // A client may go on asking for as long as it likes.
                    thread::spawn(move || {
                        let mut byte = [0];
                        while stream.read_exact(&mut byte).is_ok() && byte[0] != b'\n' {}
                        stream.write_all(format!("{name} {}", client.ip()).as_bytes())
                    });
                }
            }),
            thread::spawn(move || {
                let mut bytes = [0; 64];
                while let Ok((length, client)) = socket.recv_from(&mut bytes) {
                    if length == 0 {
                        return; // it was shut down
                    }
                    let heard = String::from_utf8_lossy(&bytes[..length]).into_owned();
                    let answer = format!("{name_udp} {} {heard}", client.ip());
                    if socket.send_to(answer.as_bytes(), client).is_err() {
                        return;
                    }
                }
            }),
        ];
        Self { tcp, udp, threads }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An unconnected socket's shutdown reports an error and wakes its readers all the same.
        rustix::net::shutdown(&self.tcp, rustix::net::Shutdown::Both).unwrap();
        assert!(rustix::net::shutdown(&self.udp, rustix::net::Shutdown::Both).is_err());
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// Asks by TCP; "name client-address" comes back.
pub(crate) fn ask(from: &Netns, to: SocketAddrV4) -> io::Result<String> {
    from.run(|| {
        let mut stream = connect(to)?;
        finish(&mut stream)
    })
    .unwrap()
}

/// Opens a connection and leaves it open.
pub(crate) fn open(from: &Netns, to: SocketAddrV4) -> io::Result<TcpStream> {
    from.run(|| connect(to)).unwrap()
}

fn connect(to: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to.into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks on an open connection.
pub(crate) fn finish(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The first word of an answer.
pub(crate) fn who(answer: io::Result<String>) -> String {
    answer.unwrap().split(' ').next().unwrap_or_default().to_owned()
}

/// A UDP socket in a namespace that sends to one address.
pub(crate) fn udp(from: &Netns, to: SocketAddrV4) -> UdpSocket {
    let socket = from.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a datagram and reads the next one that comes back.
pub(crate) fn exchange(socket: &UdpSocket, text: &str) -> io::Result<String> {
    socket.send(text.as_bytes())?;
    let mut bytes = [0; 128];
    let length = socket.recv(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

pub(crate) fn key(name: &str) -> ServicePortKey {
    ServicePortKey {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        port: "http".to_owned(),
    }
}

pub(crate) fn service(ip: [u8; 4], backends: &[&Pod]) -> VirtualService {
    VirtualService {
        ip: ip.into(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: None,
        backends: backends.iter().map(|pod| pod.target()).collect(),
        local_backends: Vec::new(),
        external_local: false,
        affinity: None,
    }
}

pub(crate) fn table<const N: usize>(of: [(&str, VirtualService); N]) -> ServiceTable {
    let services_by_key: BTreeMap<_, _> =
        of.into_iter().map(|(name, service)| (key(name), service)).collect();
    ServiceTable {
        cluster_cidr: cluster(),
        service_cidr: Some(services()),
        services: services_by_key,
        host_ports: BTreeSet::new(),
    }
}
