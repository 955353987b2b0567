//! `/v1/coordinate/`: where nodes are in the network, as somebody has measured.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use pontoon_store::Put;
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::Asked;
use crate::catalog::state::{Catalog, Entry};
use crate::catalog::view;
use crate::filter::answers;
use crate::json;
use crate::keyspace;
use crate::near::Coordinate;
use crate::permit::Wish;
use crate::refusal::Refusal;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'c> {
    node: &'c str,
    segment: &'static str,
    coord: &'c Coordinate,
}

impl<'c> Shown<'c> {
    /// Where a node is; none if nobody has measured.
    fn of(catalog: &'c Catalog, entry: &'c Entry) -> Option<Shown<'c>> {
        let node = &entry.node.name;
        let coord = catalog.coordinates.get(&node.to_lowercase())?;
        Some(Shown { node, segment: "", coord })
    }
}

/// The servers of a datacenter.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Area<'c> {
    datacenter: &'c str,
    #[serde(rename = "AreaID")]
    area_id: &'static str,
    coordinates: Vec<Shown<'c>>,
}

pub(crate) async fn datacenters(call: Call) -> Result<Answer, Refusal> {
    let asked = Asked::of(&call, &answers::NODE)?;
    let members = call.server.inner.cluster.members();
    let (catalog, _) = call.server.catalog(call.options()?.consistency.read()).await?;
    let servers = members.iter().filter(|member| member.is_server);
    let seen = servers.filter_map(|server| catalog.node(&server.name));
    let seen = seen.filter(|entry| asked.wants(&entry.node));
    call.json(&[Area {
        datacenter: asked.datacenter(),
        area_id: "wan",
        coordinates: seen.filter_map(|entry| Shown::of(&catalog, entry)).collect(),
    }])
}

pub(crate) async fn nodes(call: Call) -> Result<Answer, Refusal> {
    let asked = Asked::of(&call, &answers::NODE)?;
    view::answer(&call, |catalog| {
        let seen = catalog.nodes().filter(|entry| asked.wants(&entry.node));
        call.encode(&seen.filter_map(|entry| Shown::of(catalog, entry)).collect::<Vec<_>>())
    })
    .await
}

pub(crate) async fn node(call: Call) -> Result<Answer, Refusal> {
    let name = call.name("Missing node name")?;
    let asked = Asked::of(&call, &answers::NODE)?;
    call.require(Wish::NodeRead(&name))?;
    let is_there = AtomicBool::new(false);
    let answer = view::answer(&call, |catalog| {
        let entry = catalog.node(&name).filter(|entry| asked.wants(&entry.node));
        let shown = entry.and_then(|entry| Shown::of(catalog, entry));
        is_there.store(shown.is_some(), Ordering::Relaxed);
        call.encode(&shown.into_iter().collect::<Vec<_>>())
    })
    .await?;
    // A node without a place is not found.
    Ok(if is_there.into_inner() { answer } else { answer.not_found() })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Update {
    node: String,
    datacenter: String,
    segment: String,
    coord: Option<Measured>,
}

#[derive(Deserialize)]
struct Measured {
    vec: Vec<f64>,
    #[serde(default)]
    error: f64,
    #[serde(default)]
    adjustment: f64,
    #[serde(default)]
    height: f64,
}

pub(crate) async fn update(call: Call) -> Result<Answer, Refusal> {
    let asked: Update = json::read(&call.body)?;
    call.in_datacenter(&asked.datacenter)?;
    if !asked.segment.is_empty() {
        return Err(Refusal::NotServed("a network segment".to_owned()));
    }
    call.require(Wish::NodeWrite(&asked.node))?;
    let measured = asked.coord.ok_or_else(|| Refusal::bad_request("Missing coordinate"))?;
    let Measured { vec, error, adjustment, height } = measured;
    let coordinate = Coordinate { vec, error, adjustment, height };
    if !coordinate.is_valid() {
        return Err(Refusal::failed("incompatible coordinate"));
    }
    let (catalog, _) = call.server.catalog(pontoon_store::Read::Linearizable).await?;
    // As in Consul, nothing is kept of nodes that are not there.
    if catalog.node(&asked.node).is_some() {
        let value = serde_json::to_vec(&coordinate);
        let value = value.map_err(|error| Refusal::Failed(format!("write: {error}")))?;
        let key = keyspace::coordinate(&asked.node);
        let put = pontoon_store::Txn::new().then(Put::new(key, Bytes::from(value)));
        call.store().txn(put).await?;
    }
    Ok(Answer::done())
}
