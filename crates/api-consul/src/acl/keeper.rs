//! What is always there of access control, and the end of tokens whose time is up: the leader sees to both.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use pontoon_store::{Put, Range, Read, WatchRequest};
use tokio::time::timeout;
use uuid::Uuid;

use super::bootstrap::builtin;
use super::record::Token;
use super::state::{Change, change};
use crate::keyspace::{ACL_BOOTSTRAP, ACL_EXPIRATIONS, acl_secret, parse_acl_expiration};
use crate::refusal::Refusal;
use crate::server::ConsulServer;

/// The pause after something failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest wait for the next token to end: clocks may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Tokens that are deleted in one transaction.
const STEP: u64 = 100;

impl ConsulServer {
    /// Keeps what is always there of access control, and deletes tokens whose time is up, while this server leads, until
    /// the store stops. Every manager runs this; it ends at once where access control is off.
    pub async fn keep_tokens(self) {
        if self.inner.settings.acl.is_none() {
            return;
        }
        let mut leadership = self.inner.leadership.clone();
        while leadership.wait_for(|now| now.is_me).await.is_ok() {
            let lost = async {
                drop(leadership.wait_for(|now| !now.is_me).await);
            };
            tokio::select! {
                () = lost => {}
                kept = self.keep_while_leading() => match kept {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(%error, "keep tokens; it is tried again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// `Ok` when the store stops.
    async fn keep_while_leading(&self) -> Result<(), Refusal> {
        let store = &self.inner.store;
        self.keep_first().await?;
        loop {
            let range = Range { limit: STEP, ..Range::prefix(ACL_EXPIRATIONS) };
            let found = store.range(range, Read::Linearizable).await?;
            let ends = found.kvs.iter().filter_map(|kv| parse_acl_expiration(&kv.key));
            let ends: Vec<(u64, Uuid)> = ends.collect();
            let now_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
            let due: Vec<_> = ends.iter().filter(|(end_ms, _)| *end_ms < now_ms).collect();
            if !due.is_empty() {
                let due: Vec<_> = due.iter().map(|(_, accessor)| *accessor).collect();
                self.delete_expired(&due).await?;
                continue;
            }
            let next = ends.first().map(|(end_ms, _)| end_ms.saturating_sub(now_ms) + 1);
            let wait = next.map_or(LOOK_AGAIN, Duration::from_millis).min(LOOK_AGAIN);
            let more = WatchRequest::prefix(ACL_EXPIRATIONS).from(found.revision + 1);
            let failed = |error: pontoon_store::WatchError| Refusal::Failed(error.to_string());
            let mut watch = store.watch(more).map_err(failed)?;
            if let Ok(None) = timeout(wait, watch.next()).await {
                return Ok(());
            }
        }
    }

    /// Keeps what is always there, and the token for management that the settings name.
    async fn keep_first(&self) -> Result<(), Refusal> {
        let named =
            self.inner.settings.acl.as_ref().and_then(|acl| acl.initial_management.as_ref());
        let named = named.filter(|secret| !secret.reveal().is_empty());
        change(&self.inner.store, |view| async move {
            let mut change = Change::default();
            builtin(&view, &mut change).await?;
            if let Some(secret) = named
                && view.at(acl_secret(secret.reveal())).await?.is_none()
            {
                let token = Token::for_management("Initial Management Token");
                change.put_token(&Token { secret: secret.clone(), ..token })?;
                if view.at(ACL_BOOTSTRAP).await?.is_none() {
                    change.op(Put::new(ACL_BOOTSTRAP, Bytes::new()));
                }
            }
            Ok((change, ()))
        })
        .await?;
        Ok(())
    }

    async fn delete_expired(&self, accessors: &[Uuid]) -> Result<(), Refusal> {
        change(&self.inner.store, |view| async move {
            let mut change = Change::default();
            for accessor in accessors {
                if let Some(token) = view.get::<Token>(*accessor).await?.filter(Token::has_expired)
                {
                    tracing::debug!(%accessor, "a token's time is up");
                    change.delete_token(&token);
                }
            }
            Ok((change, ()))
        })
        .await?;
        Ok(())
    }
}
