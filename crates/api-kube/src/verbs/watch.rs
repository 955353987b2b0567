//! `watch`: changes as a stream of JSON lines. An object's bytes are shared by all who watch it.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use http::{Response, StatusCode};
use jiff::Timestamp;
use pontoon_model::object::Object;
use pontoon_model::status::Status;
use pontoon_objects::{ObjectWatch, WatchEvent};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::accept::{self, Form};
use crate::body::{self, Body};
use crate::call::Call;
use crate::in_flight::Place;
use crate::options;
use crate::respond;
use crate::table::{self, Tabler};

use super::read;

pub(super) async fn watch(mut call: Call) -> Result<Response<Body>, Status> {
    let resource = call.target.resource;
    let form = match accept::of_objects(&call.headers)? {
        Form::Table(version) => {
            WatchForm::Table(read::tabler(resource, version, &call.query)?, true)
        }
        Form::Partial => WatchForm::Partial,
        Form::Json | Form::Yaml | Form::Discovery(_) => WatchForm::Json,
    };
    let options = options::watch(resource, &call.query)?;
    let watch = call.objects().watch(resource, call.target.namespace(), options).await?;
    let feed = Feed {
        watch,
        form,
        ready: VecDeque::new(),
        ended: false,
        shutdown: call.shared.shutdown.clone(),
        _place: call.place.take(),
    };
    Ok(respond::of_type(StatusCode::OK, respond::JSON, body::stream(feed.into_stream())))
}

/// How the objects in the events look.
enum WatchForm {
    Json,
    Partial,
    /// The flag says whether the columns have yet to be told.
    Table(Tabler, bool),
}

/// One client's watch.
struct Feed {
    watch: ObjectWatch,
    form: WatchForm,
    /// Pieces of the event that is being sent.
    ready: VecDeque<Bytes>,
    ended: bool,
    shutdown: CancellationToken,
    _place: Option<Place>,
}

impl Feed {
    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(self, |mut feed| async move {
            let piece = feed.next_piece().await?;
            Some((Ok(piece), feed))
        })
    }

    async fn next_piece(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            if self.ended {
                return None;
            }
            let next = self.shutdown.run_until_cancelled(self.watch.next()).await;
            match next.flatten()? {
                Ok(event) => self.add_event(&event),
                Err(status) => self.add_error(&status),
            }
        }
    }

    fn add_event(&mut self, event: &WatchEvent) {
        let (head, object): (&'static [u8], &Object) = match event {
            WatchEvent::Added(object) => (br#"{"type":"ADDED","object":"#, object),
            WatchEvent::Modified(object) => (br#"{"type":"MODIFIED","object":"#, object),
            WatchEvent::Deleted(object) => (br#"{"type":"DELETED","object":"#, object),
            WatchEvent::Bookmark(object) => (br#"{"type":"BOOKMARK","object":"#, object),
        };
        self.ready.push_back(Bytes::from_static(head));
        match self.view(object, matches!(event, WatchEvent::Bookmark(_))) {
            Ok(bytes) => self.ready.push_back(bytes),
            Err(status) => {
                self.ready.clear();
                return self.add_error(&status);
            }
        }
        self.ready.push_back(Bytes::from_static(b"}\n"));
    }

    fn view(&mut self, object: &Object, bookmark: bool) -> Result<Bytes, Status> {
        let value = match &mut self.form {
            WatchForm::Json => return Ok(object.json()),
            WatchForm::Partial => table::partial(read::value(object)?, "v1"),
            WatchForm::Table(tabler, first) => {
                let meta = json!({"resourceVersion": object.meta.resource_version.to_string()});
                let objects = if bookmark { &[] } else { std::slice::from_ref(object) };
                table_event(*tabler, std::mem::take(first), objects, meta)
            }
        };
        Ok(Bytes::from(respond::to_json(&value)?))
    }

    /// The last line: why the watch ends.
    fn add_error(&mut self, status: &Status) {
        self.ended = true;
        let line = json!({"type": "ERROR", "object": status});
        self.ready.push_back(Bytes::from(format!("{line}\n")));
    }
}

fn table_event(tabler: Tabler, first: bool, objects: &[Object], meta: Value) -> Value {
    let now = Timestamp::now();
    if first { tabler.table(objects, meta, now) } else { tabler.rows(objects, meta, now) }
}
