//! `pontoon exec`: a command in a pod's container, over the same WebSocket that kubectl uses.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, bail};
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};

use crate::cli::Exec;
use crate::client::{Client, encode};
use crate::{output, terminal};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Runs the command; its exit code becomes this process's.
///
/// # Errors
/// When there is no such pod, or its node does not answer.
pub(super) async fn run(client: &Client, options: Exec) -> anyhow::Result<ExitCode> {
    if options.tty && options.stdin && !std::io::stdin().is_terminal() {
        bail!(
            "-it wants a terminal as standard input, and this is none; -i alone passes on what comes from a pipe or file"
        );
    }
    let socket = open(client, &options).await?;
    let (mut sink, mut stream) = socket.split();
    // Without input keys go on to mean what they mean to this terminal: Ctrl-C ends the command.
    let raw = if options.tty && options.stdin { terminal::Raw::enter() } else { None };
    let (to_pod, mut outgoing) = mpsc::channel::<Vec<u8>>(16);
    let mut tasks = tokio::task::JoinSet::new();
    if options.stdin {
        tasks.spawn(forward_stdin(to_pod.clone()));
    }
    if options.tty {
        tasks.spawn(forward_size(to_pod));
    } else {
        drop(to_pod);
    }
    tasks.spawn(async move {
        while let Some(frame) = outgoing.recv().await {
            if sink.send(Message::Binary(frame.into())).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    });
    let code = receive(&mut stream, &mut tokio::io::stdout(), &mut tokio::io::stderr()).await;
    drop(raw);
    code
}

async fn open(client: &Client, options: &Exec) -> anyhow::Result<WebSocketStream<UnixStream>> {
    let mut request = format!("ws://pontoon{}", path(options)).into_client_request()?;
    let protocol = HeaderValue::from_static("v5.channel.k8s.io");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    let stream = client.connect().await?;
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let status: Value = serde_json::from_slice(body).unwrap_or_default();
            if response.status() == StatusCode::NOT_FOUND {
                bail!("pod {:?} not found; see `pontoon ps -A`", options.pod);
            }
            bail!("{}", status["message"].as_str().unwrap_or("the daemon refused"));
        }
        Err(error) => Err(error).context("start the command"),
    }
}

/// Runs a command without input and answers what it wrote to standard output.
///
/// # Errors
/// When the command cannot be started or fails.
pub(super) async fn capture(
    client: &Client,
    namespace: &str,
    pod: &str,
    command: &[String],
) -> anyhow::Result<String> {
    let options = Exec {
        pod: pod.to_owned(),
        namespace: namespace.to_owned(),
        container: None,
        stdin: false,
        tty: false,
        command: command.to_vec(),
    };
    let (_sink, mut stream) = open(client, &options).await?.split();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let code = receive(&mut stream, &mut stdout, &mut stderr).await?;
    if code != ExitCode::SUCCESS {
        bail!("{} fails: {}", command.join(" "), String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

fn path(options: &Exec) -> String {
    let mut path = format!(
        "/api/v1/namespaces/{}/pods/{}/exec?stdout=true&stderr={}&stdin={}&tty={}",
        encode(&options.namespace),
        encode(&options.pod),
        !options.tty,
        options.stdin,
        options.tty
    );
    if let Some(container) = &options.container {
        path.push_str(&format!("&container={}", encode(container)));
    }
    for word in &options.command {
        path.push_str(&format!("&command={}", encode(word)));
    }
    path
}

async fn receive<S>(
    stream: &mut S,
    stdout: &mut (impl AsyncWrite + Unpin),
    stderr: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<ExitCode>
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    while let Some(message) = stream.next().await {
        let bytes = match message.context("read what the command prints")? {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => break,
            _ => continue,
        };
        match bytes.split_first() {
            Some((&STDOUT, data)) => {
                stdout.write_all(data).await.map_err(output::of_stdout)?;
                stdout.flush().await.map_err(output::of_stdout)?;
            }
            Some((&STDERR, data)) => {
                stderr.write_all(data).await?;
                stderr.flush().await?;
            }
            Some((&STATUS, data)) => return exit_code(&serde_json::from_slice(data)?),
            _ => {}
        }
    }
    bail!("the connection ended before the command did")
}

/// The exit code that Kubernetes hides in a Status: success, or a cause named ExitCode.
fn exit_code(status: &Value) -> anyhow::Result<ExitCode> {
    if status["status"] == "Success" {
        return Ok(ExitCode::SUCCESS);
    }
    let causes = status["details"]["causes"].as_array();
    let code = causes
        .into_iter()
        .flatten()
        .find(|cause| cause["reason"] == "ExitCode")
        .and_then(|cause| cause["message"].as_str()?.parse::<u8>().ok());
    match code {
        Some(code) => {
            // With another reason it is not the command's own code, but that of one that could not be begun.
            if status["reason"] != "NonZeroExitCode" {
                output::tell(&anyhow::anyhow!("{}", output::text(&status["message"])));
            }
            Ok(ExitCode::from(code))
        }
        None => bail!("{}", status["message"].as_str().unwrap_or("the command failed")),
    }
}

async fn forward_stdin(to_pod: mpsc::Sender<Vec<u8>>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = stdin.read(&mut buffer).await.unwrap_or(0);
        let frame =
            if read == 0 { vec![CLOSE, STDIN] } else { [&[STDIN], &buffer[..read]].concat() };
        if to_pod.send(frame).await.is_err() || read == 0 {
            return;
        }
    }
}

async fn forward_size(to_pod: mpsc::Sender<Vec<u8>>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some((width, height)) = terminal::size() {
            let mut frame = vec![RESIZE];
            frame.extend(format!("{{\"Width\":{width},\"Height\":{height}}}").into_bytes());
            if to_pod.send(frame).await.is_err() {
                return;
            }
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}
