//! Commands on this node's images.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::TryStreamExt;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use crate::cli::{Image, Output};
use crate::client::{Body, Client, checked, encode, request};
use crate::output::{self, Table, text};

/// A password, or a token that stands for one, is shorter.
const MOST_PASSWORD_BYTES: u64 = 64 << 10;

/// Runs a command on images.
///
/// # Errors
/// What the daemon has against it.
pub(super) async fn run(client: &Client, output: Output, command: Image) -> anyhow::Result<()> {
    match command {
        Image::Ls => list(client, output).await,
        Image::Load { file } => {
            let loaded = upload(client, "/pontoon/v1/images/load", &file).await?;
            output::say(output, &loaded, &format!("loaded {}", names(&loaded)))
        }
        Image::Import { file, reference, entrypoint, env, workdir } => {
            let mut path = format!("/pontoon/v1/images/import?reference={}", encode(&reference));
            for (key, values) in [("entrypoint", entrypoint), ("env", env)] {
                for value in values {
                    path.push_str(&format!("&{key}={}", encode(&value)));
                }
            }
            if let Some(dir) = workdir {
                path.push_str(&format!("&workdir={}", encode(&dir)));
            }
            let made = upload(client, &path, &file).await?;
            output::say(output, &made, &format!("imported {}", names(&made)))
        }
        // clap takes neither of the two without the other.
        Image::Pull { reference, username, password_stdin: _ } => {
            let credentials = username.map(with_password).transpose()?;
            pull(client, output, &reference, credentials).await
        }
        Image::Rm { reference } => {
            let path = format!("/pontoon/v1/images?reference={}", encode(&reference));
            let removed = client.call(Method::DELETE, &path, None).await?;
            output::say(output, &removed, &format!("removed {reference}"))
        }
    }
}

async fn list(client: &Client, output: Output) -> anyhow::Result<()> {
    let images = client.get("/pontoon/v1/images").await?;
    output::print(output, &images, |images| {
        let now = jiff::Timestamp::now();
        let mut table = Table::new(&["REFERENCE", "DIGEST", "SIZE", "AGE"], 0);
        for image in images["images"].as_array().into_iter().flatten() {
            let digest: String =
                text(&image["digest"]).trim_start_matches("sha256:").chars().take(12).collect();
            table.row(vec![
                text(&image["reference"]),
                digest,
                indicatif::HumanBytes(image["size"].as_u64().unwrap_or(0)).to_string(),
                output::age(&image["created"], now),
            ]);
        }
        table
    })
}

fn names(answer: &Value) -> String {
    let all: Vec<String> =
        answer["references"].as_array().into_iter().flatten().map(text).collect();
    all.join(", ")
}

/// Streams a file, or standard input, to the daemon with a bar that shows how far it is.
async fn upload(client: &Client, path: &str, file: &Path) -> anyhow::Result<Value> {
    let (reader, size): (Box<dyn AsyncRead + Send + Unpin>, Option<u64>) = if file == Path::new("-")
    {
        (Box::new(tokio::io::stdin()), None)
    } else {
        let open = tokio::fs::File::open(file).await;
        let open = open.with_context(|| format!("open {}", file.display()))?;
        let metadata = open.metadata().await?;
        if metadata.is_dir() {
            bail!("{} is a directory, not an archive", file.display());
        }
        let size = metadata.len();
        (Box::new(open), Some(size))
    };
    let bar = size.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.enable_steady_tick(Duration::from_millis(100));
    let counted = bar.clone();
    let stream = ReaderStream::with_capacity(reader, 256 << 10).map_ok(move |chunk: Bytes| {
        counted.inc(chunk.len() as u64);
        Frame::data(chunk)
    });
    let body: Body = BodyExt::boxed_unsync(StreamBody::new(stream.map_err(io::Error::other)));
    let response = checked(client.send(request(Method::POST, path, body)?).await?).await?;
    let bytes = response.into_body().collect().await?.to_bytes();
    bar.finish_and_clear();
    Ok(serde_json::from_slice(&bytes)?)
}

/// The user with the password that comes on standard input.
fn with_password(username: String) -> anyhow::Result<Value> {
    let mut password = String::new();
    let read = io::stdin().lock().take(MOST_PASSWORD_BYTES).read_to_string(&mut password);
    read.context("read the password from standard input")?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!(
            "standard input holds no password; write: pontoon image pull … --password-stdin < FILE"
        );
    }
    Ok(json!({ "username": username, "password": password }))
}

/// The daemon answers a pull with a line of JSON for each step, the last one with the result.
async fn pull(
    client: &Client,
    output: Output,
    reference: &str,
    credentials: Option<Value>,
) -> anyhow::Result<()> {
    let path = format!("/pontoon/v1/images/pull?reference={}", encode(reference));
    let body = crate::client::full(json!(credentials).to_string());
    let response = checked(client.send(request(Method::POST, &path, body)?).await?).await?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    let mut body = response.into_body();
    let mut buffer = Vec::new();
    let mut last = Value::Null;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            buffer.extend_from_slice(&data);
        }
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            last = serde_json::from_slice(&line).context("read the daemon's answer")?;
            bar.set_message(text(&last["progress"]));
        }
    }
    bar.finish_and_clear();
    if let Some(error) = last["error"].as_str() {
        bail!("{error}");
    }
    let words = format!("pulled {reference} ({})", text(&last["digest"]));
    let answer = json!({ "reference": reference, "digest": last["digest"] });
    output::say(output, &answer, &words)
}
