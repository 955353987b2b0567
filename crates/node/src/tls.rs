//! TLS between nodes and towards clients: one set of configurations made from a node's credentials,
//! replaced as a whole when the certificate is renewed.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::identity::certificate::{Credentials, CredentialsError, Peer};

/// Protocol name (ALPN) of a raft stream between managers.
pub(crate) const ALPN_STORE: &[u8] = b"pontoon-store";
/// Protocol name (ALPN) of HTTP/2.
pub(crate) const ALPN_H2: &[u8] = b"h2";
/// Protocol name (ALPN) of HTTP/1.1.
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";

/// How long a connection attempt with its handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take for its handshake before it is cut off.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("use the node's credentials")]
    Credentials(#[from] CredentialsError),
    #[error("configure TLS")]
    Rustls(#[from] rustls::Error),
    #[error("configure the check of client certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A node's TLS, in both directions. Cheap to clone; a renewal is seen by all clones.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<RwLock<Configs>>,
}

struct Configs {
    credentials: Credentials,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// TLS with these credentials: every client certificate must be the cluster's, and a connection
    /// without one is let in for the caller to restrict (joining, and the message that says "401").
    ///
    /// # Errors
    /// When the credentials are malformed.
    pub fn new(credentials: Credentials) -> Result<Self, TlsError> {
        Ok(Self { inner: Arc::new(RwLock::new(Configs::new(credentials)?)) })
    }

    /// Goes on with renewed credentials; connections that stand keep the old ones.
    ///
    /// # Errors
    /// When the credentials are malformed; the old ones stay.
    pub fn replace(&self, credentials: Credentials) -> Result<(), TlsError> {
        let configs = Configs::new(credentials)?;
        *self.inner.write().expect("no writer panics while it holds the lock") = configs;
        Ok(())
    }

    /// The credentials in use.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        self.read().credentials.clone()
    }

    /// Accepts one connection; clients may offer any of the protocol names given.
    ///
    /// # Errors
    /// When the handshake fails or takes longer than [`HANDSHAKE_TIMEOUT`].
    pub async fn accept(
        &self,
        stream: TcpStream,
        protocols: &[&[u8]],
    ) -> io::Result<(server::TlsStream<TcpStream>, Option<Peer>)> {
        let mut config = ServerConfig::clone(&self.read().server);
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        let handshake = TlsAcceptor::from(Arc::new(config)).accept(stream);
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await??;
        let peer = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(Peer::of);
        let peer = peer.transpose().map_err(io::Error::other)?;
        Ok((stream, peer))
    }

    /// Connects to a node that must prove to be `name` (see [`crate::identity::ANY_MANAGER`]).
    ///
    /// # Errors
    /// When there is no answer in time, or the other end is not who it should be.
    pub async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
        protocol: &[u8],
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let mut config = ClientConfig::clone(&self.read().client);
        config.alpn_protocols = vec![protocol.to_vec()];
        dial(config, address, name).await
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Configs> {
        self.inner.read().expect("no writer panics while it holds the lock")
    }
}

impl Configs {
    fn new(credentials: Credentials) -> Result<Self, TlsError> {
        let roots = Arc::new(roots(&credentials.authority_pem)?);
        let provider = provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(credentials.chain()?, credentials.key()?)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(credentials.chain()?, credentials.key()?)?;
        Ok(Self { credentials, server: Arc::new(server), client: Arc::new(client) })
    }
}

/// Connects without a certificate of one's own, verifying the server against `authority_pem`; with
/// `None` anybody is believed, which is only good for asking who the authority is.
///
/// # Errors
/// When there is no answer in time or the other end cannot be verified.
pub(crate) async fn connect_anonymous(
    address: SocketAddr,
    name: &str,
    authority_pem: Option<&str>,
) -> io::Result<client::TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = match authority_pem {
        Some(pem) => builder.with_root_certificates(roots(pem).map_err(io::Error::other)?),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone { provider: provider() })),
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    dial(config, address, name).await
}

/// Has the kernel end a connection whose other end has lost its power, or its cable: nobody else notices where nothing is
/// sent, as while a log is followed.
///
/// # Errors
/// When the kernel does not know of it.
pub(crate) fn notice_death(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(2))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    // The same where something was sent and not acknowledged.
    sockopt::set_tcp_user_timeout(stream, 12_000)?;
    Ok(())
}

async fn dial(
    config: ClientConfig,
    address: SocketAddr,
    name: &str,
) -> io::Result<client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        notice_death(&stream)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connect).await?
}

fn roots(authority_pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in crate::identity::certificate::certificates(authority_pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The one cryptography provider of the process.
#[must_use]
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Believes any server: for the first question of a joining node, whose answer is then checked
/// against the digest in its token.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
