//! A node's own key and certificate, and what a peer's certificate says about the peer.

use std::net::Ipv4Addr;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use x509_parser::oid_registry::OID_X509_SERIALNUMBER;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Role;

/// A key with the certificate for it and the authority that signed it, all PEM.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    pub certificate_pem: String,
    pub key_pem: String,
    pub authority_pem: String,
}

/// A new key and the request to sign it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Request {
    pub key_pem: String,
    pub request_pem: String,
}

/// Who stands at the other end of a connection, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// Organizations; `system:masters` marks an administrator.
    pub groups: Vec<String>,
    /// The node role, when the certificate is a node's.
    pub role: Option<Role>,
    /// The node's number, when the certificate is a node's.
    pub member: Option<u64>,
}

/// Why credentials could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("make a key and a certificate request")]
    Make(#[source] rcgen::Error),
    #[error("read a certificate or key (PEM)")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("read a certificate: {0}")]
    Der(String),
}

impl Request {
    /// A fresh key and its certificate request.
    ///
    /// # Errors
    /// When no key can be made.
    pub(crate) fn create() -> Result<Self, CredentialsError> {
        Self::of(&KeyPair::generate().map_err(CredentialsError::Make)?)
    }

    /// A request made with a key that is there already (PEM).
    ///
    /// # Errors
    /// When the key is malformed.
    pub(crate) fn with_key(key_pem: &str) -> Result<Self, CredentialsError> {
        Self::of(&KeyPair::from_pem(key_pem).map_err(CredentialsError::Make)?)
    }

    fn of(key: &KeyPair) -> Result<Self, CredentialsError> {
        let request = CertificateParams::default()
            .serialize_request(key)
            .and_then(|request| request.pem())
            .map_err(CredentialsError::Make)?;
        Ok(Self { key_pem: key.serialize_pem(), request_pem: request })
    }
}

impl Credentials {
    /// The chain to present: the leaf alone, since peers know the authority.
    ///
    /// # Errors
    /// When the PEM is malformed.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
        certificates(&self.certificate_pem)
    }

    /// The private key.
    ///
    /// # Errors
    /// When the PEM is malformed.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, CredentialsError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(CredentialsError::Pem)
    }

    /// The authority's certificate.
    ///
    /// # Errors
    /// When the PEM is malformed.
    pub fn authority(&self) -> Result<CertificateDer<'static>, CredentialsError> {
        CertificateDer::from_pem_slice(self.authority_pem.as_bytes()).map_err(CredentialsError::Pem)
    }

    /// Seconds since the epoch between which the certificate is valid.
    ///
    /// # Errors
    /// When the certificate is malformed.
    pub fn validity(&self) -> Result<(i64, i64), CredentialsError> {
        let chain = self.chain()?;
        let leaf =
            chain.first().ok_or_else(|| CredentialsError::Der("no certificate".to_owned()))?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|e| CredentialsError::Der(e.to_string()))?;
        let validity = parsed.validity();
        Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
    }

    /// Whether the certificate's life is over at `now` (seconds since the epoch).
    #[must_use]
    pub fn has_expired(&self, now: i64) -> bool {
        self.validity().is_ok_and(|(_, to)| now > to)
    }

    /// Whether the certificate is for a server at this address, too. Those made before 2026-11-25 lack the address of the
    /// service of the cluster's API.
    #[must_use]
    pub fn is_for(&self, address: Ipv4Addr) -> bool {
        let chain = self.chain().unwrap_or_default();
        let parsed = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
        let names = parsed.as_ref().and_then(|(_, leaf)| leaf.subject_alternative_name().ok()?);
        names.is_some_and(|names| {
            names.value.general_names.contains(&GeneralName::IPAddress(&address.octets()))
        })
    }

    /// Whether two thirds of the certificate's life are over at `now` (seconds since the epoch).
    #[must_use]
    pub fn wants_renewal(&self, now: i64) -> bool {
        self.validity().map_or(true, |(from, to)| now >= from + (to - from) / 3 * 2)
    }
}

impl Peer {
    /// Reads who a verified certificate belongs to.
    ///
    /// # Errors
    /// When the certificate is malformed or has no common name.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, CredentialsError> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|e| CredentialsError::Der(e.to_string()))?;
        let subject = parsed.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().ok().map(str::to_owned)
        };
        let name = subject
            .iter_common_name()
            .find_map(text)
            .ok_or_else(|| CredentialsError::Der("no common name".to_owned()))?;
        let unit = subject.iter_organizational_unit().find_map(text);
        let role = [Role::Manager, Role::Worker]
            .into_iter()
            .find(|role| unit.as_deref() == Some(role.unit()));
        let groups = subject.iter_organization().filter_map(text).collect();
        let number = subject.iter_by_oid(&OID_X509_SERIALNUMBER).find_map(text);
        let member = number.and_then(|number| u64::from_str_radix(&number, 16).ok());
        Ok(Self { name, groups, role, member })
    }
}

/// All certificates of a PEM text.
///
/// # Errors
/// When the PEM is malformed.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(CredentialsError::Pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::authority::{Authority, Subject};
    use std::net::Ipv4Addr;

    #[test]
    fn the_authority_decides_what_a_certificate_says() {
        let authority = Authority::create("c1").unwrap();
        let key = KeyPair::generate().unwrap();
        let mut greedy = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        greedy.distinguished_name.push(rcgen::DnType::CommonName, "admin");
        let request = greedy.serialize_request(&key).unwrap().pem().unwrap();
        let address = "192.0.2.1".parse().unwrap();
        let (name, member, role, cluster) = ("n1", 0x1f, Role::Worker, "c1");
        let subject = Subject::Node {
            name,
            member,
            role,
            address,
            service: Ipv4Addr::new(10, 96, 0, 1),
            cluster,
        };
        let signed = authority.sign(&request, &subject).unwrap();
        let leaf = &certificates(&signed).unwrap()[0];
        let peer = Peer::of(leaf).unwrap();
        assert_eq!((peer.name.as_str(), peer.role), ("n1", Some(Role::Worker)));
        assert_eq!(peer.member, Some(0x1f));
        let (_, parsed) = X509Certificate::from_der(leaf).unwrap();
        let names = format!("{:?}", parsed.subject_alternative_name());
        assert!(!names.contains("evil"), "{names}");
        assert!(!names.contains("IPAddress"), "a worker's certificate names an address: {names}");
        assert!(!names.contains("manager"), "a worker's certificate names it a manager: {names}");
    }

    #[test]
    fn a_manager_s_certificate_tells_where_it_is_good_for() {
        let authority = Authority::create("c1").unwrap();
        let request = Request::create().unwrap();
        let subject = Subject::Node {
            name: "n1",
            member: 1,
            role: Role::Manager,
            address: "192.0.2.1".parse().unwrap(),
            service: Ipv4Addr::new(10, 96, 0, 1),
            cluster: "c1",
        };
        let certificate_pem = authority.sign(&request.request_pem, &subject).unwrap();
        let key_pem = request.key_pem;
        let credentials = Credentials { certificate_pem, key_pem, authority_pem: String::new() };
        for (address, good) in
            [([10, 96, 0, 1], true), ([192, 0, 2, 1], true), ([10, 96, 0, 2], false)]
        {
            assert_eq!(credentials.is_for(address.into()), good, "{address:?}");
        }
    }
}
