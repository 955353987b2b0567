//! `/v1/operator/`: the members of the store's quorum.

use pontoon_store::Role;
use serde::Serialize;

use crate::answer::Answer;
use crate::call::Call;
use crate::permit::Wish;
use crate::refusal::Refusal;

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
