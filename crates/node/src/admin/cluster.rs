//! Requests about this node's membership.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::body::Incoming;
use ipnet::Ipv4Net;
use rand::Rng;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::MANAGER_PORT;
use crate::daemon::{Joined, Shared};
use crate::identity::Role;
use crate::membership::Membership;
use crate::rpc::{Refusal, read_json};

/// Prefix length of every node's pod range.
const NODE_PREFIX: u8 = 24;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Init {
    advertise_addr: Option<IpAddr>,
    cluster_cidr: String,
    service_cidr: String,
}

pub(super) async fn init(shared: &Arc<Shared>, body: Incoming) -> Result<Value, Refusal> {
    let options: Init = read_json(body).await?;
    let cluster = range("--cluster-cidr", &options.cluster_cidr, NODE_PREFIX)?;
    let service = range("--service-cidr", &options.service_cidr, 28)?;
    if cluster.contains(&service) || service.contains(&cluster) {
        return Err(Refusal::bad_request(format!(
            "--cluster-cidr {cluster} and --service-cidr {service} overlap; give them ranges of their own"
        )));
    }
    let (change, address) = (shared.clone(), options.advertise_addr);
    let member = async move { change.init(address, (cluster, service)).await };
    let member = shared.to_the_end(member).await?;
    let membership = member.membership();
    let tokens = member.manager()?.records.cluster().await?;
    Ok(json!({
        "node": membership.node,
        "cluster": membership.cluster,
        "address": SocketAddr::new(membership.advertise, MANAGER_PORT),
        "workerToken": tokens.worker_token,
        "managerToken": tokens.manager_token,
    }))
}

fn range(option: &str, text: &str, longest: u8) -> Result<Ipv4Net, Refusal> {
    let parsed: Ipv4Net = text.parse().map_err(|_| {
        Refusal::bad_request(format!(
            "{option} {text:?} is no range of IPv4 addresses, such as 10.244.0.0/16"
        ))
    })?;
    if parsed.trunc() != parsed {
        return Err(Refusal::bad_request(format!(
            "{option} {parsed} has host bits set; do you mean {}?",
            parsed.trunc()
        )));
    }
    let first = parsed.network();
    if first.is_loopback()
        || first.is_multicast()
        || first.is_link_local()
        || first.octets()[0] == 0
    {
        return Err(Refusal::bad_request(format!(
            "{option} {parsed}: these addresses have another use; take a private range, such as 10.244.0.0/16"
        )));
    }
    if parsed.prefix_len() > longest || parsed.prefix_len() < 8 {
        return Err(Refusal::bad_request(format!(
            "{option} {parsed}: the prefix must be /8 to /{longest}"
        )));
    }
    Ok(parsed)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Join {
    token: String,
    manager: String,
    advertise_addr: Option<IpAddr>,
}

pub(super) async fn join(shared: &Arc<Shared>, body: Incoming) -> Result<Value, Refusal> {
    let options: Join = read_json(body).await?;
    let change = shared.clone();
    let joined =
        async move { change.join(&options.token, &options.manager, options.advertise_addr).await };
    let Joined { membership, already } = shared.to_the_end(joined).await?;
    Ok(json!({
        "node": membership.node,
        "role": membership.role,
        "cluster": membership.cluster,
        "already": already,
        "problem": shared.stranded().map(|stranded| stranded.problem),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Leave {
    force: bool,
}

pub(super) async fn leave(shared: &Arc<Shared>, body: Incoming) -> Result<Value, Refusal> {
    let options: Leave = read_json(body).await?;
    let change = shared.clone();
    shared.to_the_end(async move { change.leave(options.force).await }).await?;
    Ok(json!({ "left": true }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinToken {
    role: Role,
    #[serde(default)]
    rotate: bool,
}

pub(super) async fn join_token(shared: &Arc<Shared>, body: Incoming) -> Result<Value, Refusal> {
    let options: JoinToken = read_json(body).await?;
    let records = shared.records().await?;
    let token = if options.rotate {
        let secret = rand::rng().random();
        records.rotate_token(options.role, secret).await?
    } else {
        records.cluster().await?.token(options.role).clone()
    };
    let address = shared.with_member(async |member| Ok(member.membership().advertise)).await?;
    Ok(json!({
        "role": options.role,
        "token": token,
        "address": SocketAddr::new(address, MANAGER_PORT),
    }))
}

pub(super) async fn members(shared: &Arc<Shared>) -> Result<Value, Refusal> {
    let members =
        shared.with_member(async |member| Ok(member.gossip().members().borrow().clone())).await?;
    let list: Vec<Value> = members
        .iter()
        .map(|member| {
            json!({
                "name": member.name,
                "address": member.address,
                "status": member.status.as_str(),
                "role": member.meta.role,
                "version": member.meta.version,
            })
        })
        .collect();
    Ok(json!({ "members": list }))
}

pub(super) async fn status(shared: &Arc<Shared>) -> Result<Value, Refusal> {
    let mut status = json!({
        "node": shared.config.node_name,
        "version": env!("CARGO_PKG_VERSION"),
        "cluster": Value::Null,
    });
    let Some(member) = shared.member().await else {
        if let Some(stranded) = shared.stranded() {
            describe(&mut status, &stranded.membership);
            status["problem"] = json!(stranded.problem);
        } else {
            status["problem"] = json!(shared.why_without_cluster());
        }
        return Ok(status);
    };
    describe(&mut status, &member.membership());
    let mut problems = member.agent().problems();
    problems.extend(member.problem());
    if let Ok(manager) = member.manager() {
        let store = manager.store.status();
        let leader = store.leadership.leader.and_then(|id| {
            manager.store.members().into_iter().find(|m| m.member.id == id).map(|m| m.member.name)
        });
        status["leader"] = json!(leader.unwrap_or_else(|| "none".to_owned()));
        status["revision"] = json!(store.revision);
        let problem = match (store.disk_full, store.failed) {
            (_, Some(failed)) => Some(failed),
            (true, None) => Some(
                "the disk of the replicated log is full; writes are refused until there is room"
                    .to_owned(),
            ),
            _ => None,
        };
        problems.extend(problem);
    }
    status["problem"] = json!((!problems.is_empty()).then(|| problems.join("; ")));
    Ok(status)
}

fn describe(status: &mut Value, membership: &Membership) {
    // The name by which the cluster knows it, whatever the daemon was told since.
    status["node"] = json!(membership.node);
    status["cluster"] = json!(membership.cluster);
    status["role"] = json!(membership.role);
    status["address"] = json!(membership.advertise);
    let names: Vec<&str> = membership.managers.iter().map(|m| m.name.as_str()).collect();
    status["managers"] = json!(names.join(" "));
}

pub(super) async fn kubeconfig(shared: &Arc<Shared>) -> Result<Value, Refusal> {
    shared.with_member(async |member| member.manager().map(drop)).await?;
    let path = shared.config.kubeconfig();
    match tokio::fs::read_to_string(&path).await {
        Ok(text) => Ok(json!({ "kubeconfig": text })),
        Err(error) => Err(Refusal::unavailable(format!("read {}: {error}", path.display()))),
    }
}
