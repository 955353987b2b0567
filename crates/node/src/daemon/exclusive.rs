//! What a daemon takes for itself alone before it begins: its directories, and room for its files.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::StartError;
use crate::config::lock_in;
use crate::lock::lock;

/// Takes as many open files as the machine gives: each connection is one, and systemd starts programs with
/// 1,024 for the sake of `select`, which is not used here.
pub(super) fn open_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "raise the limit of open files");
    }
}

/// Makes a directory of the daemon's own. Secrets of pods are files below it: nobody else enters.
pub(super) fn make_private_dir(dir: &PathBuf) -> Result<(), StartError> {
    let failed = |source| StartError::File { action: "make", path: dir.clone(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Keeps others from the directory while the file is open.
pub(super) fn lock_dir(dir: &Path) -> Result<File, StartError> {
    lock(dir).map_err(|error| match error {
        TryLockError::WouldBlock => StartError::InUse(dir.to_owned()),
        TryLockError::Error(source) => {
            StartError::File { action: "lock", path: lock_in(dir), source }
        }
    })
}
