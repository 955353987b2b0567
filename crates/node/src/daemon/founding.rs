//! `init`: a cluster is made of this node. What lies in the data directory already, and is not what an attempt that was
//! cut short left there, is somebody's: nothing of it is touched.

use std::fs;
use std::net::IpAddr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{Shared, remove, remove_dir};
use crate::config::Config;
use crate::join::found;
use crate::member::Member;
use crate::membership::{Membership, write_private};
use crate::rpc::{Refusal, chain};

/// What is remembered of an attempt until the membership is kept.
#[derive(Serialize, Deserialize)]
struct Attempt {
    /// The id in the store of the manager that is to be.
    store: u64,
}

impl Shared {
    /// Makes a cluster of this node. Durable when this returns.
    ///
    /// # Errors
    /// When the node is in a cluster, or has no address to be known by; then nothing of the attempt is left.
    pub async fn init(
        &self,
        advertise: Option<IpAddr>,
        ranges: (Ipv4Net, Ipv4Net),
    ) -> Result<Member, Refusal> {
        let mut slot = self.member.lock().await;
        self.refuse_member(slot.as_ref())?;
        clear_the_way(&self.config)?;
        let address = match advertise {
            Some(address) => self.check_local(address).await?,
            None => self.default_address().await?,
        };
        self.check_ranges(ranges).await?;
        let (cluster, membership) = found(&self.config.node_name, address, ranges)?;
        remember(&self.config, membership.store)?;
        let begun = self.begin(membership.clone(), Some(cluster)).await;
        let kept = match begun {
            Ok(member) => keep(&self.config, &membership, member).await,
            Err(refusal) => Err(refusal),
        };
        match kept {
            Ok(member) => {
                // One that is left over is of no other store than this node's own.
                if let Err(left) = remove(&self.config.founding_file(), |p| fs::remove_file(p)) {
                    tracing::warn!(error = left.message, "forget that a cluster was being made");
                }
                *slot = Some(member.clone());
                Ok(member)
            }
            Err(refusal) => {
                undo(&self.config, membership.store)?;
                Err(refusal)
            }
        }
    }
}

/// Writes down that this node is a member. One that could not be is none: nobody has heard of it yet.
async fn keep(config: &Config, membership: &Membership, member: Member) -> Result<Member, Refusal> {
    let file = config.membership_file();
    let saved = no_membership(config)
        .and_then(|()| membership.save(&file).map_err(|error| Refusal::unavailable(chain(&error))));
    if saved.is_err()
        && let Err(left) = member.stop_and_remove().await
    {
        tracing::warn!(error = left.message, "give up a cluster that was not founded");
    }
    saved.map(|()| member)
}

/// Sees to it that a membership can begin here: what an attempt to make a cluster left is removed, all else is refused.
///
/// # Errors
/// When there is a membership or a state that this daemon has not made.
pub(super) fn clear_the_way(config: &Config) -> Result<(), Refusal> {
    no_membership(config)?;
    let attempt = fs::read(config.founding_file()).ok();
    let attempt = attempt.and_then(|bytes| serde_json::from_slice::<Attempt>(&bytes).ok());
    if let Some(Attempt { store }) = attempt {
        undo(config, store)?;
    }
    let store = config.store_dir();
    if is_empty(&store) {
        return Ok(());
    }
    Err(Refusal::conflict(format!(
        "{} holds a state that this daemon has not made, and no {} says whose it is; nothing was touched; \
         move it away, and if it came of a backup, restore that anew while no daemon runs",
        store.display(),
        config.membership_file().display()
    )))
}

fn no_membership(config: &Config) -> Result<(), Refusal> {
    let file = config.membership_file();
    match file.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Refusal::conflict(format!(
            "{} has appeared since this daemon was started: it is that of a node which was restored here; nothing was \
             touched; stop the daemon and start it again, and it is that node",
            file.display()
        ))),
        Err(error) => Err(Refusal::unavailable(format!("look for {}: {error}", file.display()))),
    }
}

fn remember(config: &Config, store: u64) -> Result<(), Refusal> {
    let (file, attempt) = (config.founding_file(), Attempt { store });
    let bytes = serde_json::to_vec(&attempt).expect("plain data becomes JSON");
    write_private(&file, &bytes)
        .map_err(|error| Refusal::unavailable(format!("write {}: {error}", file.display())))
}

/// Removes what an attempt made: its membership, its store, and at last what is remembered of it.
fn undo(config: &Config, store: u64) -> Result<(), Refusal> {
    let dir = config.store_dir();
    // One whose owner cannot be told is not finished; what is restored appears as a whole.
    if pontoon_store::store_member(&dir).map_or(true, |owner| owner == store) {
        remove(&dir, |p| remove_dir(p))?;
    }
    let own = |membership: Option<Membership>| membership.is_some_and(|m| m.store == store);
    if Membership::load(&config.membership_file()).is_ok_and(own) {
        remove(&config.membership_file(), |p| fs::remove_file(p))?;
    }
    for path in [config.names_file(), config.kubeconfig(), config.founding_file()] {
        remove(&path, |p| fs::remove_file(p))?;
    }
    Ok(())
}

/// Whether nothing is in a directory, or it is not there. A disk of its own may be mounted there.
fn is_empty(dir: &std::path::Path) -> bool {
    match fs::read_dir(dir) {
        Ok(entries) => entries.flatten().all(|entry| entry.file_name() == "lost+found"),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_made_by_an_attempt_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::config::testing(dir.path());
        clear_the_way(&config).unwrap();
        fs::create_dir_all(config.store_dir()).unwrap();
        clear_the_way(&config).unwrap();
        // What an attempt left that was cut short.
        let unfinished = config.store_dir().join("something");
        fs::write(&unfinished, "").unwrap();
        remember(&config, 7).unwrap();
        clear_the_way(&config).unwrap();
        assert!(!config.store_dir().exists() && !config.founding_file().exists());
        // What nobody knows of.
        fs::create_dir_all(config.store_dir()).unwrap();
        fs::write(&unfinished, "").unwrap();
        let refused = clear_the_way(&config).unwrap_err().message;
        assert!(refused.contains("has not made") && unfinished.exists(), "{refused}");
        fs::write(config.membership_file(), "{}").unwrap();
        let refused = clear_the_way(&config).unwrap_err().message;
        assert!(refused.contains("has appeared"), "{refused}");
        assert!(unfinished.exists() && config.membership_file().exists());
    }
}
