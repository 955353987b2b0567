//! Requests about this node's membership.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::body::Incoming;
use ipnet::Ipv4Net;
use rand::Rng;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{MANAGER_PORT, longest_prefix, parse_range};
use crate::consul;
use crate::daemon::{Joined, Shared};
use crate::etcd;
use crate::identity::Role;
use crate::kubeconfig;
use crate::membership::{ManagerAddress, Membership};
use crate::quorum::{is_alive, tolerance};
use crate::rpc::{Refusal, read_json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Init {
    advertise_addr: Option<IpAddr>,
    cluster_cidr: String,
    service_cidr: String,
}

pub(super) async fn init(shared: &Arc<Shared>, body: Incoming) -> Result<Value, Refusal> {
    let options: Init = read_json(body).await?;
    let cluster = range("--cluster-cidr", &options.cluster_cidr, longest_prefix::NODES)?;
    let service = range("--service-cidr", &options.service_cidr, longest_prefix::SERVICES)?;
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

pub(super) async fn force(shared: &Arc<Shared>) -> Result<Value, Refusal> {
    let change = shared.clone();
    let member = shared.to_the_end(async move { change.force_new_cluster().await }).await?;
    member.settled().await?;
    let membership = member.membership();
    Ok(json!({ "node": membership.node, "cluster": membership.cluster }))
}

fn range(option: &str, text: &str, longest: u8) -> Result<Ipv4Net, Refusal> {
    parse_range(text, longest).map_err(|why| Refusal::bad_request(format!("{option} {why}")))
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
    let warning = shared.member().await.and_then(|member| {
        let managers = member.manager().ok()?.store.members().len();
        tolerance(managers.saturating_sub(1))
    });
    let change = shared.clone();
    shared.to_the_end(async move { change.leave(options.force).await }).await?;
    Ok(json!({ "left": true, "warning": warning }))
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
    let (members, warning) = shared
        .with_member(async |member| {
            let lost = member.manager().ok().and_then(|manager| manager.quorum.lost());
            Ok((member.gossip().members().borrow().clone(), lost))
        })
        .await?;
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
    let consul = json!({ "build": consul::VERSION, "datacenter": consul::DATACENTER });
    Ok(json!({ "members": list, "consul": consul, "warning": warning }))
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
        let etcd = shared.config.etcd.map(|listen| etcd::client_url(&listen, &member.membership()));
        status["etcd"] = json!(etcd);
        if etcd.is_some() {
            let members = member.gossip().members().borrow().clone();
            status["etcdEndpoints"] = json!(etcd::client_urls(&members, &member.membership().node));
        }
        let problem = match (store.disk_full, store.failed) {
            (_, Some(failed)) => Some(failed),
            (true, None) => Some(
                "the disk of the replicated log is full; writes are refused until there is room"
                    .to_owned(),
            ),
            _ => None,
        };
        problems.extend(problem);
        let waits = store
            .snapshot_waits
            .map(|shortage| format!("waiting for room on the disk: {shortage}"));
        problems.extend(waits);
        let for_ever = "lost for ever? `pontoon init --force-new-cluster --yes` goes on with this manager alone; \
                        first read docs/backup.md";
        problems.extend(manager.quorum.lost().map(|lost| format!("{lost} ({for_ever})")));
        status["consul"] = json!(member.consul().url());
        status["consulDns"] = json!(member.consul().dns_address());
        let warnings: Vec<String> =
            manager.quorum.warning().into_iter().chain(member.consul().warning()).collect();
        status["warning"] = json!((!warnings.is_empty()).then(|| warnings.join("; ")));
    }
    tell_reachable(&mut status, &member.gossip().members().borrow());
    status["problem"] = json!((!problems.is_empty()).then(|| problems.join("; ")));
    Ok(status)
}

fn describe(status: &mut Value, membership: &Membership) {
    // The name by which the cluster knows it, whatever the daemon was told since.
    status["node"] = json!(membership.node);
    status["cluster"] = json!(membership.cluster);
    status["role"] = json!(membership.role);
    status["address"] = json!(membership.advertise);
    let manager = |m: &ManagerAddress| json!({ "name": m.name, "address": m.address.ip() });
    status["managers"] = json!(membership.managers.iter().map(manager).collect::<Vec<Value>>());
}

/// Adds to each manager whether gossip finds it there.
fn tell_reachable(status: &mut Value, members: &[pontoon_gossip::Member]) {
    for manager in status["managers"].as_array_mut().into_iter().flatten() {
        let is_there = members.iter().any(|m| manager["name"] == *m.name && is_alive(m));
        manager["reachable"] = json!(is_there);
    }
}

/// The kubeconfig of this manager, with a context for each of the others. `server` is the one it begins with.
pub(super) async fn kubeconfig(
    shared: &Arc<Shared>,
    server: Option<&str>,
) -> Result<Value, Refusal> {
    let membership =
        shared.with_member(async |member| member.manager().map(|_| member.membership())).await?;
    let path = shared.config.kubeconfig();
    let text = tokio::fs::read_to_string(&path).await;
    let text = text.map_err(|e| Refusal::unavailable(format!("read {}: {e}", path.display())))?;
    let first = server.map_or(Ok(membership.advertise.to_string()), |server| {
        kubeconfig::host_of(server, &membership.managers)
    })?;
    Ok(json!({ "kubeconfig": kubeconfig::with_all(&text, &first, &membership.managers)? }))
}
