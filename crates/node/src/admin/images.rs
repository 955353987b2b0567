//! Requests about this node's images.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use pontoon_image::{
    Credentials, ImageError, ImportChanges, Keychain, Progress, ProgressEvent, Reference,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::query;
use crate::daemon::Shared;
use crate::rpc::{Body, Refusal, chain, read_json};

/// Steps of progress on their way to the user; more are dropped, not waited for.
const STEPS_WAITING: usize = 64;

pub(super) fn list(shared: &Arc<Shared>) -> Value {
    let images: Vec<Value> = shared
        .images
        .store
        .list()
        .iter()
        .map(|image| {
            json!({
                "reference": image.reference.to_string(),
                "digest": image.digest.to_string(),
                "size": image.size,
                "created": image.created.as_deref().map(in_seconds),
                "platform": image.platform,
            })
        })
        .collect();
    json!({ "images": images })
}

pub(super) async fn load(shared: &Arc<Shared>, body: Incoming) -> Result<Value, Refusal> {
    let loaded = shared.images.store.load(reader(body), Progress::none()).await.map_err(refused)?;
    let references: Vec<String> = loaded.iter().map(Reference::to_string).collect();
    Ok(json!({ "references": references, "warning": not_believed(shared).await }))
}

/// What to know of a name that is given at a worker.
async fn not_believed(shared: &Arc<Shared>) -> Option<&'static str> {
    let is_worker = shared.member().await.is_some_and(|member| member.manager().is_err());
    is_worker.then_some(
        "this node is a worker, and the others believe managers alone which image a name is: its pods have the image, \
         those of other nodes do not; load it at a manager",
    )
}

pub(super) async fn import(
    shared: &Arc<Shared>,
    query: Option<&str>,
    body: Incoming,
) -> Result<Value, Refusal> {
    let reference = reference(query)?;
    let changes = ImportChanges {
        entrypoint: query::all(query, "entrypoint"),
        env: query::all(query, "env"),
        working_dir: query::one(query, "workdir"),
        created: Some(jiff::Timestamp::now().to_string()),
        ..ImportChanges::default()
    };
    let store = &shared.images.store;
    let image =
        store.import(reader(body), &reference, changes, Progress::none()).await.map_err(refused)?;
    Ok(json!({
        "references": [image.reference.to_string()],
        "digest": image.digest.to_string(),
        "warning": not_believed(shared).await,
    }))
}

pub(super) async fn remove(shared: &Arc<Shared>, query: Option<&str>) -> Result<Value, Refusal> {
    let reference = reference(query)?;
    let member = shared.member().await;
    let data_dir = shared.config.data_dir.clone();
    let layers = move || match &member {
        Some(member) => member.agent().layers_in_use(),
        // The pods of a node that cannot go on in its cluster live on.
        None => pontoon_agent::recorded_layers(&data_dir),
    };
    layers().map_err(|e| Refusal::unavailable(format!("remove {reference}: {}", chain(&e))))?;
    // Known anew when the name is gone: who looked the image up before that has said so by then.
    let known = OnceLock::new();
    let in_use = move |layer: &Path| {
        known.get_or_init(|| layers().ok()).as_ref().is_none_or(|known| known.contains(layer))
    };
    let removed = shared.images.store.remove(&reference, in_use).await.map_err(|e| match e {
        ImageError::NotFound(name) => {
            let name = name.to_string();
            Refusal::not_found(format!("image {name:?} not found; see `pontoon image ls`"))
        }
        other => refused(other),
    })?;
    Ok(
        json!({ "reference": reference.to_string(), "blobs": removed.blobs, "layers": removed.layers, "bytes": removed.bytes }),
    )
}

/// What a pull is asked with: in the body, since paths are logged.
#[derive(Deserialize)]
struct PullRequest {
    username: String,
    password: String,
}

fn keychain(reference: &Reference, request: Option<PullRequest>) -> Result<Keychain, Refusal> {
    let mut keychain = Keychain::default();
    if let Some(PullRequest { username, password }) = request {
        let registry = reference.registry().ok_or_else(|| {
            let words = "the name has no registry that the password could be for; write REGISTRY/";
            Refusal::bad_request(format!("pull {reference} with a password: {words}{reference}"))
        })?;
        keychain.add(registry, Credentials { username, password });
    }
    Ok(keychain)
}

/// Answers with a line of JSON for each step, the last one with the digest or the error.
pub(super) async fn pull(
    shared: &Arc<Shared>,
    query: Option<&str>,
    body: Incoming,
) -> Result<Response<Body>, Refusal> {
    let reference = reference(query)?;
    let keychain = keychain(&reference, read_json(body).await?)?;
    let images = shared.images.clone();
    let (steps, lines) = mpsc::channel::<Value>(STEPS_WAITING);
    tokio::spawn(async move {
        let told = steps.clone();
        let progress = Progress::new(move |event: ProgressEvent| {
            // A step that nobody has time to read is no loss: another follows.
            drop(told.try_send(json!({ "progress": describe(&event) })));
        });
        let last = match images.pull(&reference, &keychain, progress).await {
            Ok(image) => json!({ "digest": image.digest.to_string(), "progress": "done" }),
            Err(error) => json!({ "error": chain(&error) }),
        };
        // The user may have gone; the image is here all the same.
        drop(steps.send(last).await);
    });
    let stream = futures::stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        Some((Ok::<_, io::Error>(Frame::data(Bytes::from(format!("{line}\n")))), lines))
    });
    Ok(Response::new(BodyExt::boxed_unsync(StreamBody::new(stream.boxed()))))
}

fn describe(event: &ProgressEvent) -> String {
    let phase = format!("{:?}", event.phase).to_lowercase();
    match event.total {
        Some(total) if total > 0 => {
            format!("{} {phase} {} %", event.item, event.current * 100 / total)
        }
        _ => format!("{} {phase}", event.item),
    }
}

fn reference(query: Option<&str>) -> Result<Reference, Refusal> {
    let name = query::one(query, "reference").unwrap_or_default();
    name.parse().map_err(|e| Refusal::bad_request(format!("image name {name:?}: {}", chain(&e))))
}

fn refused(error: ImageError) -> Refusal {
    Refusal::bad_request(chain(&error))
}

/// A time as RFC 3339 with whole seconds; whatever else an image says of it stays as it is.
fn in_seconds(text: &str) -> String {
    let second = |time: jiff::Timestamp| jiff::Timestamp::from_second(time.as_second()).ok();
    let rounded = text.parse().ok().and_then(second);
    rounded.map_or_else(|| text.to_owned(), |time| time.to_string())
}

fn reader(body: Incoming) -> impl AsyncRead + Send + Unpin + 'static {
    StreamReader::new(body.into_data_stream().map_err(io::Error::other))
}

#[cfg(test)]
mod tests {
    use super::in_seconds;

    #[test]
    fn times_have_whole_seconds() {
        assert_eq!(in_seconds("2024-05-06T07:08:09.123456789Z"), "2024-05-06T07:08:09Z");
        assert_eq!(in_seconds("2024-05-06T09:08:09.5+02:00"), "2024-05-06T07:08:09Z");
        assert_eq!(in_seconds("long ago"), "long ago");
    }
}
