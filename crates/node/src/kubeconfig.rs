//! The administrator's kubeconfig: a client certificate with all rights, good for a year.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cluster::Cluster;
use crate::config::KUBE_PORT;
use crate::identity::authority::Subject;
use crate::identity::certificate::{Credentials, Request};
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
    let server = SocketAddr::new(address, KUBE_PORT);
    Ok(format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: pontoon\n\
         clusters:\n- name: pontoon\n  cluster:\n    server: https://{server}\n    certificate-authority-data: {}\n\
         users:\n- name: admin\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n\
         contexts:\n- name: pontoon\n  context:\n    cluster: pontoon\n    user: admin\n",
        STANDARD.encode(&cluster.authority.certificate_pem),
        STANDARD.encode(certificate),
        STANDARD.encode(&request.key_pem),
    ))
}
