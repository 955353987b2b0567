//! A command in a container over a WebSocket, as Kubernetes' clients speak it: the first byte of a message is its
//! channel.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use pontoon_container::{Error, ExecInput, ExecSession, Exit, Refusal, Resizer, WindowSize};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tracing::debug;

use super::query::Query;
use super::{Body, refuse};
use crate::access::AccessError;
use crate::agent::Agent;

/// The protocols that are spoken, the best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// In the fifth version: the channel in the next byte is closed.
const CLOSE: u8 = 255;

const MOST_MESSAGE_BYTES: usize = 1 << 20;
const BLOCK: usize = 32 * 1024;
/// How the reason begins for which a program is not found.
const NO_SUCH_FILE: &str = "No such file or directory";
/// A client that takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// kubectl (1.32) begins to read before it has made the streams that it reads to, and then throws away what comes
/// ("Unknown stream id 1, discarding message"): four of a thousand short commands on a busy machine had no output. So
/// nothing is sent to it at once.
const SETTLING: Duration = Duration::from_millis(30);

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Sink = Arc<Mutex<SplitSink<Socket, Message>>>;

pub(super) async fn handle<B>(
    agent: &Agent,
    [namespace, pod, container]: [&str; 3],
    query: &Query,
    mut request: Request<B>,
) -> Response<Body> {
    let options = match query.exec_options() {
        Ok(options) => options,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, "BadRequest", &problem),
    };
    let (key, protocol) = match handshake(request.headers()) {
        Ok(agreed) => agreed,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, "BadRequest", problem),
    };
    // A refusal goes over the WebSocket too: kubectl takes any other answer for a server that speaks none, asks again
    // in an older protocol, and tells its user about that.
    let session = agent.exec(namespace, pod, container, options).await;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(serve(upgrade, session));
    switch(&key, protocol)
}

/// The client's key and the protocol that both speak.
fn handshake(headers: &HeaderMap) -> Result<(HeaderValue, &'static str), &'static str> {
    let has = |name: header::HeaderName, word: &str| {
        let words = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        words.flat_map(|value| value.split(',')).any(|own| own.trim().eq_ignore_ascii_case(word))
    };
    if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        return Err("this is a WebSocket: an upgrade is required");
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err("WebSocket version 13 is required");
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or("there is no Sec-WebSocket-Key")?;
    let protocol = PROTOCOLS.into_iter().find(|own| has(header::SEC_WEBSOCKET_PROTOCOL, own));
    let protocol = protocol
        .ok_or("of the protocols offered none is v5.channel.k8s.io or v4.channel.k8s.io")?;
    Ok((key.clone(), protocol))
}

fn switch(key: &HeaderValue, protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(
        Empty::new().map_err(|never: std::convert::Infallible| match never {}).boxed_unsync(),
    );
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    if let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

async fn serve(upgrade: OnUpgrade, session: Result<ExecSession, AccessError>) {
    let upgraded = match tokio::time::timeout(PATIENCE, upgrade).await {
        Ok(Ok(upgraded)) => upgraded,
        // The session is dropped, which ends the command.
        Ok(Err(error)) => return debug!(%error, "upgrading to a WebSocket"),
        Err(_) => return debug!("upgrading to a WebSocket: too slow"),
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MOST_MESSAGE_BYTES))
        .max_frame_size(Some(MOST_MESSAGE_BYTES));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    let sink: Sink = Arc::new(Mutex::new(sink));
    tokio::time::sleep(SETTLING).await;
    let carried = match session {
        Ok(session) => carry(sink, stream, session).await,
        Err(refused) => finish(&sink, stream, &refusal(&refused)).await,
    };
    if let Err(error) = carried {
        debug!(%error, "a command's WebSocket ended");
    }
}

/// Carries the streams of a command until it ends, or until its client is gone, which ends it.
async fn carry(
    sink: Sink,
    mut stream: SplitStream<Socket>,
    session: ExecSession,
) -> Result<(), WsError> {
    let ExecSession { stdin, stdout, stderr, resize, exit } = session;
    // Clients wait for the first message to know that the command runs.
    let first = if stdout.is_some() { STDOUT } else { ERROR };
    send(&sink, first, &[]).await?;
    let outputs = async {
        let both = tokio::join!(copy_out(stdout, STDOUT, &sink), copy_out(stderr, STDERR, &sink));
        both.0.and(both.1)
    };
    let status = {
        let to_end = async {
            let (exit, copied) = tokio::join!(exit.wait(), outputs);
            copied.map(|()| exit)
        };
        tokio::select! {
            exit = to_end => result(exit?),
            gone = copy_in(&mut stream, stdin, resize) => return gone,
        }
    };
    finish(&sink, stream, &status).await
}

/// Tells how it ended and closes in order: the client, too, has the last word, since a connection that is dropped with
/// something unread in it takes with it what was written.
async fn finish(
    sink: &Sink,
    stream: SplitStream<Socket>,
    status: &serde_json::Value,
) -> Result<(), WsError> {
    send(sink, ERROR, status.to_string().as_bytes()).await?;
    let end = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    let parted = async {
        sink.lock().await.send(Message::Close(Some(end))).await?;
        // What was on its way when the command ended is for nobody.
        stream.for_each(|_| std::future::ready(())).await;
        Ok(())
    };
    tokio::time::timeout(PATIENCE, parted).await.unwrap_or(Err(WsError::ConnectionClosed))
}

/// How a command ended, as Kubernetes tells it.
fn result(exit: pontoon_container::Result<Exit>) -> serde_json::Value {
    match exit {
        Ok(exit) if exit.code == 0 => json!({"metadata": {}, "status": "Success"}),
        Ok(exit) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {}", exit.code),
            "details": {"causes": [{"reason": "ExitCode", "message": exit.code.to_string()}]},
        }),
        Err(error) => failure(&error),
    }
}

/// Why a command was not begun; where the container has no such program, with the exit code that a shell gives then. As
/// a reason it is no exit code: to kubectl it is an error of the server, as from any other kubelet.
fn refusal(error: &AccessError) -> serde_json::Value {
    let mut status = failure(error);
    if let AccessError::Runtime(Error::Refused(Refusal::Program { reason, .. })) = error {
        let code = if reason.starts_with(NO_SUCH_FILE) { "127" } else { "126" };
        status["details"] = json!({"causes": [{"reason": "ExitCode", "message": code}]});
    }
    status
}

fn failure(error: &dyn std::fmt::Display) -> serde_json::Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": error.to_string(),
    })
}

async fn send(sink: &Sink, channel: u8, data: &[u8]) -> Result<(), WsError> {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    let sent = async { sink.lock().await.send(Message::binary(message)).await };
    tokio::time::timeout(PATIENCE, sent).await.unwrap_or(Err(WsError::ConnectionClosed))
}

async fn copy_out(
    from: Option<impl AsyncRead + Unpin>,
    channel: u8,
    sink: &Sink,
) -> Result<(), WsError> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; BLOCK];
    loop {
        // A stream that breaks has ended.
        let length = from.read(&mut buffer).await.unwrap_or(0);
        if length == 0 {
            return Ok(());
        }
        send(sink, channel, &buffer[..length]).await?;
    }
}

/// What the client sends; ends when it is gone.
async fn copy_in(
    stream: &mut SplitStream<Socket>,
    mut stdin: Option<ExecInput>,
    resize: Option<Resizer>,
) -> Result<(), WsError> {
    while let Some(message) = stream.next().await {
        let data = match message? {
            Message::Binary(data) => data,
            Message::Close(_) => return Ok(()),
            _ => continue,
        };
        match data.split_first() {
            Some((&STDIN, data)) => {
                let written = match &mut stdin {
                    Some(stdin) => stdin.write_all(data).await,
                    None => Ok(()),
                };
                if written.is_err() {
                    // The command reads no more; it may still write.
                    stdin = None;
                }
            }
            Some((&RESIZE, data)) => {
                if let (Some(resize), Some(size)) = (&resize, window_size(data))
                    && let Err(error) = resize.resize(size)
                {
                    debug!(%error, "resizing a terminal");
                }
            }
            Some((&CLOSE, [STDIN])) => stdin = None,
            _ => {}
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ApiSize {
    width: u16,
    height: u16,
}

/// `{"Width": 80, "Height": 24}`.
fn window_size(data: &[u8]) -> Option<WindowSize> {
    let size: ApiSize = serde_json::from_slice(data).ok()?;
    Some(WindowSize { rows: size.height, columns: size.width })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            })
            .collect()
    }

    const GOOD: [(&str, &str); 5] = [
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io, channel.k8s.io"),
    ];

    #[test]
    fn the_best_common_protocol_is_spoken() {
        let (key, protocol) = handshake(&headers(&GOOD)).unwrap();
        assert_eq!(protocol, "v5.channel.k8s.io");
        let response = switch(&key, protocol);
        assert_eq!(
            response.headers()[header::SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for (missing, _) in GOOD {
            let list: Vec<_> = GOOD.into_iter().filter(|(name, _)| *name != missing).collect();
            assert!(handshake(&headers(&list)).is_err(), "without {missing}");
        }
        let mut other = GOOD;
        other[4].1 = "v3.channel.k8s.io";
        assert!(handshake(&headers(&other)).is_err());
    }

    #[test]
    fn an_exit_code_is_a_cause() {
        let exit = |code| Exit {
            code,
            signal: None,
            oom_killed: false,
            at: std::time::SystemTime::UNIX_EPOCH,
        };
        assert_eq!(result(Ok(exit(0)))["status"], "Success");
        let failed = result(Ok(exit(3)));
        assert_eq!(failed["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
    }

    #[test]
    fn a_program_that_is_not_there_has_a_shells_exit_code() {
        let refused = |reason: &str| {
            let (program, reason) = ("nope".to_owned(), reason.to_owned());
            refusal(&AccessError::Runtime(Error::Refused(Refusal::Program { program, reason })))
        };
        let missing = refused(&std::io::Error::from_raw_os_error(2).to_string());
        assert_eq!(missing["details"]["causes"][0]["message"], "127");
        assert_eq!(missing["reason"], "InternalError", "kubectl shows the message of this one");
        let denied = refused(&std::io::Error::from_raw_os_error(13).to_string());
        assert_eq!(denied["details"]["causes"][0]["message"], "126");
    }

    #[test]
    fn sizes() {
        let size = window_size(br#"{"Width":80,"Height":24}"#);
        assert_eq!(size, Some(WindowSize { rows: 24, columns: 80 }));
        assert_eq!(window_size(b"{}"), None);
        assert_eq!(window_size(br#"{"Width":-1,"Height":99999}"#), None);
    }
}
