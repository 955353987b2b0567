//! `kubectl logs`: the node's stream, passed on as it comes.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyDataStream, Empty};
use hyper::body::Incoming;
use pontoon_model::resource::PODS;
use pontoon_model::status::Status;
use tokio_util::sync::CancellationToken;

use crate::body::{self, Body};
use crate::call::Call;
use crate::in_flight::Place;
use crate::options;
use crate::path::percent_encode;
use crate::query::Query;
use crate::respond;

use super::backend::{self, Connection};
use super::{container, read};

pub(super) async fn log(mut call: Call) -> Result<Response<Body>, Status> {
    let name = call.target.name();
    let pod = call.objects().get(PODS, call.target.namespace(), name).await?;
    let pod = read::value(&pod)?;
    let wanted = parameters(&call.query)?;
    let chosen = container::choose(&pod, name, call.query.get("container"))?;
    let Some(node) = container::node(&pod) else {
        // A pod without a node has said nothing yet.
        return Ok(text(body::full(Bytes::new())));
    };
    container::check_has_logs(&pod, name, &chosen, call.query.flag("previous"))?;
    let namespace = call.target.namespace().unwrap_or_default();
    let uri = format!(
        "/logs/{}/{}/{}{wanted}",
        percent_encode(namespace),
        percent_encode(name),
        percent_encode(&chosen)
    );
    let request = Request::get(uri)
        .header(HOST, "node")
        .body(Empty::new())
        .map_err(|error| Status::internal(format!("ask for logs: {error}")))?;
    let (response, connection) = backend::send(&call, node, request).await?;
    if response.status() != StatusCode::OK {
        return Err(backend::refusal(response, connection).await);
    }
    let feed = Feed {
        pieces: BodyDataStream::new(response.into_body()),
        shutdown: call.shared.shutdown.clone(),
        _connection: connection,
        _place: call.place.take(),
    };
    Ok(text(body::stream(feed.into_stream())))
}

fn text(body: Body) -> Response<Body> {
    let mut response = respond::of_type(StatusCode::OK, respond::JSON, body);
    let plain = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// The parameters that the node knows, checked, as a query.
fn parameters(query: &Query) -> Result<String, Status> {
    let mut pairs = Vec::new();
    for name in ["follow", "previous", "timestamps"] {
        if query.flag(name) {
            pairs.push(format!("{name}=true"));
        }
    }
    for name in ["tailLines", "sinceSeconds", "limitBytes"] {
        if let Some(number) = query.number(name)? {
            pairs.push(format!("{name}={number}"));
        }
    }
    for (name, least) in [("sinceSeconds", 1), ("limitBytes", 1)] {
        if query.number(name)?.is_some_and(|number| number < least) {
            return Err(options::invalid_option(name, "Invalid value: must be greater than 0"));
        }
    }
    if let Some(since) = query.get("sinceTime") {
        if query.get("sinceSeconds").is_some() {
            let why = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified";
            return Err(options::invalid_option("sinceTime", why));
        }
        let at: jiff::Timestamp = since.parse().map_err(|_| {
            options::invalid_option("sinceTime", "Invalid value: must be a time as in RFC 3339")
        })?;
        pairs.push(format!("sinceTime={}", percent_encode(&at.to_string())));
    }
    Ok(if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) })
}

/// Logs on their way from a node to a client. Dropping it closes the connection to the node.
struct Feed {
    pieces: BodyDataStream<Incoming>,
    shutdown: CancellationToken,
    _connection: Connection,
    _place: Option<Place>,
}

impl Feed {
    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(self, |mut feed| async move {
            let next = feed.shutdown.run_until_cancelled(feed.pieces.next()).await;
            let piece = next.flatten()?.map_err(io::Error::other);
            Some((piece, feed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_and_passed_on() {
        let query = |text: &str| Query::parse(text).unwrap();
        let all = "container=c&follow=true&previous=false&tailLines=5&sinceTime=2026-11-23T10%3A00%3A00Z&evil=1";
        assert_eq!(
            parameters(&query(all)).unwrap(),
            "?follow=true&tailLines=5&sinceTime=2026-11-23T10%3A00%3A00Z"
        );
        assert_eq!(parameters(&query("")).unwrap(), "");
        for bad in [
            "tailLines=-1",
            "tailLines=x",
            "sinceSeconds=0",
            "limitBytes=0",
            "sinceTime=yesterday",
            "sinceTime=2026-11-23T10:00:00Z&sinceSeconds=5",
        ] {
            assert!(parameters(&query(bad)).is_err(), "{bad}");
        }
    }
}
