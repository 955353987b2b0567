//! The server itself, and the members of the cluster.

use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::catalog::record::Texts;
use crate::cluster::{Member, MemberState, VERSION};
use crate::near::Coordinate;
use crate::permit::Wish;
use crate::refusal::Refusal;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    name: String,
    addr: String,
    port: u16,
    tags: Texts,
    status: u8,
    protocol_min: u8,
    protocol_max: u8,
    protocol_cur: u8,
    delegate_min: u8,
    delegate_max: u8,
    delegate_cur: u8,
}

impl Shown {
    fn of(member: &Member, datacenter: &str) -> Shown {
        let role = if member.is_server { "consul" } else { "node" };
        let build = format!("{VERSION}:pontoon");
        let tags = [
            ("build", build.as_str()),
            ("dc", datacenter),
            ("id", &member.id),
            ("role", role),
            ("segment", ""),
            ("vsn", "2"),
            ("vsn_max", "3"),
            ("vsn_min", "2"),
        ];
        let mut tags: Texts =
            tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        if member.is_server {
            tags.insert("port".to_owned(), member.server_port.to_string());
        }
        Shown {
            name: member.name.clone(),
            addr: member.address.ip().to_string(),
            port: member.address.port(),
            tags,
            status: match member.state {
                MemberState::Alive => 1,
                MemberState::Left => 3,
                MemberState::Failed => 4,
            },
            protocol_min: 1,
            protocol_max: 5,
            protocol_cur: 2,
            delegate_min: 2,
            delegate_max: 5,
            delegate_cur: 4,
        }
    }
}

pub(crate) async fn members(call: Call) -> Result<Answer, Refusal> {
    let inner = &call.server.inner;
    let members = inner.cluster.members();
    let seen = members.iter().filter(|member| call.permit.allows(Wish::NodeRead(&member.name)));
    let shown: Vec<_> = seen.map(|member| Shown::of(member, &inner.settings.datacenter)).collect();
    call.json(&shown)
}

/// The server, as `consul info` and clients that look for their own node ask for it.
pub(crate) async fn this(call: Call) -> Result<Answer, Refusal> {
    let inner = &call.server.inner;
    let node = call.node();
    call.require(Wish::AgentRead(node))?;
    let members = inner.cluster.members();
    let me = members.iter().find(|member| member.name == node);
    let status = inner.store.status();
    let (leader, is_leader) = (inner.cluster.leader().unwrap_or_default(), status.leadership.is_me);
    let text = |value: &dyn ToString| Value::String(value.to_string());
    let datacenter = &inner.settings.datacenter;
    call.json(&json!({
        "Config": {
            "Datacenter": datacenter,
            "NodeName": node,
            "NodeID": me.map(|me| &me.id),
            "Revision": "pontoon",
            "Server": true,
            "Version": VERSION,
        },
        "Coord": Coordinate::default(),
        "Member": me.map(|me| Shown::of(me, datacenter)),
        "Stats": {
            "agent": {
                "check_monitors": "0", "check_ttls": "0", "checks": "0", "services": "0",
            },
            "build": { "prerelease": "", "revision": "pontoon", "version": VERSION },
            "consul": {
                "bootstrap": "false",
                "known_datacenters": "1",
                "leader": text(&is_leader),
                "leader_addr": leader,
                "server": "true",
            },
            "raft": {
                "applied_index": text(&status.applied_index),
                "last_log_index": text(&status.last_index),
                "last_snapshot_index": text(&status.snapshot_index),
                "num_peers": text(&inner.cluster.peers().len().saturating_sub(1)),
                "state": if is_leader { "Leader" } else { "Follower" },
            },
            "serf_lan": { "members": text(&members.len()) },
        },
        "Meta": {},
    }))
}

/// A server joins with a token, and not because somebody names its address.
pub(crate) async fn join(call: Call) -> Result<Answer, Refusal> {
    call.require(Wish::AgentWrite(call.node()))?;
    let address = call.name("Missing address")?;
    let is_member = |member: &Member| {
        member.address.ip().to_string() == address || member.address.to_string() == address
    };
    if call.server.inner.cluster.members().iter().any(is_member) {
        return Ok(Answer::done());
    }
    Err(Refusal::NotServed(format!("to join {address} (use `pontoon join` there)")))
}

/// Consul's agents read their files again; a server here has none, and what nobody reads is not to be trusted.
pub(crate) async fn reload(call: Call) -> Result<Answer, Refusal> {
    call.require(Wish::AgentWrite(call.node()))?;
    let what =
        "to reload a configuration (there is none: services are registered through this API)";
    Err(Refusal::NotServed(what.to_owned()))
}

pub(crate) async fn leave(call: Call) -> Result<Answer, Refusal> {
    call.require(Wish::AgentWrite(call.node()))?;
    call.server.inner.cluster.leave().await.map_err(Refusal::Failed)?;
    Ok(Answer::done())
}

pub(crate) async fn force_leave(call: Call) -> Result<Answer, Refusal> {
    let name = call.name("Missing node name")?;
    call.require(Wish::OperatorWrite)?;
    let members = call.server.inner.cluster.members();
    match members.iter().find(|member| member.name.eq_ignore_ascii_case(&name)) {
        None => Err(Refusal::Failed(format!("agent: No node found with name '{name}'"))),
        // As in Consul, nothing is done to one that lives.
        Some(member) if member.state == MemberState::Alive => Ok(Answer::done()),
        Some(member) => {
            call.server.inner.cluster.remove(&member.name).await.map_err(Refusal::Failed)?;
            Ok(Answer::done())
        }
    }
}
