//! `/v1/operator/autopilot/`: how the quorum is, as far as this server can tell.

use std::time::Duration;

use http::{Method, StatusCode};
use pontoon_store::Role;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Answer;
use crate::call::Call;
use crate::cluster::MemberState;
use crate::cluster::VERSION;
use crate::duration::GoDuration;
use crate::json;
use crate::permit::Wish;
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// A server that the leader has not heard of for so long is not well.
const LAST_CONTACT: Duration = Duration::from_secs(1);
/// Nor is one that lacks more entries of the log.
const TRAILING_MAX: u64 = 250;
/// What Go writes for a time that is not known.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// How the quorum is looked after: none of it can be set.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    cleanup_dead_servers: bool,
    last_contact_threshold: GoDuration,
    max_trailing_logs: u64,
    min_quorum: u64,
    server_stabilization_time: GoDuration,
    redundancy_zone_tag: &'static str,
    disable_upgrade_migration: bool,
    upgrade_version_tag: &'static str,
    create_index: u64,
    modify_index: u64,
}

const CONFIGURATION: Configuration = Configuration {
    // Who leaves the quorum is decided by whoever removes a node.
    cleanup_dead_servers: false,
    last_contact_threshold: GoDuration { nanos: LAST_CONTACT.as_nanos() as i64 },
    max_trailing_logs: TRAILING_MAX,
    min_quorum: 0,
    server_stabilization_time: GoDuration { nanos: 0 },
    redundancy_zone_tag: "",
    disable_upgrade_migration: false,
    upgrade_version_tag: "",
    create_index: 1,
    modify_index: 1,
};

/// What a client wants it to be; a field that it leaves out is nothing, as in Consul.
#[derive(Default, PartialEq, Deserialize)]
#[serde(default)]
struct Wanted {
    #[serde(rename = "cleanupdeadservers")]
    cleanup_dead_servers: bool,
    #[serde(rename = "lastcontactthreshold")]
    last_contact_threshold: GoDuration,
    #[serde(rename = "maxtrailinglogs")]
    max_trailing_logs: u64,
    #[serde(rename = "minquorum")]
    min_quorum: u64,
    #[serde(rename = "serverstabilizationtime")]
    server_stabilization_time: GoDuration,
    #[serde(rename = "redundancyzonetag")]
    redundancy_zone_tag: String,
    #[serde(rename = "disableupgrademigration")]
    disable_upgrade_migration: bool,
    #[serde(rename = "upgradeversiontag")]
    upgrade_version_tag: String,
}

pub(crate) async fn configuration(call: Call) -> Result<Answer, Refusal> {
    if call.method == Method::GET {
        call.require(Wish::OperatorRead)?;
        return call.json(&CONFIGURATION);
    }
    call.require(Wish::OperatorWrite)?;
    let bad = |what: &str, words: String| {
        Refusal::BadRequest(format!("Bad request: Error parsing {what}: {words}"))
    };
    let body = json::decode(&call.body).map_err(|words| bad("autopilot config", words))?;
    known(&body).map_err(|words| bad("autopilot config", words))?;
    let wanted: Wanted = json::take(body).map_err(|words| bad("autopilot config", words))?;
    let cas = call.query.number("cas").map_err(|refusal| bad("cas value", refusal.to_string()))?;
    if cas.is_some_and(|index| index != CONFIGURATION.modify_index) {
        return call.json(&false);
    }
    let there = Wanted {
        last_contact_threshold: CONFIGURATION.last_contact_threshold,
        max_trailing_logs: TRAILING_MAX,
        ..Wanted::default()
    };
    // To say what is so already does no harm.
    if wanted == there {
        return call.json(&true);
    }
    Err(Refusal::NotServed(
        "another configuration of autopilot (GET shows the only one)".to_owned(),
    ))
}

/// Refuses fields that nobody knows, in Go's words.
fn known(body: &Value) -> Result<(), String> {
    let fields = body.as_object().ok_or_else(|| "it must be an object".to_owned())?;
    let ours = serde_json::to_value(CONFIGURATION).map_err(|error| error.to_string())?;
    let is_known = |name: &&String| {
        ours.as_object().is_some_and(|ours| ours.keys().any(|our| our.eq_ignore_ascii_case(name)))
    };
    match fields.keys().find(|name| !is_known(name)) {
        Some(name) => Err(format!("json: unknown field {name:?}")),
        None => Ok(()),
    }
}

/// How the quorum is.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Health {
    pub(crate) healthy: bool,
    /// How many servers more may fail.
    pub(crate) failure_tolerance: usize,
    servers: Vec<Server>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    address: String,
    serf_status: &'static str,
    version: &'static str,
    leader: bool,
    last_contact: GoDuration,
    last_term: u64,
    last_index: u64,
    healthy: bool,
    voter: bool,
    stable_since: &'static str,
}

pub(crate) async fn health(call: Call) -> Result<Answer, Refusal> {
    call.require(Wish::OperatorRead)?;
    let health = look(&call.server);
    let status = if health.healthy { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
    Answer::json_with(status, &health, call.pretty())
}

/// Only the leader knows when it heard of the others, and how far they are; others go by who is alive.
pub(crate) fn look(server: &ConsulServer) -> Health {
    let inner = &server.inner;
    let status = inner.store.status();
    let members = inner.cluster.members();
    let alive = |name: &str| {
        let member = members.iter().find(|member| member.name == name);
        member.map_or(MemberState::Failed, |member| member.state)
    };
    let show = |of: pontoon_store::MemberStatus| {
        let state = alive(&of.member.name);
        let silent = Duration::from_millis(of.silent_ms.unwrap_or(0));
        let last_index = of.matched.unwrap_or(status.applied_index);
        let is_near = status.last_index.saturating_sub(last_index) <= TRAILING_MAX;
        Server {
            id: of.member.id.to_string(),
            address: of.member.address.to_string(),
            serf_status: match state {
                MemberState::Alive => "alive",
                MemberState::Left => "left",
                MemberState::Failed => "failed",
            },
            version: VERSION,
            leader: of.is_leader,
            last_contact: GoDuration::from_std(silent),
            last_term: status.leadership.term,
            last_index,
            healthy: state == MemberState::Alive && silent <= LAST_CONTACT && is_near,
            voter: of.role == Role::Voter,
            stable_since: NO_TIME,
            name: of.member.name,
        }
    };
    let servers: Vec<_> = inner.store.members().into_iter().map(show).collect();
    let voters = servers.iter().filter(|server| server.voter).count();
    let well = servers.iter().filter(|server| server.voter && server.healthy).count();
    Health {
        healthy: status.leadership.leader.is_some() && servers.iter().all(|server| server.healthy),
        failure_tolerance: well.saturating_sub(voters / 2 + 1),
        servers,
    }
}
