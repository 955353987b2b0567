//! Local machines reach what their host reaches.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use crate::world::{PATIENCE, in_network, machine_pid, machines, program};

/// Machines below another directory, on a bridge of their own; gone when the test ends.
struct Other(PathBuf);

impl Other {
    fn run(&self, words: &[&str]) {
        let mut command = Command::new(program());
        let done = command.arg("--data-dir").arg(&self.0).args(words).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.run(&["machine", "rm", "z"]);
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn machines_reach_the_outside_as_their_host() {
    let Some(world) = machines(&["a"]) else { return };
    let dir = tempfile::Builder::new().prefix("pontoon-it-").tempdir_in("/tmp").unwrap().keep();
    let other = Other(dir);
    other.run(&["machine", "create", "z"]);
    let z = machine_pid(&["--data-dir", other.0.to_str().unwrap()], "z");
    let (listener, address) = in_network(z, || {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        // Which of its own addresses a machine uses for the outside.
        let way = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        way.connect("192.0.2.1:9").unwrap();
        (listener, way.local_addr().unwrap().ip())
    });
    let port = listener.local_addr().unwrap().port();
    let connect = move || TcpStream::connect_timeout(&(address, port).into(), PATIENCE);
    // It is open before it is accepted, so that what cannot connect fails here.
    let _asking = in_network(world.pid("a"), connect).unwrap();
    let (_answering, client) = listener.accept().unwrap();
    // The bridge's first address is the host's; nobody out there knows the way to a machine.
    let IpAddr::V4(address) = address else { panic!("{address}") };
    let [a, b, c, _] = address.octets();
    assert_eq!(client.ip(), IpAddr::V4(Ipv4Addr::new(a, b, c, 1)));
}
