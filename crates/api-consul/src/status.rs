//! Who leads, and who the servers are.

use crate::answer::Answer;
use crate::call::Call;
use crate::refusal::Refusal;

pub(crate) async fn leader(call: Call) -> Result<Answer, Refusal> {
    call.json(&call.server.inner.cluster.leader().unwrap_or_default())
}

pub(crate) async fn peers(call: Call) -> Result<Answer, Refusal> {
    call.json(&call.server.inner.cluster.peers())
}
