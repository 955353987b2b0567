//! What dead sandboxes leave: processes in cgroups, the cgroups, directories; found and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Runtime, hierarchies};
use crate::error::{Error, Result};
use crate::spec::check_id;

/// Dead sandboxes of which something could not be removed, and why.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Held while they are removed: nothing that is new is taken for something that was left.
    removing: tokio::sync::Mutex<()>,
    known: Mutex<BTreeMap<String, String>>,
}

impl Leftovers {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // The map is whole after every single change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, id: &str) -> bool {
        self.known().contains_key(id)
    }
}

impl Runtime {
    /// The dead sandboxes of which something is left that could not be removed, each with the reason.
    pub fn leftovers(&self) -> BTreeMap<String, String> {
        self.inner.leftovers.known().clone()
    }

    /// Tries again to remove what is left of all dead sandboxes. To be called now and then.
    pub async fn remove_leftovers(&self) {
        for id in self.leftovers().into_keys() {
            // Told by `remove_leavings`, and still known.
            drop(self.remove_leftover(&id).await);
        }
    }

    /// Removes what is left of one, if anything is.
    pub async fn remove_leftover(&self, id: &str) -> Result<()> {
        let leftovers = &self.inner.leftovers;
        if !leftovers.has(id) {
            return Ok(());
        }
        let _removing = leftovers.removing.lock().await;
        if !leftovers.has(id) {
            return Ok(());
        }
        self.remove_leavings(id).await
    }

    /// Every sandbox that left a directory, living or dead.
    pub(super) fn known_ids(&self) -> Result<BTreeSet<String>> {
        let mut ids = BTreeSet::new();
        let config = &self.inner.config;
        for dir in [config.run_dir.join("sandboxes"), config.state_dir.join("sandboxes")] {
            let listed = std::fs::read_dir(&dir).and_then(|entries| {
                entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
            });
            let names =
                listed.map_err(|source| Error::File { action: "list", path: dir, source })?;
            ids.extend(
                names
                    .into_iter()
                    .filter_map(|name| name.into_string().ok())
                    .filter(|name| check_id(name).is_ok()),
            );
        }
        Ok(ids)
    }

    /// Removes all that a sandbox whose shim is dead, or about to die, has left. It may have left nothing. What cannot
    /// be removed is known as a leftover until it can.
    pub(crate) async fn remove_leavings(&self, id: &str) -> Result<()> {
        let removed = self.try_remove_leavings(id).await;
        let mut known = self.inner.leftovers.known();
        match &removed {
            Ok(()) => drop(known.remove(id)),
            Err(error) => {
                let reason = error.to_string();
                if known.get(id) != Some(&reason) {
                    tracing::warn!(sandbox = id, reason, "something of a dead sandbox is left");
                }
                known.insert(id.to_owned(), reason);
            }
        }
        removed
    }

    async fn try_remove_leavings(&self, id: &str) -> Result<()> {
        let (cgroup, dirs) = (self.cgroup(id), [self.run_dir(id), self.state_dir(id)]);
        let removal = tokio::task::spawn_blocking(move || {
            hierarchies()?.kill_and_remove(&cgroup).map_err(|source| Error::File {
                action: "remove cgroup",
                path: cgroup.into(),
                source,
            })?;
            dirs.iter().try_for_each(|dir| remove_tree(dir))
        });
        match removal.await {
            Ok(result) => result,
            Err(error) => Err(Error::File {
                action: "remove leavings of",
                path: self.run_dir(id),
                source: io::Error::other(error),
            }),
        }
    }
}

fn remove_tree(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { action: "remove", path: dir.into(), source })
        }
        _ => Ok(()),
    }
}

/// Removes a directory that holds nothing; one that holds something stays, and so does one that is not there.
pub(super) fn remove_empty(dir: &Path) -> Result<()> {
    match std::fs::remove_dir(dir) {
        Err(source)
            if !matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(Error::File { action: "remove", path: dir.into(), source })
        }
        _ => Ok(()),
    }
}
