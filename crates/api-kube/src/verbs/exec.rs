//! `kubectl exec`: a WebSocket between client and node, passed on byte for byte once both have agreed.

use bytes::Bytes;
use http::header::{
    CONNECTION, HOST, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pontoon_model::resource::PODS;
use pontoon_model::status::Status;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::body::{self, Body};
use crate::call::Call;
use crate::in_flight::Place;
use crate::path::percent_encode;
use crate::query::Query;

use super::backend::{self, Connection};
use super::{container, read};

/// The headers of a WebSocket handshake that go to the node, and those of its answer that come back.
const ASKED: &[HeaderName] = &[SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION];
const ANSWERED: &[HeaderName] =
    &[SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS];

pub(super) async fn exec(mut call: Call) -> Result<Response<Body>, Status> {
    let name = call.target.name();
    let pod = call.objects().get(PODS, call.target.namespace(), name).await?;
    let pod = read::value(&pod)?;
    let chosen = container::choose(&pod, name, call.query.get("container"))?;
    let wanted = parameters(&call.query)?;
    let node = check_running(&pod, name)?.to_owned();
    // Last: a client that is refused as WebSocket asks again in SPDY, and tells its user this second refusal.
    let client = check_upgrade(&mut call)?;
    let name = call.target.name();
    let namespace = call.target.namespace().unwrap_or_default();
    let uri = format!(
        "/exec/{}/{}/{}?{wanted}",
        percent_encode(namespace),
        percent_encode(name),
        percent_encode(&chosen)
    );
    let request = handshake(&uri, &call.headers)?;
    let (response, connection) = backend::send(&call, &node, request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // Nothing of the client's may reach a connection that has not changed its protocol.
        return Err(backend::refusal(response, connection).await);
    }
    let answer = switched(response.headers());
    let session = Session { client, response, _connection: connection, _place: call.place.take() };
    tokio::spawn(session.run(call.shared.shutdown.clone()));
    Ok(answer)
}

/// The client's side of the upgrade; refuses what is no WebSocket.
fn check_upgrade(call: &mut Call) -> Result<OnUpgrade, Status> {
    let protocol = call.headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    let protocol = protocol.unwrap_or_default().to_ascii_lowercase();
    if protocol.starts_with("spdy") {
        return Err(Status::bad_request(
            "unable to upgrade: SPDY is not served; exec speaks WebSocket (v5.channel.k8s.io, v4.channel.k8s.io), as kubectl 1.31 and newer do",
        ));
    }
    match call.upgrade.take() {
        Some(upgrade) if protocol == "websocket" => Ok(upgrade),
        _ => Err(Status::bad_request("Upgrade request required")),
    }
}

fn check_running<'p>(pod: &'p Value, name: &str) -> Result<&'p str, Status> {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(Status::bad_request(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    container::node(pod)
        .ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))
}

fn parameters(query: &Query) -> Result<String, Status> {
    let mut pairs: Vec<String> = query
        .values("command")
        .map(|argument| format!("command={}", percent_encode(argument)))
        .collect();
    if pairs.is_empty() {
        return Err(Status::bad_request("you must specify at least 1 command for the container"));
    }
    let streams = ["stdin", "stdout", "stderr"];
    if !streams.iter().any(|name| query.flag(name)) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let flags = streams.iter().chain(&["tty"]).filter(|name| query.flag(name));
    pairs.extend(flags.map(|name| format!("{name}=true")));
    Ok(pairs.join("&"))
}

fn handshake(uri: &str, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, Status> {
    let mut request = Request::get(uri)
        .header(HOST, "node")
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .body(Empty::new())
        .map_err(|error| Status::bad_request(format!("ask for exec: {error}")))?;
    copy(ASKED, headers, request.headers_mut());
    Ok(request)
}

fn switched(headers: &HeaderMap) -> Response<Body> {
    let mut answer = Response::new(body::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let given = answer.headers_mut();
    given.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    given.insert(UPGRADE, HeaderValue::from_static("websocket"));
    copy(ANSWERED, headers, given);
    answer
}

fn copy(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}

/// A session between a client and a node. Its end closes both sides.
struct Session {
    client: OnUpgrade,
    response: Response<Incoming>,
    _connection: Connection,
    _place: Option<Place>,
}

impl Session {
    async fn run(self, shutdown: CancellationToken) {
        let Session { client, response, _connection, _place } = self;
        let work = async {
            let node = hyper::upgrade::on(response).await?;
            let client = client.await?;
            let (mut node, mut client) = (TokioIo::new(node), TokioIo::new(client));
            let copied = tokio::io::copy_bidirectional(&mut client, &mut node).await;
            if let Err(error) = copied {
                tracing::debug!(%error, "an exec session broke off");
            }
            Ok::<(), hyper::Error>(())
        };
        if let Some(Err(error)) = shutdown.run_until_cancelled(work).await {
            tracing::debug!(%error, "an exec session did not begin");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_rebuilt() {
        let query = Query::parse(
            "command=sh&command=-c&command=a%26b%20c&stdin=true&stdout=1&tty=false&x=y",
        );
        let wanted = "command=sh&command=-c&command=a%26b%20c&stdin=true&stdout=true";
        assert_eq!(parameters(&query.unwrap()).unwrap(), wanted);
        assert!(parameters(&Query::parse("stdin=true").unwrap()).is_err());
        assert!(parameters(&Query::parse("command=sh").unwrap()).is_err());
    }
}
