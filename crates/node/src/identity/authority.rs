//! The cluster's certificate authority: signs node, server and admin certificates. What a request asks
//! for is never copied into a certificate; only its public key is.

use std::net::{IpAddr, Ipv4Addr};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde::{Deserialize, Serialize};

use super::{ANY_MANAGER, Role, node_dns_name};

/// How long a node certificate is valid; it is renewed at two thirds of that.
pub(crate) const NODE_CERTIFICATE_DAYS: i64 = 90;
/// Attribute of a node's name (X.520 serialNumber) that holds its number in the cluster, in hexadecimal.
pub(crate) const SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];
/// How long the authority itself is valid.
const AUTHORITY_DAYS: i64 = 20 * 365;

/// The authority's certificate and key, PEM. Kept in the replicated store, so that any manager can sign.
#[derive(Clone, Serialize, Deserialize)]
pub struct Authority {
    pub certificate_pem: String,
    key_pem: String,
}

/// What a certificate is to say about its holder.
pub enum Subject<'a> {
    /// A node of the cluster, reached at this address. Its number tells it from others that had its name
    /// before, or will have it. A manager is also reached at the address of the service `kubernetes`.
    Node {
        name: &'a str,
        member: u64,
        role: Role,
        address: IpAddr,
        service: Ipv4Addr,
        cluster: &'a str,
    },
    /// A person with all rights.
    Admin,
}

/// Why the authority could not make or sign something.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("make the cluster's certificate authority")]
    Create(#[source] rcgen::Error),
    #[error("read the cluster's certificate authority")]
    Read(#[source] rcgen::Error),
    #[error("read the certificate request")]
    Request(#[source] rcgen::Error),
    #[error("sign a certificate for {0}")]
    Sign(String, #[source] rcgen::Error),
}

impl Authority {
    /// A new authority for a cluster of this id.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn create(cluster: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Create)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("pontoon-ca-{cluster}"), cluster, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, AUTHORITY_DAYS);
        let certificate = params.self_signed(&key).map_err(AuthorityError::Create)?;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs the public key of a PEM certificate request for the subject. Names and extensions that the
    /// request asks for are ignored.
    ///
    /// # Errors
    /// When the request is malformed or the authority cannot be read.
    pub fn sign(&self, request_pem: &str, subject: &Subject<'_>) -> Result<String, AuthorityError> {
        let key = KeyPair::from_pem(&self.key_pem).map_err(AuthorityError::Read)?;
        let issuer =
            Issuer::from_ca_cert_pem(&self.certificate_pem, key).map_err(AuthorityError::Read)?;
        let mut request = CertificateSigningRequestParams::from_pem(request_pem)
            .map_err(AuthorityError::Request)?;
        let (params, shown) = subject_params(subject)
            .map_err(|source| AuthorityError::Sign("a subject".to_owned(), source))?;
        request.params = params;
        let signed =
            request.signed_by(&issuer).map_err(|source| AuthorityError::Sign(shown, source))?;
        Ok(signed.pem())
    }
}

fn subject_params(subject: &Subject<'_>) -> Result<(CertificateParams, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, NODE_CERTIFICATE_DAYS);
    match *subject {
        Subject::Node { name: node, member, role, address, service, cluster } => {
            params.distinguished_name = name(node, cluster, Some(role.unit()));
            let number = DnType::CustomDnType(SERIAL_NUMBER.to_vec());
            params.distinguished_name.push(number, format!("{member:x}"));
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.subject_alt_names = alternative_names(node, role, address, service)?;
            Ok((params, format!("node {node}")))
        }
        Subject::Admin => {
            params.distinguished_name = name("admin", "system:masters", None);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            set_validity(&mut params, 365);
            Ok((params, "admin".to_owned()))
        }
    }
}

fn alternative_names(
    node: &str,
    role: Role,
    address: IpAddr,
    service: Ipv4Addr,
) -> Result<Vec<SanType>, rcgen::Error> {
    let mut names = vec![node_dns_name(node)];
    if role == Role::Manager {
        let api = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
        names.push(ANY_MANAGER.to_owned());
        names.push(node.to_owned());
        names.extend(api.map(str::to_owned));
        names.push("kubernetes.default.svc.cluster.local".to_owned());
    }
    let mut sans = names
        .into_iter()
        .map(|n| Ok(SanType::DnsName(n.try_into()?)))
        .collect::<Result<Vec<_>, _>>()?;
    // Nobody looks for a worker by its address, and the address is what the worker says it is.
    if role == Role::Manager {
        sans.push(SanType::IpAddress(address));
        sans.push(SanType::IpAddress(service.into()));
        sans.push(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
    }
    Ok(sans)
}

fn name(common: &str, organization: &str, unit: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name.push(DnType::OrganizationName, organization);
    if let Some(unit) = unit {
        name.push(DnType::OrganizationalUnitName, unit);
    }
    name
}

/// Valid from yesterday, so that a clock some hours behind does not refuse a new certificate.
fn set_validity(params: &mut CertificateParams, days: i64) {
    let today = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| {
        let month = u8::try_from(date.month()).expect("a month is 1 to 12");
        let day = u8::try_from(date.day()).expect("a day is 1 to 31");
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = day(today.yesterday().expect("today is not the first day of the calendar"));
    let last = today.saturating_add(jiff::Span::new().days(days));
    params.not_after = day(last);
}
