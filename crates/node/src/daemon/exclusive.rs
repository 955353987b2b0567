//! What a daemon takes for itself alone before it begins: its directories, and room for its files.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::StartError;

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

/// Keeps other daemons from the directory while the file is open.
pub(super) fn lock(dir: &Path) -> Result<File, StartError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|source| StartError::File {
        action: "open",
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::InUse(dir.to_owned())),
        Err(fs::TryLockError::Error(source)) => {
            Err(StartError::File { action: "lock", path, source })
        }
    }
}
