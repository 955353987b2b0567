//! HTTP/1.1 to a node, over a stream that the node process has secured.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pontoon_model::status::Status;
use tokio_util::task::AbortOnDropHandle;

use crate::call::Call;

/// How much of a node's refusal is read.
const MAX_REFUSAL: usize = 64 * 1024;

/// A connection to a node, closed on drop, whatever it is doing.
pub(super) struct Connection {
    _driver: AbortOnDropHandle<()>,
}

/// Sends a request without a body to the node and waits for the head of its answer.
pub(super) async fn send(
    call: &Call,
    node: &str,
    request: Request<Empty<Bytes>>,
) -> Result<(Response<Incoming>, Connection), Status> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Status::service_unavailable(format!(
            "{what} node {node} for the {} of pod {}: {error}",
            call.target.subresource(),
            call.target.name()
        ))
    };
    let stream = call.shared.nodes.connect(node).await.map_err(|e| failed("cannot reach", &e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed("cannot speak to", &error))?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a node ended");
        }
    });
    let connection = Connection { _driver: AbortOnDropHandle::new(driver) };
    let response =
        sender.send_request(request).await.map_err(|error| failed("no answer from", &error))?;
    Ok((response, connection))
}

/// A node's refusal as our own: its Status if it sent one, else its words. The connection is closed by then.
pub(super) async fn refusal(response: Response<Incoming>, connection: Connection) -> Status {
    let code = response.status().as_u16();
    let text = match Limited::new(response.into_body(), MAX_REFUSAL).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => Bytes::from_static(b"a long answer"),
        Err(_) => Bytes::new(),
    };
    drop(connection);
    if let Ok(status) = serde_json::from_slice::<Status>(&text)
        && (400..600).contains(&status.code)
    {
        return status;
    }
    let words = String::from_utf8_lossy(&text);
    let mut status = Status::internal(format!("the node answered {code}: {}", words.trim()));
    if (400..500).contains(&code) {
        status = Status::bad_request(words.trim().to_owned());
        status.code = code;
    }
    status
}
