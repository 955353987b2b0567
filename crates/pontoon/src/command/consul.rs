//! The way to Consul's API: HTTP to the address that Consul's own command would ask.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::cli::Api;

/// The largest answer that is read.
const ANSWER_MAX: usize = 1 << 30;

/// A client of one server.
pub(super) struct Consul {
    address: String,
    token: Option<String>,
}

/// What it said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// To wait behind; 0 where there is none.
    pub(super) index: u64,
    body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).context("read the server's answer")
    }
}

impl Consul {
    /// A client of the server at this address.
    ///
    /// # Errors
    /// When the address is of a kind that is not spoken to.
    pub(super) fn new(api: &Api) -> anyhow::Result<Consul> {
        let given = api.http_addr.trim();
        let address = match given.split_once("://") {
            None => given,
            Some(("http" | "tcp", address)) => address,
            Some((scheme, _)) => bail!(
                "{given}: {scheme}:// is not spoken; give HOST:PORT or http://HOST:PORT of Consul's API"
            ),
        };
        let address = address.trim_end_matches('/');
        if address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            bail!("{given}: give HOST:PORT of Consul's API, such as 127.0.0.1:8500");
        }
        let token = api.token.clone().filter(|token| !token.is_empty());
        Ok(Consul { address: address.to_owned(), token })
    }

    /// Asks; what is not there is an answer, what is wrong an error.
    ///
    /// # Errors
    /// What the server says is wrong, or that it cannot be reached.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<Answer> {
        let address = &self.address;
        let stream = TcpStream::connect(address).await.with_context(|| {
            format!(
                "reach Consul's API at {address}: a manager serves it; name one with --http-addr or $CONSUL_HTTP_ADDR"
            )
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driving = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, address);
        if let Some(token) = &self.token {
            request = request.header("x-consul-token", token);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let (head, body) = sender.send_request(request).await.context("ask")?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("read the server's answer: {error}"))?;
        driving.abort();
        let body = body.to_bytes();
        if !head.status.is_success() && head.status != StatusCode::NOT_FOUND {
            bail!("{} ({})", String::from_utf8_lossy(&body).trim(), head.status);
        }
        let index = head.headers.get("x-consul-index").and_then(|index| index.to_str().ok());
        let index = index.and_then(|index| index.parse().ok()).unwrap_or(0);
        Ok(Answer { status: head.status, index, body })
    }
}

/// Waits a little where an answer names nothing to wait behind: else it would be asked again at once, for ever.
pub(super) async fn pause_without(index: u64) {
    if index == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A text as part of a path or a query: all but what needs no escape, and `/`.
pub(super) fn escape(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(given: &str) -> Option<String> {
        let api = Api { http_addr: given.to_owned(), token: None };
        Consul::new(&api).ok().map(|consul| consul.address)
    }

    #[test]
    fn addresses_are_those_of_consuls_command() {
        assert_eq!(address("127.0.0.1:8500").as_deref(), Some("127.0.0.1:8500"));
        assert_eq!(address("http://[::1]:8500/").as_deref(), Some("[::1]:8500"));
        for bad in ["", "localhost", "https://a:8501", "unix:///run/consul", "a:b"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_are_escaped() {
        assert_eq!(escape("a/b c?#%ü"), "a/b%20c%3F%23%25%C3%BC");
    }
}
