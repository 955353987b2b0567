//! One HTTP request; a redirect is an answer like others, and not followed.

use std::collections::BTreeMap;
use std::fmt::Display;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;

use super::connect::{self, Stream};
use super::tls;
use crate::agent::status::OUTPUT_MAX;
use crate::catalog::record::Status;

/// What is asked.
pub(super) struct Ask<'p> {
    pub(super) url: &'p str,
    pub(super) method: &'p str,
    pub(super) header: &'p BTreeMap<String, Vec<String>>,
    pub(super) body: &'p str,
}

impl Ask<'_> {
    /// Asks, over TLS if the URL says so.
    pub(super) async fn ask(&self, skip_verify: bool) -> Result<(Status, String), String> {
        let uri: Uri = self.url.parse().map_err(|error| self.failed(&error))?;
        let authority = uri.authority().ok_or_else(|| self.failed(&"there is no host"))?;
        let is_tls = uri.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = connect::tcp(&format!("{}:{port}", authority.host())).await?;
        let stream: Box<dyn Stream> = match is_tls {
            true => {
                Box::new(tls::over(stream, authority.host(), &[b"http/1.1"], skip_verify).await?)
            }
            false => Box::new(stream),
        };
        let (status, body) = self.send(stream, self.request(&uri)?).await?;
        let (method, url) = (self.method, self.url);
        let output =
            format!("HTTP {method} {url}: {status} Output: {}", String::from_utf8_lossy(&body));
        Ok((meaning(status), output))
    }

    fn failed(&self, error: &dyn Display) -> String {
        format!("{} {}: {error}", self.method, self.url)
    }

    fn request(&self, uri: &Uri) -> Result<Request<Full<Bytes>>, String> {
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| self.failed(&error));
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut request = Request::new(Full::new(Bytes::from(self.body.to_owned())));
        *request.method_mut() =
            Method::from_bytes(self.method.as_bytes()).map_err(|error| self.failed(&error))?;
        *request.uri_mut() = path.parse().map_err(|error| self.failed(&error))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, value(uri.authority().map_or("", |host| host.as_str()))?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static("Consul Health Check"));
        for (name, values) in self.header {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|error| self.failed(&error))?;
            if let Some(last) = values.last() {
                headers.insert(name, value(last)?);
            }
        }
        Ok(request)
    }

    async fn send(
        &self,
        stream: Box<dyn Stream>,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), String> {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|error| self.failed(&error))?;
        let answering = async {
            let answer = sender.send_request(request).await.map_err(|error| self.failed(&error))?;
            let (head, body) = answer.into_parts();
            // A body that is too long is not shown.
            let body = Limited::new(body, OUTPUT_MAX).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            Ok::<_, String>((head.status, body))
        };
        // A server that hangs up has often answered before.
        let (mut answering, mut driving) = (std::pin::pin!(answering), std::pin::pin!(connection));
        let mut is_open = true;
        loop {
            tokio::select! {
                answer = &mut answering => return answer,
                _ended = &mut driving, if is_open => is_open = false,
            }
        }
    }
}

/// What an HTTP status says of a service, as in Consul.
fn meaning(status: StatusCode) -> Status {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Status::Warning,
        status if status.is_success() => Status::Passing,
        _ => Status::Critical,
    }
}
