//! `/v1/operator/`: the members of the store's quorum, and how they are.

mod autopilot;

use pontoon_store::Role;
use serde::Serialize;

use crate::answer::Answer;
use crate::call::Call;
use crate::permit::Wish;
use crate::refusal::Refusal;

pub(crate) use autopilot::{configuration, health, look};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    leader: bool,
    protocol_version: &'static str,
    voter: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    servers: Vec<Server>,
    index: u64,
}

pub(crate) async fn raft_configuration(call: Call) -> Result<Answer, Refusal> {
    call.require(Wish::OperatorRead)?;
    let server = |status: pontoon_store::MemberStatus| Server {
        id: status.member.id.to_string(),
        node: status.member.name,
        address: status.member.address.to_string(),
        leader: status.is_leader,
        protocol_version: "3",
        voter: status.role == Role::Voter,
    };
    let servers = call.store().members().into_iter().map(server).collect();
    call.json(&Configuration { servers, index: 0 })
}

/// A member leaves the quorum with its node, and never alone.
pub(crate) async fn raft_peer(call: Call) -> Result<Answer, Refusal> {
    call.require(Wish::OperatorWrite)?;
    let (id, address) = (call.query.text("id"), call.query.text("address"));
    let bad = |words: &str| Err(Refusal::BadRequest(format!("Bad request: {words}")));
    let (what, value) = match (id.as_ref(), address.as_ref()) {
        ("", "") => {
            return bad(
                "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove",
            );
        }
        (id, "") => ("id", id),
        ("", address) => ("address", address),
        _ => return bad("Must specify only one of ?id or ?address"),
    };
    let is_it = |status: &pontoon_store::MemberStatus| {
        let member = &status.member;
        value == if what == "id" { member.id.to_string() } else { member.address.to_string() }
    };
    let Some(found) = call.store().members().into_iter().find(is_it) else {
        let words = format!("{what} {value:?} was not found in the Raft configuration");
        return Err(Refusal::Failed(words));
    };
    let name = found.member.name;
    Err(Refusal::NotServed(format!(
        "to take {name} out of the quorum alone (`pontoon node rm {name}` removes the node)"
    )))
}
