//! A node whose certificate expired while it was off: the old one and a request signed with its key get it another,
//! for a limited time after the end.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, UnixTime, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use crate::cluster::Records;
use crate::identity::certificate::{Peer, Request, certificates};
use crate::join::sign;
use crate::membership::Membership;
use crate::rpc::server::RenewAnswer;
use crate::rpc::{Refusal, chain, client};

/// How long after its end a certificate still gets its node another. Longer, and the node joins again: whoever
/// finds an old disk should not find a way in for ever.
pub(crate) const REVIVAL_DAYS: i64 = 30;

/// A node asks. The request is signed with the key of the certificate, so nobody gains by repeating it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Revival {
    pub certificate_pem: String,
    pub request_pem: String,
}

/// Asks the managers, one after the other, for a certificate in place of one that has expired. Answers the
/// membership with it.
///
/// # Errors
/// The refusal of a manager, or that none can be reached.
pub(crate) async fn ask(membership: &Membership) -> Result<Membership, Refusal> {
    let credentials = &membership.credentials;
    let request = Request::with_key(&credentials.key_pem).map_err(|e| Refusal::internal(&e))?;
    let body = Revival {
        certificate_pem: credentials.certificate_pem.clone(),
        request_pem: request.request_pem,
    };
    let mut last = Refusal::unavailable("no manager is known");
    for manager in membership.managers.iter().filter(|m| m.name != membership.node) {
        match ask_one(manager.address, &credentials.authority_pem, &body).await {
            Ok(answer) => {
                let mut renewed = membership.clone();
                (renewed.role, renewed.store) = (answer.role, answer.store);
                renewed.credentials.certificate_pem = answer.certificate_pem;
                return Ok(renewed);
            }
            // Another one may be in contact, or reached.
            Err(refusal) if refusal.status >= 500 => last = refusal,
            Err(refusal) => return Err(refusal),
        }
    }
    Err(last)
}

async fn ask_one(
    manager: SocketAddr,
    authority: &str,
    body: &Revival,
) -> Result<RenewAnswer, Refusal> {
    client::ask_once(manager, Some(authority), (Method::POST, "/v1/revive"), body).await
}

/// A manager's answer.
///
/// # Errors
/// When the certificate is not the cluster's, not the asker's, expired too long ago, or of a node that is no
/// member.
pub(crate) async fn answer(
    records: &Records,
    authority_pem: &str,
    asked: &Revival,
    now: i64,
) -> Result<RenewAnswer, Refusal> {
    let peer = check(authority_pem, asked, now)?;
    records.admitted(&peer).await?;
    let cluster = records.cluster().await?;
    let newest = records.node(&peer.name, pontoon_store::Read::Linearizable).await?;
    let node = newest.filter(|node| node.is_of(&peer));
    let node = node.ok_or_else(|| crate::cluster::no_such_node(&peer.name))?;
    let certificate_pem = sign(&cluster, &node, &asked.request_pem)?;
    tracing::info!(node = peer.name, "an expired certificate is replaced");
    Ok(RenewAnswer { certificate_pem, role: node.role, store: node.store })
}

/// Who asks, if it can be proven.
fn check(authority_pem: &str, asked: &Revival, now: i64) -> Result<Peer, Refusal> {
    let wrong = |e: &(dyn std::error::Error + 'static)| {
        Refusal::forbidden(format!("replace an expired certificate: {}", chain(e)))
    };
    let leaf = CertificateDer::from_pem_slice(asked.certificate_pem.as_bytes());
    let leaf = leaf.map_err(|e| wrong(&e))?;
    let (_, certificate) = X509Certificate::from_der(&leaf).map_err(|e| wrong(&e))?;
    let ended = certificate.validity().not_after.timestamp();
    verify(authority_pem, &leaf, ended.min(now)).map_err(|e| wrong(&*e))?;
    let request = CertificateSigningRequestDer::from_pem_slice(asked.request_pem.as_bytes());
    let request = request.map_err(|e| wrong(&e))?;
    let (_, request) = X509CertificationRequest::from_der(&request).map_err(|e| wrong(&e))?;
    // That the request is signed with this key is checked when it is signed for.
    if request.certification_request_info.subject_pki.raw != certificate.public_key().raw {
        return Err(Refusal::forbidden(
            "replace an expired certificate: the request is not made with the certificate's key",
        ));
    }
    let peer = Peer::of(&leaf).map_err(|e| wrong(&e))?;
    if peer.role.is_none() {
        return Err(Refusal::forbidden("replace an expired certificate: it is no node's"));
    }
    if now > ended + REVIVAL_DAYS * 24 * 3600 {
        let name = &peer.name;
        return Err(Refusal::forbidden(format!(
            "the certificate of node {name} expired more than {REVIVAL_DAYS} days ago, at {}: \
             run `pontoon node rm {name} --force` on a manager and `pontoon leave --force` on {name}, then join again",
            Timestamp::from_second(ended).unwrap_or_default()
        )));
    }
    Ok(peer)
}

/// Checks that the authority signed a client's certificate, as of a second at which it was valid.
fn verify(
    authority_pem: &str,
    leaf: &CertificateDer<'_>,
    second: i64,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(authority_pem)? {
        roots.add(authority)?;
    }
    let provider = crate::tls::provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build()?;
    let second = Duration::from_secs(u64::try_from(second)?);
    verifier.verify_client_cert(leaf, &[], UnixTime::since_unix_epoch(second))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;
    use crate::identity::authority::{Authority, Subject};
    use std::net::Ipv4Addr;

    const DAY: i64 = 24 * 3600;

    fn signed(authority: &Authority, request: &Request, role: Option<Role>) -> String {
        let node = |role| Subject::Node {
            name: "n1",
            member: 7,
            role,
            address: "192.0.2.1".parse().unwrap(),
            service: Ipv4Addr::new(10, 96, 0, 1),
            cluster: "c",
        };
        let subject = role.map_or(Subject::Admin, node);
        authority.sign(&request.request_pem, &subject).unwrap()
    }

    /// What a manager says, so many days after the certificate's end.
    fn said(authority: &Authority, asked: &Revival, days: i64) -> Result<Peer, String> {
        let leaf = CertificateDer::from_pem_slice(asked.certificate_pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&leaf).unwrap();
        let now = certificate.validity().not_after.timestamp() + days * DAY;
        check(&authority.certificate_pem, asked, now).map_err(|refusal| refusal.message)
    }

    #[test]
    fn who_holds_the_key_of_an_expired_certificate_gets_another_for_a_while() {
        let authority = Authority::create("c").unwrap();
        let request = Request::create().unwrap();
        let certificate_pem = signed(&authority, &request, Some(Role::Worker));
        let again = Request::with_key(&request.key_pem).unwrap();
        let asked = Revival { certificate_pem, request_pem: again.request_pem };
        for days in [-60, -1, 1, REVIVAL_DAYS - 1] {
            let peer = said(&authority, &asked, days).unwrap();
            assert_eq!((peer.name.as_str(), peer.member), ("n1", Some(7)), "{days}");
        }
        let late = said(&authority, &asked, REVIVAL_DAYS + 1).unwrap_err();
        assert!(late.contains("30 days") && late.contains("pontoon leave --force"), "{late}");
    }

    #[test]
    fn nobody_else_gets_one() {
        let (authority, other) = (Authority::create("c").unwrap(), Authority::create("c").unwrap());
        let (request, stranger) = (Request::create().unwrap(), Request::create().unwrap());
        let own = |certificate_pem| Revival {
            certificate_pem,
            request_pem: Request::with_key(&request.key_pem).unwrap().request_pem,
        };
        let stolen = Revival {
            certificate_pem: signed(&authority, &request, Some(Role::Manager)),
            request_pem: stranger.request_pem,
        };
        let refused = said(&authority, &stolen, 1).unwrap_err();
        assert!(refused.contains("not made with the certificate's key"), "{refused}");
        let foreign = own(signed(&other, &request, Some(Role::Worker)));
        assert!(said(&authority, &foreign, 1).is_err(), "another authority's");
        let admin = own(signed(&authority, &request, None));
        assert!(said(&authority, &admin, 1).unwrap_err().contains("no node's"));
        for garbage in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
        {
            let asked = own(garbage.to_owned());
            assert!(check(&authority.certificate_pem, &asked, 0).is_err(), "{garbage:?}");
        }
    }
}
