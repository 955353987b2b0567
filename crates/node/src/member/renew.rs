//! The node's certificate is renewed at two thirds of its life, with no restart and no hand; one that expired while
//! the node was off is replaced.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;

use pontoon_model::names;

use super::Member;
use crate::identity::certificate::{Credentials, Request};
use crate::membership::Membership;
use crate::revival;
use crate::rpc::Refusal;
use crate::rpc::server::{RenewAnswer, RenewRequest};

/// How often the certificate's age is looked at, and how long after a failure it is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// The same while the certificate has expired; it doubles up to the longest.
const EXPIRED_PAUSE: Duration = Duration::from_secs(1);
const EXPIRED_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Renews when it is time, until the member stops.
pub(super) async fn run(member: Member) {
    let mut pause = EXPIRED_PAUSE;
    loop {
        let now = Timestamp::now().as_second();
        let has_expired = member.inner.tls.credentials().has_expired(now);
        let look = async {
            look(&member, now, has_expired).await;
            let has_expired = member.inner.tls.credentials().has_expired(now);
            tokio::time::sleep(if has_expired { pause } else { LOOK_EVERY }).await;
        };
        tokio::select! {
            () = look => pause = (pause * 2).min(EXPIRED_PAUSE_MAX),
            () = member.inner.stop.cancelled() => return,
        }
    }
}

async fn look(member: &Member, now: i64, has_expired: bool) {
    let credentials = member.inner.tls.credentials();
    if credentials.wants_renewal(now) || lacks_api_address(member, &credentials).await {
        let renewed = match has_expired && member.inner.manager.is_none() {
            true => revival::ask(&member.membership()).await,
            false => renew(member).await,
        };
        match renewed {
            Ok(renewed) => take_over(member, renewed),
            Err(refusal) => {
                tracing::warn!(error = refusal.message, "renew this node's certificate");
                tell(member, &credentials, has_expired, &refusal);
                if refusal.is_removed() {
                    member.removed();
                }
            }
        }
    }
    if let Some(manager) = &member.inner.manager {
        manager.keep_kubeconfig(member).await;
    }
}

/// Whether this is a manager whose certificate is not good for the service of the cluster's API, behind which it is.
async fn lacks_api_address(member: &Member, credentials: &Credentials) -> bool {
    let Some(manager) = &member.inner.manager else { return false };
    let cluster = manager.records.cluster_here().await;
    cluster.is_ok_and(|c| !credentials.is_for(names::api_address(c.service_cidr.network())))
}

fn take_over(member: &Member, renewed: Membership) {
    // Another role begins with a new certificate of its own; the order for it is on its way. Until then an
    // expired one, with which nobody hears this node, is worth less than one for another role.
    let is_other = renewed.role != member.membership().role;
    let now = Timestamp::now().as_second();
    if is_other && !member.inner.tls.credentials().has_expired(now) {
        return;
    }
    match member.inner.tls.replace(renewed.credentials.clone()) {
        Ok(()) => {
            member.set_credentials(renewed.credentials);
            member.set_problem(None);
            tracing::info!("this node's certificate is renewed");
        }
        Err(error) => tracing::error!(%error, "use the renewed certificate"),
    }
}

/// Has `pontoon status` say why nobody hears this node.
fn tell(member: &Member, credentials: &Credentials, has_expired: bool, refusal: &Refusal) {
    let Some((_, end)) = credentials.validity().ok().filter(|_| has_expired) else { return };
    let end = Timestamp::from_second(end).unwrap_or_default();
    member.set_problem(Some(format!(
        "this node's certificate expired at {end} and is not replaced yet: {}",
        refusal.message
    )));
}

/// A membership with a new certificate, for the role in this node's record.
pub(super) async fn renew(member: &Member) -> Result<Membership, Refusal> {
    let request = Request::create().map_err(|e| Refusal::internal(&e))?;
    let body = RenewRequest { request_pem: request.request_pem };
    let mut membership = member.membership();
    let now = Timestamp::now().as_second();
    let is_alone = member.inner.client.managers().is_empty();
    let answer: RenewAnswer = match &member.inner.manager {
        // The only manager signs for itself, and so does one that no other one would listen to.
        Some(manager) if is_alone || membership.credentials.has_expired(now) => {
            manager.renew(&membership, &body.request_pem).await?
        }
        _ => member.inner.client.call(Method::POST, "/v1/renew", &body).await?,
    };
    membership.role = answer.role;
    membership.store = answer.store;
    membership.credentials = Credentials {
        certificate_pem: answer.certificate_pem,
        key_pem: request.key_pem,
        authority_pem: membership.credentials.authority_pem,
    };
    Ok(membership)
}
