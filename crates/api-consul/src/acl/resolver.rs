//! From what a token's secret is to what it may do.
//!
//! The joined rules of a token are kept until anything of access control changes, which one read of a key in this
//! server's copy of the store tells. A secret that this copy does not know may have been given out on another server a
//! moment ago: then the leader is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use pontoon_store::{Range, Read, Store};

use super::record::{ANONYMOUS, Grants, Policy, Role, Token};
use super::state::View;
use super::{Authorizer, Otherwise, Rules, node_identity, service_identity};
use crate::keyspace::ACL_MARK;
use crate::permit::{Permit, PermitError, Permits};
use crate::refusal::Refusal;

/// Tokens whose rules are kept; when there are more all are forgotten, and read again as they are shown.
const KEPT_MAX: usize = 4096;

/// Knows what each token may do.
pub(crate) struct Resolver {
    store: Store,
    datacenter: String,
    otherwise: Otherwise,
    kept: Mutex<Kept>,
}

/// What was found out as of a change of access control.
#[derive(Default)]
struct Kept {
    mark: u64,
    by_secret: HashMap<String, Known>,
}

#[derive(Clone)]
struct Known {
    authorizer: Arc<Authorizer>,
    expires: Option<Timestamp>,
}

impl Kept {
    fn find(&self, mark: u64, secret: &str) -> Option<Arc<Authorizer>> {
        let known = self.by_secret.get(secret).filter(|_| self.mark == mark)?;
        let counts = known.expires.is_none_or(|expires| Timestamp::now() < expires);
        counts.then(|| Arc::clone(&known.authorizer))
    }

    fn keep(&mut self, mark: u64, secret: &str, known: Known) {
        if self.mark != mark || self.by_secret.len() >= KEPT_MAX {
            self.by_secret.clear();
            self.mark = mark;
        }
        self.by_secret.insert(secret.to_owned(), known);
    }
}

impl Resolver {
    pub(crate) fn new(store: Store, datacenter: String, otherwise: Otherwise) -> Resolver {
        Resolver { store, datacenter, otherwise, kept: Mutex::default() }
    }

    async fn mark(&self) -> Result<u64, Refusal> {
        let found = self.store.range(Range::key(ACL_MARK), Read::Local).await?;
        Ok(found.kvs.first().map_or(0, |kv| kv.mod_revision))
    }

    async fn resolve(&self, secret: &str) -> Result<Option<Arc<Authorizer>>, Refusal> {
        let mark = self.mark().await?;
        let found = self.kept.lock().unwrap_or_else(PoisonError::into_inner).find(mark, secret);
        if found.is_some() {
            return Ok(found);
        }
        for read in [Read::Local, Read::Linearizable] {
            let view = View::read(&self.store, read).await?;
            if let Some(known) = self.read(&view, secret).await? {
                let authorizer = Arc::clone(&known.authorizer);
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.keep(view.mark, secret, known);
                return Ok(Some(authorizer));
            }
        }
        Ok(None)
    }

    /// What a token may do; none if there is none with this secret.
    async fn read(&self, view: &View, secret: &str) -> Result<Option<Known>, Refusal> {
        let token = match secret {
            // It grants nothing before it is there.
            "" => Some(view.token(ANONYMOUS).await?.unwrap_or_else(Token::anonymous)),
            secret => view.by_secret(secret).await?,
        };
        let Some(token) = token else { return Ok(None) };
        let mut rules = Vec::new();
        self.add(view, &token.grants, &mut rules).await?;
        for id in &token.roles {
            if let Some(role) = view.get::<Role>(*id).await? {
                self.add(view, &role.grants, &mut rules).await?;
            }
        }
        let authorizer = Arc::new(Authorizer::new(&rules, self.otherwise));
        Ok(Some(Known { authorizer, expires: token.expires }))
    }

    /// Adds the rules of what is granted here.
    async fn add(&self, view: &View, grants: &Grants, to: &mut Vec<Rules>) -> Result<(), Refusal> {
        let counts = |datacenters: &[String]| {
            datacenters.is_empty() || datacenters.contains(&self.datacenter)
        };
        for id in &grants.policies {
            let policy = view.get::<Policy>(*id).await?;
            if let Some(policy) = policy.filter(|policy| counts(&policy.datacenters)) {
                // A rule that cannot be read might deny something, so that nothing is allowed without it.
                let rules = Rules::parse(&policy.rules);
                to.push(rules.map_err(|error| Refusal::Failed(error.to_string()))?);
            }
        }
        for identity in &grants.services {
            if counts(&identity.datacenters) {
                let rules = service_identity(&identity.service_name);
                to.push(rules.map_err(|error| Refusal::Failed(error.to_string()))?);
            }
        }
        for identity in &grants.nodes {
            if identity.datacenter == self.datacenter {
                let rules = node_identity(&identity.node_name);
                to.push(rules.map_err(|error| Refusal::Failed(error.to_string()))?);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Permits for Resolver {
    async fn of(&self, token: &str) -> Result<Arc<dyn Permit>, PermitError> {
        match self.resolve(token).await {
            Ok(Some(authorizer)) => Ok(authorizer),
            Ok(None) => Err(PermitError::UnknownToken),
            Err(refusal) => Err(PermitError::Unreadable(refusal.to_string())),
        }
    }
}
