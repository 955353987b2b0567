//! The real Consul, alone and in memory, for the time of a test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How long Consul may take to lead itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// The version that is compared with.
const VERSION: &str = "Consul v1.8.7";

/// A running Consul. It ends with this.
pub(super) struct Reference {
    pub(super) address: SocketAddr,
    /// Where it would talk to other servers.
    pub(super) server_port: u16,
    _process: Child,
}

impl Reference {
    /// Starts one; none if there is no such program.
    pub(super) async fn start() -> Option<Reference> {
        let program =
            std::env::var_os("CONSUL").map_or_else(|| PathBuf::from("consul"), PathBuf::from);
        let version = Command::new(&program).arg("version").output().await.ok()?;
        if !String::from_utf8_lossy(&version.stdout).starts_with(VERSION) {
            return None;
        }
        let mut ports = Vec::new();
        for _ in 0..3 {
            ports.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        }
        let numbers: Vec<_> = ports.iter().map(|port| port.local_addr().unwrap().port()).collect();
        drop(ports);
        let [http, server, serf] = [0, 1, 2].map(|at| numbers[at].to_string());
        let process = Command::new(&program)
            .args(["agent", "-dev", "-node", "one", "-bind", "127.0.0.1", "-client", "127.0.0.1"])
            .args(["-http-port", &http, "-server-port", &server, "-serf-lan-port", &serf])
            .args(["-serf-wan-port", "-1", "-dns-port", "-1", "-grpc-port", "-1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, numbers[0]));
        let reference = Reference { address, server_port: numbers[1], _process: process };
        reference.wait().await;
        Some(reference)
    }

    /// Returns when it leads and has its own node in its catalog.
    async fn wait(&self) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < give_up, "Consul did not begin to lead in {PATIENCE:?}");
            if TcpStream::connect(self.address).await.is_ok() {
                let said =
                    super::send(self.address, "GET", "/v1/health/service/consul", Vec::new()).await;
                if String::from_utf8_lossy(&said.body).contains("serfHealth") {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
