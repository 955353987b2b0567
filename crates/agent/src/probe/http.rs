//! One HTTP GET, as probes and hooks do it: HTTP/1.1, any certificate, no redirect to another host.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
};

const MOST_REDIRECTS: usize = 10;
const MOST_BODY_BYTES: usize = 10 * 1024;

/// What to get.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub address: IpAddr,
    pub port: u16,
    pub tls: bool,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// The answer: its status and the beginning of its body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub body: String,
}

/// Why there was no answer.
#[derive(Debug, Error)]
pub(crate) enum GetError {
    #[error("connecting to {address}: {source}")]
    Connect { address: SocketAddr, source: std::io::Error },
    #[error("invalid request: {0}")]
    Request(#[from] http::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("more than {MOST_REDIRECTS} redirects")]
    Redirects,
}

/// Gets `target`, following redirects on the same host and port only. One that leads elsewhere is the answer.
pub(crate) async fn get(target: &Target) -> Result<Answer, GetError> {
    let mut target = target.clone();
    for _ in 0..=MOST_REDIRECTS {
        let (answer, location) = get_once(&target).await?;
        match location.filter(|_| answer.status.is_redirection()) {
            Some(location) => match same_host(&target, &location) {
                Some(path) => target.path = path,
                None => return Ok(answer),
            },
            None => return Ok(answer),
        }
    }
    Err(GetError::Redirects)
}

/// The path to go on with if `location` is on the host that was asked.
fn same_host(target: &Target, location: &str) -> Option<String> {
    let uri: Uri = location.parse().ok()?;
    let path = uri.path_and_query().map(ToString::to_string)?;
    let Some(host) = uri.host() else {
        // Two slashes are the beginning of a host.
        return (path.starts_with('/') && !path.starts_with("//")).then_some(path);
    };
    let scheme = if target.tls { "https" } else { "http" };
    let default_port = if target.tls { 443 } else { 80 };
    let same = host.trim_matches(['[', ']']).parse() == Ok(target.address)
        && uri.port_u16().unwrap_or(default_port) == target.port
        && uri.scheme_str() == Some(scheme);
    same.then_some(path)
}

async fn get_once(target: &Target) -> Result<(Answer, Option<String>), GetError> {
    let address = SocketAddr::new(target.address, target.port);
    let failed = |source| GetError::Connect { address, source };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    if !target.tls {
        return send(stream, target).await;
    }
    let name = ServerName::IpAddress(target.address.into());
    let connector = TlsConnector::from(tls_config().map_err(GetError::Tls)?);
    send(connector.connect(name, stream).await.map_err(GetError::Tls)?, target).await
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
) -> Result<(Answer, Option<String>), GetError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = request(target)?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let status = response.status();
        // A body that is too long or breaks off does not change the answer.
        let body = Limited::new(response.into_body(), MOST_BODY_BYTES).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok((Answer { status, body }, location))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection ended; what it brought may still be read.
        _ = connection => exchange.await,
    }
}

fn request(target: &Target) -> Result<Request<Empty<bytes::Bytes>>, http::Error> {
    let path = if target.path.starts_with('/') {
        target.path.clone()
    } else {
        format!("/{}", target.path)
    };
    let mut request = Request::get(path).body(Empty::new())?;
    let headers = request.headers_mut();
    for (name, value) in &target.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    if !headers.contains_key(header::HOST) {
        let host = SocketAddr::new(target.address, target.port).to_string();
        headers.insert(header::HOST, HeaderValue::try_from(host)?);
    }
    if !headers.contains_key(header::USER_AGENT) {
        headers.insert(header::USER_AGENT, HeaderValue::from_static("kube-probe/pontoon"));
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

/// A container's certificate is its own affair: a probe asks whether it serves, not who it is.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn tls_config() -> Result<Arc<ClientConfig>, std::io::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that answers each connection with the next text and keeps the requests' first lines.
    async fn server(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 2048];
                let length = stream.read(&mut buffer).await.unwrap();
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                asked.push(text.lines().next().unwrap_or_default().to_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (port, served)
    }

    fn target(port: u16) -> Target {
        let address = Ipv4Addr::LOCALHOST.into();
        Target { address, port, tls: false, path: "/health".into(), headers: vec![] }
    }

    fn redirect(to: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    #[tokio::test]
    async fn the_answer_is_status_and_text() {
        let (port, served) = server(vec![OK.into()]).await;
        let answer = get(&target(port)).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "ok"));
        assert_eq!(served.await.unwrap(), ["GET /health HTTP/1.1"]);
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_only() {
        let (port, served) = server(vec![redirect("/next"), OK.into()]).await;
        assert_eq!(get(&target(port)).await.unwrap().status, StatusCode::OK);
        assert_eq!(served.await.unwrap()[1], "GET /next HTTP/1.1");
        let (port, _) = server(vec![redirect("http://169.254.169.254/secret")]).await;
        assert_eq!(get(&target(port)).await.unwrap().status, StatusCode::FOUND);
    }

    #[tokio::test]
    async fn a_circle_of_redirects_ends() {
        let (port, _) = server(vec![redirect("/health"); 20]).await;
        assert!(matches!(get(&target(port)).await, Err(GetError::Redirects)));
    }

    #[test]
    fn another_port_or_scheme_is_another_host() {
        let target = target(8080);
        assert_eq!(same_host(&target, "http://127.0.0.1:8080/x?y").as_deref(), Some("/x?y"));
        for other in ["http://127.0.0.1/x", "https://127.0.0.1:8080/x", "//evil/x", "x y"] {
            assert_eq!(same_host(&target, other), None, "{other}");
        }
    }
}
