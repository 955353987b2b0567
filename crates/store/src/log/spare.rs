//! Files of the log that are not wanted any more, made ready for their next life.
//!
//! A file that grows costs a change of its metadata with every sync; one whose blocks are there
//! already does not. So purged files are filled with zeros, in the background, and used again. What
//! they held is gone before they are: bytes that never reached the disk are zeros in an old file as
//! in a new one, and recovery need not tell the bytes of two lives apart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver;
use crate::disk::{self, File, sync_dir};

/// How the name of such a file ends. After a restart they are removed: nobody knows how far the
/// zeros came.
pub(super) const SUFFIX: &str = ".spare";

/// Bytes written at a time, each with a sync of its own, so that a sync of the log waits for no
/// more than that.
const STEP: usize = 1 << 20;

/// A file full of zeros, on disk as such.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// The files that are ready, and the one that is being made so.
#[derive(Debug)]
pub(super) struct Spares {
    most: usize,
    bytes: u64,
    shared: Arc<Mutex<Ready>>,
}

#[derive(Debug, Default)]
struct Ready {
    files: Vec<Spare>,
    /// Being filled with zeros.
    busy: usize,
    /// Counts the times that all were given up.
    given_up: u64,
}

fn lock(ready: &Mutex<Ready>) -> MutexGuard<'_, Ready> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spares {
    /// Keeps up to `most` files of `bytes` bytes.
    pub(super) fn new(most: usize, bytes: u64) -> Spares {
        Spares { most, bytes, shared: Arc::default() }
    }

    /// Takes files out of use: the name of one is changed if there are not enough, the others are removed. A file
    /// must be nobody else's, or it is removed, too: someone still reads it. Durable when it returns.
    pub(super) fn give(&self, dir: &Path, old: Vec<(PathBuf, Arc<File>)>) -> io::Result<()> {
        let mut wanted = {
            let ready = lock(&self.shared);
            ready.busy == 0 && ready.files.len() < self.most
        };
        let mut kept = None;
        for (path, file) in old {
            let Some(file) = Arc::into_inner(file).filter(|_| wanted) else {
                disk::remove_file(&path)?;
                continue;
            };
            let spare = Spare { path: path.with_extension(&SUFFIX[1..]), file };
            disk::rename(&path, &spare.path)?;
            wanted = false;
            kept = Some(spare);
        }
        sync_dir(dir)?;
        // Not before: zeros under the name of a file of the log would be taken for damage after a power cut.
        kept.map_or(Ok(()), |spare| self.make_ready(spare))
    }

    /// Fills a file with zeros on a thread of its own.
    fn make_ready(&self, spare: Spare) -> io::Result<()> {
        let given_up = {
            let mut ready = lock(&self.shared);
            ready.busy += 1;
            ready.given_up
        };
        let (shared, bytes, path) = (Arc::clone(&self.shared), self.bytes, spare.path.clone());
        let work = move || {
            let zeroed = zero(&spare.file, bytes, || lock(&shared).given_up == given_up);
            let mut ready = lock(&shared);
            ready.busy -= 1;
            match zeroed {
                Ok(true) if ready.given_up == given_up => ready.files.push(spare),
                Ok(_) => discard(&spare.path),
                Err(error) => {
                    tracing::debug!(%error, "a file of the log is not used again");
                    discard(&spare.path);
                }
            }
        };
        driver::beside("store-spare", work).or_else(|_| {
            lock(&self.shared).busy -= 1;
            disk::remove_file(&path)
        })
    }

    /// A file that is ready.
    pub(super) fn take(&self) -> Option<Spare> {
        lock(&self.shared).files.pop()
    }

    /// Removes all of them: the space is wanted.
    pub(super) fn give_up(&self) {
        let mut ready = lock(&self.shared);
        ready.given_up += 1;
        ready.files.drain(..).for_each(|spare| discard(&spare.path));
    }

    #[cfg(test)]
    pub(super) fn ready(&self) -> usize {
        lock(&self.shared).files.len()
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn discard(path: &Path) {
    if let Err(error) = disk::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "a spare file stays until the next start");
    }
}

/// Writes zeros over all of a file and gives it that length; false if it was not to go on.
fn zero(file: &File, bytes: u64, go_on: impl Fn() -> bool) -> io::Result<bool> {
    let zeros = vec![0; STEP];
    file.set_len(bytes)?;
    let mut at = 0;
    while at < bytes {
        if !go_on() {
            return Ok(false);
        }
        let len = usize::try_from(bytes - at).unwrap_or(STEP).min(STEP);
        file.write_all_at(&zeros[..len], at)?;
        file.sync_data()?;
        at += len as u64;
    }
    file.sync_all()?;
    Ok(true)
}
