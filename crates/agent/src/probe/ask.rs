//! One question to a container: a command, a GET, a connection; or a hook, which is asked the same way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::http::{Target, get};
use crate::engine::Cell;
use crate::pod::spec::port_number;

/// The container that is asked: its run in the sandbox and the pod's address.
#[derive(Clone)]
pub(crate) struct Asked {
    pub cell: Arc<dyn Cell>,
    pub container_id: String,
    pub address: IpAddr,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Question {
    Exec(Vec<String>),
    Http(Target),
    Tcp(SocketAddr),
    Sleep(Duration),
    /// Cannot be asked, for this reason.
    Wrong(String),
}

/// A good answer, or why there is none.
pub(crate) type Outcome = Result<(), String>;

impl Question {
    /// What `probe` of `container` asks; `address` is the pod's.
    pub(crate) fn of_probe(container: &Container, probe: &Probe, address: IpAddr) -> Self {
        if let Some(exec) = &probe.exec {
            Self::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(get) = &probe.http_get {
            http(container, get, address)
        } else if let Some(tcp) = &probe.tcp_socket {
            connection(container, &tcp.port, tcp.host.as_deref(), address)
        } else {
            Self::Wrong("a gRPC probe, which Pontoon does not serve".to_owned())
        }
    }

    /// What a lifecycle hook does.
    pub(crate) fn of_hook(container: &Container, hook: &LifecycleHandler, address: IpAddr) -> Self {
        if let Some(exec) = &hook.exec {
            Self::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(get) = &hook.http_get {
            http(container, get, address)
        } else if let Some(sleep) = &hook.sleep {
            Self::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)))
        } else {
            Self::Wrong("a hook of a kind that Pontoon does not serve".to_owned())
        }
    }

    /// Asks, for at most `patience`.
    pub(crate) async fn ask(&self, asked: &Asked, patience: Duration) -> Outcome {
        match timeout(patience, self.ask_patiently(asked)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {patience:?}")),
        }
    }

    async fn ask_patiently(&self, asked: &Asked) -> Outcome {
        match self {
            Self::Exec(argv) => match asked.cell.run(&asked.container_id, argv.clone()).await {
                Ok(ran) if ran.code == 0 => Ok(()),
                Ok(ran) => Err(format!("command exited with {}: {}", ran.code, ran.output.trim())),
                Err(error) => Err(error.to_string()),
            },
            Self::Http(target) => match get(target).await {
                Ok(answer) if answer.status.as_u16() < 400 => Ok(()),
                Ok(answer) => {
                    Err(format!("HTTP probe failed with statuscode: {}", answer.status.as_u16()))
                }
                Err(error) => Err(error.to_string()),
            },
            Self::Tcp(address) => match TcpStream::connect(address).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("dial tcp {address}: {error}")),
            },
            Self::Sleep(time) => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
            Self::Wrong(reason) => Err(reason.clone()),
        }
    }
}

fn http(container: &Container, get: &HTTPGetAction, address: IpAddr) -> Question {
    let (address, port) = match connection(container, &get.port, get.host.as_deref(), address) {
        Question::Tcp(address) => (address.ip(), address.port()),
        wrong => return wrong,
    };
    let pair = |header: &k8s_openapi::api::core::v1::HTTPHeader| {
        (header.name.clone(), header.value.clone())
    };
    Question::Http(Target {
        address,
        port,
        tls: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        path: get.path.clone().unwrap_or_default(),
        headers: get.http_headers.iter().flatten().map(pair).collect(),
    })
}

/// The address to connect to. A host must be given as an address: asking a name server here would be asking the node's.
fn connection(
    container: &Container,
    port: &IntOrString,
    host: Option<&str>,
    address: IpAddr,
) -> Question {
    let Some(port) = port_number(container, port) else {
        return Question::Wrong(format!("port {port:?} is not one of the container's"));
    };
    match host.filter(|host| !host.is_empty()).map(str::parse::<IpAddr>) {
        None => Question::Tcp(SocketAddr::new(address, port)),
        Some(Ok(address)) => Question::Tcp(SocketAddr::new(address, port)),
        Some(Err(_)) => Question::Wrong("its host must be an IP address".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn question(probe: Value) -> Question {
        let container = serde_json::from_value(
            json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}),
        )
        .unwrap();
        let address = "10.244.1.2".parse().unwrap();
        Question::of_probe(&container, &serde_json::from_value(probe).unwrap(), address)
    }

    #[test]
    fn ports_by_number_and_name() {
        for (port, expected) in [(json!(80), 80), (json!("web"), 8080), (json!("81"), 81)] {
            let asked = question(json!({"tcpSocket": {"port": port}}));
            assert_eq!(asked, Question::Tcp(format!("10.244.1.2:{expected}").parse().unwrap()));
        }
        let wrong = question(json!({"tcpSocket": {"port": "none"}}));
        assert!(matches!(wrong, Question::Wrong(_)));
    }

    #[test]
    fn http_probes_go_to_the_pod_unless_told() {
        let asked = question(json!({"httpGet": {"port": "web", "path": "/h", "scheme": "HTTPS",
            "httpHeaders": [{"name": "A", "value": "b"}]}}));
        let target = Target {
            address: "10.244.1.2".parse().unwrap(),
            port: 8080,
            tls: true,
            path: "/h".into(),
            headers: vec![("A".into(), "b".into())],
        };
        assert_eq!(asked, Question::Http(target));
        let other = question(json!({"httpGet": {"port": 1, "host": "example.org"}}));
        assert!(matches!(other, Question::Wrong(_)));
    }
}
