//! The administrator's kubeconfig: a client certificate with all rights, good for a year.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cluster::Cluster;
use crate::config::{KUBE_PORT, parse_address};
use crate::identity::authority::Subject;
use crate::identity::certificate::{Credentials, Request};
use crate::membership::ManagerAddress;
use crate::rpc::Refusal;

/// Whether the certificate in a kubeconfig that [`make`] made is old; one that cannot be read is, too.
#[must_use]
pub(crate) fn wants_renewal(text: &str, now: i64) -> bool {
    let data = text.lines().find_map(|line| line.trim().strip_prefix("client-certificate-data: "));
    let pem = data.and_then(|data| STANDARD.decode(data.trim()).ok());
    let Some(certificate_pem) = pem.and_then(|pem| String::from_utf8(pem).ok()) else {
        return true;
    };
    let (key_pem, authority_pem) = (String::new(), String::new());
    Credentials { certificate_pem, key_pem, authority_pem }.wants_renewal(now)
}

/// A new kubeconfig for the API at this address.
///
/// # Errors
/// When no key or certificate can be made.
pub(crate) fn make(cluster: &Cluster, address: IpAddr) -> Result<String, Refusal> {
    let request = Request::create().map_err(|e| Refusal::internal(&e))?;
    let certificate = cluster.authority.sign(&request.request_pem, &Subject::Admin);
    let certificate = certificate.map_err(|e| Refusal::internal(&e))?;
    let secrets = Secrets {
        authority: STANDARD.encode(&cluster.authority.certificate_pem),
        certificate: STANDARD.encode(certificate),
        key: STANDARD.encode(&request.key_pem),
    };
    Ok(render(&secrets, &[(NAME.to_owned(), SocketAddr::new(address, KUBE_PORT).to_string())]))
}

/// The context that is the current one.
const NAME: &str = "pontoon";
/// What every manager's certificate is for, under whatever address it is reached.
const ANY_SERVER: &str = "kubernetes.default.svc";

struct Secrets {
    authority: String,
    certificate: String,
    key: String,
}

/// Where the API of a manager is reached that is given by name, or of one at an address of another kind.
///
/// # Errors
/// When it is neither a manager's name nor an address.
pub(crate) fn host_of(server: &str, managers: &[ManagerAddress]) -> Result<String, Refusal> {
    if let Some(manager) = managers.iter().find(|manager| manager.name == server) {
        return Ok(manager.address.ip().to_string());
    }
    // A name that has dots, or an address: of a load balancer, or this one's as it is seen from elsewhere.
    if server.contains(['.', ':']) && is_host(server) {
        return Ok(server.to_owned());
    }
    let names: Vec<&str> = managers.iter().map(|manager| manager.name.as_str()).collect();
    Err(Refusal::not_found(format!(
        "--server {server:?} is neither a manager ({}) nor an address HOST.DOMAIN[:PORT] or ADDR[:PORT]",
        names.join(", ")
    )))
}

fn is_host(text: &str) -> bool {
    let is_of_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let port = text.rsplit_once(':').map(|(_, port)| port);
    text.len() <= 260
        && text.chars().all(is_of_host)
        && (parse_address(text, KUBE_PORT).is_some()
            || (port.is_none_or(|port| port.parse::<u16>().is_ok())
                && text.matches(':').count() <= 1))
}

/// A kubeconfig that [`make`] made, with `first` as the current server, and a context for every manager under its name.
///
/// # Errors
/// When it is not one that this version wrote.
pub(crate) fn with_all(
    text: &str,
    first: &str,
    managers: &[ManagerAddress],
) -> Result<String, Refusal> {
    let value = |key: &str| {
        let found = text.lines().find_map(|line| line.trim().strip_prefix(key));
        found.map(|value| value.trim().to_owned()).ok_or_else(|| {
            Refusal::unavailable(format!("this manager's kubeconfig is damaged: it has no {key}"))
        })
    };
    let secrets = Secrets {
        authority: value("certificate-authority-data: ")?,
        certificate: value("client-certificate-data: ")?,
        key: value("client-key-data: ")?,
    };
    let current = match parse_address(first, KUBE_PORT) {
        Some(address) => address.to_string(),
        None if first.contains(':') => first.to_owned(),
        None => format!("{first}:{KUBE_PORT}"),
    };
    let api_of = |m: &ManagerAddress| SocketAddr::new(m.address.ip(), KUBE_PORT).to_string();
    let mut servers = vec![(NAME.to_owned(), current)];
    servers.extend(managers.iter().map(|m| (format!("{NAME}-{}", m.name), api_of(m))));
    Ok(render(&secrets, &servers))
}

/// The text for these contexts, of which the first is the current one.
fn render(secrets: &Secrets, servers: &[(String, String)]) -> String {
    let Secrets { authority, certificate, key } = secrets;
    let clusters: String = servers
        .iter()
        .map(|(name, server)| {
            format!(
                "- name: {name}\n  cluster:\n    server: https://{server}\n    tls-server-name: {ANY_SERVER}\n    \
                 certificate-authority-data: {authority}\n"
            )
        })
        .collect();
    let contexts: String = servers
        .iter()
        .map(|(name, _)| {
            format!("- name: {name}\n  context:\n    cluster: {name}\n    user: admin\n")
        })
        .collect();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {NAME}\nclusters:\n{clusters}\
         users:\n- name: admin\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n\
         contexts:\n{contexts}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managers() -> Vec<ManagerAddress> {
        ["a", "b"]
            .into_iter()
            .zip(1..)
            .map(|(name, n)| ManagerAddress {
                name: name.to_owned(),
                address: SocketAddr::from(([192, 0, 2, n], 2377)),
                member: u64::from(n),
            })
            .collect()
    }

    #[test]
    fn every_manager_has_a_context_and_the_first_is_the_current_one() {
        let kept = "certificate-authority-data: QQ==\nclient-certificate-data: Qg==\nclient-key-data: Qw==\n";
        let all = with_all(kept, "192.0.2.1", &managers()).unwrap();
        assert!(all.contains("current-context: pontoon\n"), "{all}");
        assert!(all.contains("- name: pontoon\n  cluster:\n    server: https://192.0.2.1:6443"));
        assert!(all.contains("- name: pontoon-b\n  cluster:\n    server: https://192.0.2.2:6443"));
        assert!(all.contains("- name: pontoon-a\n  cluster:\n    server: https://192.0.2.1:6443"));
        let named = host_of("b", &managers()).unwrap();
        let from_b = with_all(kept, &named, &managers()).unwrap();
        assert!(from_b.contains("name: pontoon\n  cluster:\n    server: https://192.0.2.2:6443"));
        assert!(from_b.contains("pontoon-a") && from_b.contains("pontoon-b"), "{from_b}");
        let balanced = with_all(kept, "api.example.org:443", &managers()).unwrap();
        assert!(balanced.contains("server: https://api.example.org:443\n"), "{balanced}");
        assert!(with_all("", "192.0.2.1", &managers()).is_err());
    }

    #[test]
    fn a_server_is_a_manager_or_an_address() {
        for good in ["a", "192.0.2.9", "192.0.2.9:443", "api.example.org", "[2001:db8::1]:443"] {
            assert!(host_of(good, &managers()).is_ok(), "{good}");
        }
        for bad in ["c", "", "a.b:http", "https://a.b", "a.b\nkey: 1", "a b.c", "a.b:1:2"] {
            assert!(host_of(bad, &managers()).is_err(), "{bad:?}");
        }
    }
}
