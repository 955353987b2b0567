//! Commands that read and change API objects, through the daemon's Kubernetes API.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::cli::{Logs, Output, Scope};
use crate::client::{Client, checked, encode, full, named, request};
use crate::output::{self, Out};

const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Prints objects as the server's table, or whole.
///
/// # Errors
/// When the server refuses.
pub(super) async fn print_list(
    client: &Client,
    output: Output,
    scope: &Scope,
    resource: &str,
) -> anyhow::Result<()> {
    let path = if scope.all_namespaces {
        format!("/api/v1/{resource}")
    } else {
        format!("/api/v1/namespaces/{}/{resource}", encode(&scope.namespace))
    };
    if output == Output::Json || output == Output::Yaml {
        return output::document(output, &client.get(&path).await?);
    }
    let mut request = request(Method::GET, &path, full(""))?;
    request.headers_mut().insert(header::ACCEPT, header::HeaderValue::from_static(AS_TABLE));
    let response = checked(client.send(request).await?).await?;
    let table: Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    print_table(&table, output, scope.all_namespaces)
}

fn print_table(table: &Value, output: Output, with_namespace: bool) -> anyhow::Result<()> {
    let columns = table["columnDefinitions"].as_array().context("the server sent no table")?;
    let shown: Vec<usize> = (0..columns.len())
        .filter(|i| output == Output::Wide || columns[*i]["priority"].as_i64().unwrap_or(0) == 0)
        .collect();
    let mut headings: Vec<String> =
        shown.iter().map(|i| output::text(&columns[*i]["name"]).to_uppercase()).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in table["rows"].as_array().into_iter().flatten() {
        let mut cells: Vec<String> =
            shown.iter().map(|i| output::text(&row["cells"][*i])).collect();
        if with_namespace {
            cells.insert(0, output::text(&row["object"]["metadata"]["namespace"]));
        }
        rows.push(cells);
    }
    if with_namespace {
        headings.insert(0, "NAMESPACE".to_owned());
    }
    if rows.is_empty() {
        writeln!(std::io::stderr().lock(), "none found")?;
        return Ok(());
    }
    output::print_columns(&headings, rows.iter().map(Vec::as_slice), &mut Out)?;
    Ok(())
}

/// `pontoon logs`.
///
/// # Errors
/// When there is no such pod, or its node does not answer.
pub(super) async fn logs(client: &Client, options: &Logs) -> anyhow::Result<()> {
    let mut path = format!(
        "/api/v1/namespaces/{}/pods/{}/log?follow={}&previous={}",
        encode(&options.namespace),
        encode(&options.pod),
        options.follow,
        options.previous
    );
    if let Some(container) = &options.container {
        path.push_str(&format!("&container={}", encode(container)));
    }
    if let Some(tail) = options.tail {
        path.push_str(&format!("&tailLines={tail}"));
    }
    let response = checked(client.send(request(Method::GET, &path, full(""))?).await?).await;
    let response = response.map_err(named("pod", &options.pod, "ps -A"))?;
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.context("read the log")?.into_data() {
            Out.write_all(&data)?;
            Out.flush()?;
        }
    }
    Ok(())
}

/// Marks a node as (not) to be given pods.
///
/// # Errors
/// When there is no such node.
pub(super) async fn cordon(client: &Client, node: &str, unschedulable: bool) -> anyhow::Result<()> {
    let path = format!("/api/v1/nodes/{}", encode(node));
    let body = serde_json::to_vec(&json!({ "spec": { "unschedulable": unschedulable } }))?;
    let mut request = request(Method::PATCH, &path, full(body))?;
    let kind = header::HeaderValue::from_static("application/merge-patch+json");
    request.headers_mut().insert(header::CONTENT_TYPE, kind);
    let checked = checked(client.send(request).await?).await;
    checked.map(drop).map_err(named("node", node, "node ls"))
}

/// Evicts every pod of a node but a DaemonSet's, and waits until they are gone.
///
/// # Errors
/// When the server refuses, or the pods have not gone after five minutes.
pub(super) async fn evict_all(client: &Client, node: &str) -> anyhow::Result<()> {
    let path = format!("/api/v1/pods?fieldSelector={}", encode(&format!("spec.nodeName={node}")));
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    for _ in 0..600 {
        tick.tick().await;
        let pods = client.get(&path).await?;
        let left: Vec<&Value> = pods["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|pod| pod["metadata"]["ownerReferences"][0]["kind"] != "DaemonSet")
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        for pod in left.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) {
            evict(client, pod).await?;
        }
    }
    bail!("{node} still has pods after five minutes; `pontoon ps -A -o wide` shows them")
}

async fn evict(client: &Client, pod: &Value) -> anyhow::Result<()> {
    let (namespace, name) =
        (output::text(&pod["metadata"]["namespace"]), output::text(&pod["metadata"]["name"]));
    let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", encode(&namespace), encode(&name));
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "namespace": namespace, "name": name },
    });
    let mut request = request(Method::POST, &path, full(serde_json::to_vec(&eviction)?))?;
    let json = header::HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    let response = client.send(request).await?;
    // It has gone by itself since it was listed.
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(());
    }
    checked(response).await.map(drop)
}
