//! The program of the built-in image `pontoon.local/hello`: an HTTP server that says where it runs and
//! what it was asked, and a small client, so that a demo and a test need nothing from outside.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::{Hello, HelloCommand};

/// How long connections in being may last once the server shall stop.
const FAREWELL: Duration = Duration::from_secs(5);
/// The largest answer that `hello get` prints.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Runs the server, or the client where one is asked for.
///
/// # Errors
/// When the port is taken or the server does not answer.
pub(crate) async fn run(hello: Hello) -> anyhow::Result<ExitCode> {
    match hello.command {
        None => serve(hello.port).await,
        Some(HelloCommand::Get { url, times, timeout_ms }) => {
            get(&url, times, Duration::from_millis(timeout_ms)).await
        }
        Some(HelloCommand::Resolve { name }) => {
            for address in resolve(&name).await? {
                println_now(&address.to_string())?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn serve(port: u16) -> anyhow::Result<ExitCode> {
    // First of all: to the first process of a container a signal that it does not handle is no signal.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port)))
        .await
        .with_context(|| format!("listen on port {port}"))?;
    println_now(&format!("answering on port {port}"))?;
    let mut connections = JoinSet::new();
    let stopping = CancellationToken::new();
    loop {
        let (stream, client) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    println_now(&format!("accept: {error}"))?;
                    continue;
                }
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        connections.spawn(converse(stream, client, stopping.clone()));
    }
    drop(listener);
    stopping.cancel();
    // Who has asked gets the answer; a client that asks nothing more holds up nobody.
    drop(tokio::time::timeout(FAREWELL, connections.join_all()).await);
    println_now("stopped")?;
    Ok(ExitCode::SUCCESS)
}

/// Serves a connection; when the server stops, only what was asked on it by then.
async fn converse(stream: TcpStream, client: SocketAddr, stopping: CancellationToken) {
    let service = service_fn(move |request| answer(request, client));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

async fn answer(
    request: Request<Incoming>,
    client: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let variable = |name: &str| std::env::var(name).ok();
    let pod = variable("POD_NAME").or_else(|| variable("HOSTNAME")).or_else(host_name);
    let node = variable("PONTOON_NODE").or_else(|| variable("NODE_NAME"));
    let headers: serde_json::Map<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let text = json!({
        "pod": pod,
        "node": node,
        "address": variable("POD_IP").or_else(own_address),
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map(|p| p.as_str()),
        "headers": headers,
        "client": client.to_string(),
    });
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn host_name() -> Option<String> {
    Some(rustix::system::uname().nodename().to_str().ok()?.to_owned())
}

/// The address from which this container would speak to others; nothing is sent.
fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect((std::net::Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

async fn get(url: &str, times: u32, timeout: Duration) -> anyhow::Result<ExitCode> {
    let uri: http::Uri = url.parse().with_context(|| format!("read the URL {url}"))?;
    let mut failed = 0;
    for _ in 0..times {
        let answer = tokio::time::timeout(timeout, get_once(&uri)).await;
        match answer.map_err(|_| anyhow!("no answer within {} ms", timeout.as_millis())).flatten() {
            Ok(text) => println_now(text.trim_end())?,
            Err(error) => {
                failed += 1;
                println_now(&format!("error: {error:#}"))?;
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn get_once(uri: &http::Uri) -> anyhow::Result<String> {
    let host = uri.host().context("the URL names no host")?;
    let port = uri.port_u16().unwrap_or(80);
    let address = resolve(host).await?.into_iter().next().context("the name has no address")?;
    let stream = TcpStream::connect((address, port))
        .await
        .with_context(|| format!("connect to {address}:{port}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::builder()
        .uri(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::new()))?;
    let response = sender.send_request(request).await?;
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|e| anyhow!("read the answer: {e}"))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

async fn resolve(name: &str) -> anyhow::Result<Vec<IpAddr>> {
    if let Ok(address) = name.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    pontoon_node::resolve::addresses(name).await.with_context(|| format!("look up {name}"))
}

/// A line on standard output at once, so that a log shows it when it happens.
fn println_now(line: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
