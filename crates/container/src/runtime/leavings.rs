//! What dead sandboxes leave: processes in cgroups, the cgroups, directories; found and removed.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::Runtime;
use crate::error::{Error, Result};
use crate::spec::check_id;

impl Runtime {
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

    /// Removes all that a sandbox whose shim is dead, or about to die, has left. It may have left nothing.
    pub(crate) async fn remove_leavings(&self, id: &str) -> Result<()> {
        let hierarchies = self.inner.hierarchies.clone();
        let (cgroup, dirs) = (self.cgroup(id), [self.run_dir(id), self.state_dir(id)]);
        let removal = tokio::task::spawn_blocking(move || {
            hierarchies.kill_and_remove(&cgroup).map_err(|source| Error::File {
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
