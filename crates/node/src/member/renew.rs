//! The node's certificate is renewed at two thirds of its life, with no restart and no hand.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;

use super::Member;
use crate::identity::certificate::{Credentials, Request};
use crate::membership::Membership;
use crate::rpc::Refusal;
use crate::rpc::server::{RenewAnswer, RenewRequest};

/// How often the certificate's age is looked at, and how long after a failure it is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// Renews when it is time, until the member stops.
pub(super) async fn run(member: Member) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = member.inner.stop.cancelled() => return,
        }
        if let Some(manager) = &member.inner.manager {
            manager.keep_kubeconfig(&member).await;
        }
        if !member.inner.tls.credentials().wants_renewal(Timestamp::now().as_second()) {
            continue;
        }
        match renew(&member).await {
            // Another role begins with a new certificate of its own; the order for it is on its way.
            Ok(renewed) if renewed.role != member.membership().role => {}
            Ok(renewed) => match member.inner.tls.replace(renewed.credentials.clone()) {
                Ok(()) => {
                    member.set_credentials(renewed.credentials);
                    tracing::info!("this node's certificate is renewed");
                }
                Err(error) => tracing::error!(%error, "use the renewed certificate"),
            },
            Err(refusal) => {
                tracing::warn!(error = refusal.message, "renew this node's certificate")
            }
        }
    }
}

/// A membership with a new certificate, for the role in this node's record.
pub(super) async fn renew(member: &Member) -> Result<Membership, Refusal> {
    let request = Request::create().map_err(|e| Refusal::internal(&e))?;
    let body = RenewRequest { request_pem: request.request_pem };
    let mut membership = member.membership();
    let answer: RenewAnswer =
        match (&member.inner.manager, member.inner.client.managers().is_empty()) {
            // The only manager signs for itself.
            (Some(manager), true) => manager.renew(&membership, &body.request_pem).await?,
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
