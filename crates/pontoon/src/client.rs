//! The way to this node's daemon: HTTP over its unix socket. The daemon's own requests are below
//! `/pontoon/v1`; everything below `/api` and `/apis` is the Kubernetes API with all rights.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
pub(crate) use pontoon_node::admin::query::encode;
use pontoon_node::config::socket_in;
use serde_json::Value;
use tokio::net::UnixStream;

/// A body to send: whole or streamed.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What the daemon says is wrong.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

/// Whether the daemon says that there is no such thing.
pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|r| r.status == StatusCode::NOT_FOUND)
}

/// The error that a thing of this name is not there, in the same words for all; another error stays as it is.
pub(crate) fn named(kind: &str, name: &str, list: &str) -> impl Fn(anyhow::Error) -> anyhow::Error {
    let words = format!("{kind} {name:?} not found; see `pontoon {list}`");
    move |error| if is_not_found(&error) { anyhow::anyhow!("{words}") } else { error }
}

/// A client of one daemon.
#[derive(Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon with this run directory.
    pub(crate) fn new(run_dir: &Path) -> Self {
        Self { socket: socket_in(run_dir) }
    }

    /// Connects to the socket.
    ///
    /// # Errors
    /// When no daemon listens, with what to do.
    pub(crate) async fn connect(&self) -> anyhow::Result<UnixStream> {
        UnixStream::connect(&self.socket).await.map_err(|error| {
            let advice = match error.kind() {
                std::io::ErrorKind::PermissionDenied => "only root may use it: run this as root",
                _ => {
                    "is it running? Start it with `pontoon daemon` (or `pontoon up`), or point --run-dir at its run \
                     directory"
                }
            };
            let words = format!("reach the daemon at {}: {advice}", self.socket.display());
            anyhow::Error::new(error).context(words)
        })
    }

    /// Whether a daemon listens.
    pub(crate) async fn is_up(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    /// Sends a request and hands back the answer as it comes.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub(crate) async fn send(&self, request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the answer's body, or with this process.
        drop(tokio::spawn(connection.with_upgrades()));
        sender.send_request(request).await.context("ask the daemon")
    }

    /// Sends a JSON request and reads a JSON answer; an error answer becomes an error.
    ///
    /// # Errors
    /// What the daemon says is wrong.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let mut request = request(method, path, full(bytes))?;
        let json = header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        let response = checked(self.send(request).await?).await?;
        let bytes =
            response.into_body().collect().await.context("read the daemon's answer")?.to_bytes();
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).context("read the daemon's answer")
    }

    /// `GET` of a JSON document.
    ///
    /// # Errors
    /// What the daemon says is wrong.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// `POST` of a JSON document.
    ///
    /// # Errors
    /// What the daemon says is wrong.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }
}

/// A request for the daemon.
///
/// # Errors
/// When the path is malformed.
pub(crate) fn request(method: Method, path: &str, body: Body) -> anyhow::Result<Request<Body>> {
    Ok(Request::builder().method(method).uri(path).header(header::HOST, "pontoon").body(body)?)
}

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The answer, or the error that it tells.
///
/// # Errors
/// When the status is not a good one.
pub(crate) async fn checked(response: Response<Incoming>) -> anyhow::Result<Response<Incoming>> {
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let bytes = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&bytes)
        .ok()
        .and_then(|value| Some(value.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned());
    let message =
        if message.is_empty() { format!("the daemon answered {status}") } else { message };
    Err(Refused { status, message }.into())
}
