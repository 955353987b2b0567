//! What a pod's containers share: volumes, namespaces, address, name files.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::ContainerPort;
use pontoon_container::SandboxSpec;
use thiserror::Error;
use tracing::{info, warn};

use super::Worker;
use crate::container::name_files::{hosts, resolv_conf};
use crate::container::{ConfigError, limits};
use crate::pod::plan::is_over;
use crate::pod::spec::{containers, hostname, init_containers, spec, uses_host_network};
use crate::pod::state::{SandboxState, after, back_off};
use crate::shared::PodPort;
use crate::volume::sandbox_mounts::{Memory, mount_in};
use crate::volume::{self, VolumeError};
use crate::wires::WireError;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// The labels by which a sandbox is known again.
pub(crate) const LABEL_UID: &str = "pontoon.io/pod-uid";
pub(crate) const LABEL_NAMESPACE: &str = "pontoon.io/pod-namespace";
pub(crate) const LABEL_NAME: &str = "pontoon.io/pod-name";
pub(crate) const LABEL_ADDRESS: &str = "pontoon.io/pod-address";

/// Why a pod has no sandbox.
#[derive(Debug, Error)]
enum SandboxError {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("connecting the pod: {0}")]
    Wire(#[from] WireError),
    #[error("{0}")]
    Runtime(#[from] pontoon_container::Error),
    #[error("preparing files: {0}")]
    File(#[from] std::io::Error),
}

impl Worker {
    pub(super) async fn prepare_sandbox(&mut self) {
        self.state.start_time.get_or_insert_with(|| self.shared.now());
        match self.try_prepare().await {
            Ok(()) => {
                self.state.sandbox = SandboxState::Ready;
                self.state.sandbox_failures = 0;
                self.publish_ports();
            }
            Err(error) => {
                let reason = match &error {
                    SandboxError::Volume(_) => "FailedMount",
                    _ => "FailedCreatePodSandBox",
                };
                let message = match reason {
                    "FailedMount" => error.to_string(),
                    _ => format!("Failed to create pod sandbox: {error}"),
                };
                self.event(true, reason, message, None);
                self.drop_cell().await;
                let pause = back_off(FIRST_RETRY, LONGEST_RETRY, self.state.sandbox_failures);
                self.state.sandbox_failures = self.state.sandbox_failures.saturating_add(1);
                let retry_at = after(self.shared.now(), pause);
                self.state.sandbox = SandboxState::Failed { retry_at };
            }
        }
    }

    async fn try_prepare(&mut self) -> Result<(), SandboxError> {
        let on_host = uses_host_network(&self.pod);
        self.state.ip =
            if on_host { None } else { Some(self.shared.wires.allocate(&self.id.uid)?) };
        self.state.holds_address = !on_host;
        self.prepare_volumes().await?;
        self.write_name_files()?;
        let cell = self.shared.engine.create_sandbox(self.sandbox_spec()?).await?;
        // Kept at once, so that a failure below removes it.
        self.cell = Some(cell.clone());
        let memory = self.volumes.values().filter_map(|volume| {
            let size = volume.memory?;
            Some(Memory { path: volume.path.clone(), size })
        });
        mount_in(cell.pid(), memory.collect(), Vec::new()).await?;
        if let Some(ip) = self.state.ip {
            self.shared.wires.attach(cell.netns(), &self.id.uid, ip).await?;
        }
        Ok(())
    }

    async fn prepare_volumes(&mut self) -> Result<(), SandboxError> {
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        let (dirs, ip) = (self.dirs.clone(), self.state.ip);
        let assignments = shared.assignments.borrow().clone();
        let work = move || volume::prepare(&shared.around(&pod, ip, &assignments), &dirs);
        self.volumes = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)??;
        self.volumes_ready = true;
        Ok(())
    }

    /// Writes ConfigMaps, Secrets and fields anew after one of them changed.
    pub(super) async fn refresh_volumes(&mut self) {
        if self.state.sandbox != SandboxState::Ready || self.state.stop.is_some() {
            return;
        }
        let old = std::mem::take(&mut self.volumes);
        if let Err(error) = self.prepare_volumes().await {
            self.volumes = old;
            self.event(true, "FailedMount", error.to_string(), None);
        }
    }

    fn write_name_files(&self) -> std::io::Result<()> {
        let config = &self.shared.config;
        let of_host = self.shared.resolv_conf();
        let server = self.shared.wires.gateway().unwrap_or(config.node_address);
        let domain = &config.cluster_domain;
        let host_hosts = if uses_host_network(&self.pod) {
            std::fs::read_to_string("/etc/hosts").unwrap_or_default()
        } else {
            String::new()
        };
        let etc = self.dirs.data.join("etc");
        std::fs::create_dir_all(&etc)?;
        let write = |name: &str, text: String| std::fs::write(etc.join(name), text);
        write("resolv.conf", resolv_conf(&self.pod, server, domain, &of_host))?;
        write("hosts", hosts(&self.pod, self.state.ip, domain, &host_hosts))?;
        write("hostname", format!("{}\n", hostname(&self.pod)))
    }

    fn sandbox_spec(&self) -> Result<SandboxSpec, ConfigError> {
        let spec = spec(&self.pod);
        let on_host = uses_host_network(&self.pod);
        let mut labels = BTreeMap::from([
            (LABEL_UID.to_owned(), self.id.uid.clone()),
            (LABEL_NAMESPACE.to_owned(), self.id.namespace.clone()),
            (LABEL_NAME.to_owned(), self.id.name.clone()),
        ]);
        if let Some(ip) = self.state.ip {
            labels.insert(LABEL_ADDRESS.to_owned(), ip.to_string());
        }
        let sysctls = spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
        Ok(SandboxSpec {
            id: self.id.uid.clone(),
            hostname: if on_host { String::new() } else { hostname(&self.pod) },
            host_network: on_host,
            host_pid: spec.host_pid.unwrap_or(false),
            host_ipc: spec.host_ipc.unwrap_or(false),
            sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
            labels,
            cgroup: limits::pod_limits(&self.pod)?,
        })
    }

    /// Tells which ports of the node lead to this pod; none when it has no sandbox.
    pub(super) fn publish_ports(&self) {
        let ports = match self.state.ip.filter(|_| self.state.sandbox == SandboxState::Ready) {
            Some(ip) if self.cell.is_some() => self.host_ports(ip),
            _ => Vec::new(),
        };
        let uid = self.id.uid.clone();
        self.shared.ports.send_if_modified(|all| {
            if ports.is_empty() {
                all.remove(&uid).is_some()
            } else {
                all.insert(uid, ports.clone()).as_ref() != Some(&ports)
            }
        });
    }

    fn host_ports(&self, pod_ip: Ipv4Addr) -> Vec<PodPort> {
        let all = init_containers(&self.pod).iter().chain(containers(&self.pod));
        all.flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| host_port(port, pod_ip))
            .collect()
    }

    /// Removes the sandbox; again and again until it is gone, since nothing else is left to do for this pod.
    pub(super) async fn tear_down(&mut self) {
        self.tasks.clear();
        self.pulls.abort_all();
        if let Some(cell) = self.cell.clone() {
            let mut failures = 0;
            while let Err(error) = cell.remove().await {
                self.still_there(&error, &mut failures).await;
            }
            self.cell = None;
            info!("sandbox removed");
        }
        // What is left of an earlier sandbox may still have the address.
        self.clear_leavings().await;
        self.disconnect().await;
        self.volumes.clear();
        self.volumes_ready = false;
        self.state.sandbox = SandboxState::Absent;
        self.publish_ports();
        if is_over(&self.pod, &self.state) {
            self.remove_volumes().await;
        }
    }

    /// Gives the pod's address back; only when nothing is left that has it.
    pub(super) async fn disconnect(&mut self) {
        if std::mem::take(&mut self.state.holds_address) {
            self.shared.wires.detach(&self.id.uid).await;
        }
    }

    /// Frees what a pod that has ended, and whose object may stay for long, has on the disk; its logs stay.
    async fn remove_volumes(&self) {
        let directories = [self.dirs.data.join("volumes"), self.dirs.run.join("volumes")];
        let work = move || {
            for directory in directories {
                match std::fs::remove_dir_all(&directory) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        warn!(path = %directory.display(), %error, "removing a pod's volumes");
                    }
                    _ => {}
                }
            }
        };
        // It is removed with the pod at the latest.
        drop(tokio::task::spawn_blocking(work).await);
    }

    /// Removes what an earlier sandbox of this pod left and could not be removed then.
    pub(super) async fn clear_leavings(&mut self) {
        let (engine, uid) = (self.shared.engine.clone(), self.id.uid.clone());
        let mut failures = 0;
        while let Err(error) = engine.clear(&uid).await {
            self.still_there(&error, &mut failures).await;
        }
    }

    /// Says that something could not be removed, and waits before the next attempt.
    async fn still_there(&mut self, error: &pontoon_container::Error, failures: &mut u32) {
        let pause = back_off(FIRST_RETRY, LONGEST_RETRY, *failures);
        *failures = failures.saturating_add(1);
        self.event(true, "FailedKillPod", format!("error killing pod: {error}"), None);
        tokio::time::sleep(pause).await;
    }
}

/// The node's port that leads to a container's; none if it has none. What is not understood leads nowhere: validation
/// refuses it, and an address that is none must not become all of them.
fn host_port(port: &ContainerPort, pod_ip: Ipv4Addr) -> Option<PodPort> {
    let number = |n: i32| u16::try_from(n).ok().filter(|&n| n != 0);
    let host_ip = match port.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
        None => None,
        Some(ip) => Some(ip.parse::<Ipv4Addr>().ok().filter(|ip| !ip.is_loopback())?),
    };
    let udp = match port.protocol.as_deref() {
        None | Some("TCP") => false,
        Some("UDP") => true,
        Some(_) => return None,
    };
    Some(PodPort {
        host_ip: host_ip.filter(|ip| !ip.is_unspecified()),
        host_port: number(port.host_port?)?,
        udp,
        pod_ip,
        pod_port: number(port.container_port)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_port_that_is_not_understood_leads_nowhere() {
        let of = |more: serde_json::Value| {
            let mut port = json!({"containerPort": 80, "hostPort": 8080});
            port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            host_port(&serde_json::from_value(port).unwrap(), Ipv4Addr::new(10, 244, 1, 2))
        };
        for nothing in ["::1", "::", "host", "127.0.0.1"] {
            assert_eq!(of(json!({"hostIP": nothing})), None, "{nothing}");
        }
        assert_eq!(of(json!({"protocol": "SCTP"})), None);
        let all = of(json!({"hostIP": "0.0.0.0", "protocol": "UDP"})).unwrap();
        assert_eq!((all.host_ip, all.udp), (None, true));
        let one = of(json!({"hostIP": "192.0.2.1"})).unwrap();
        assert_eq!((one.host_ip, one.udp), (Some(Ipv4Addr::new(192, 0, 2, 1)), false));
    }
}
