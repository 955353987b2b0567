//! Files of the log that are not wanted any more, made ready for their next life.
//!
//! A file that grows costs a change of its metadata with every sync; one whose blocks are there
//! already does not. So purged files are filled with zeros, in the background, and used again. What
//! they held is gone before they are: bytes that never reached the disk are zeros in an old file as
//! in a new one, and recovery need not tell the bytes of two lives apart.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver;
use crate::disk::{self, File, sync_dir};

/// How the name of such a file ends. After a restart they are removed: nobody knows how far the
/// zeros came.
pub(super) const SUFFIX: &str = ".spare";

/// Bytes written at a time, each with a sync of its own, so that a sync of the log waits for no
/// more than that. Files of tests are small and have several such steps, too.
const STEP: usize = if cfg!(test) { 4 << 10 } else { 1 << 20 };

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

/// Files of the log on their way out, oldest first, as far as that is not done.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    files: VecDeque<(PathBuf, Option<Arc<File>>)>,
    /// Has its new name, and is not filled with zeros yet.
    renamed: Option<Spare>,
    /// Names were changed that are not durable.
    unsynced: bool,
}

impl Leaving {
    /// Adds the next file.
    pub(super) fn add(&mut self, path: PathBuf, file: Arc<File>) {
        self.files.push_back((path, Some(file)));
    }
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
    /// must be nobody else's, or it is removed, too: someone still reads it. Durable when it returns; what failed is
    /// still in `leaving`, and done when this is called again.
    pub(super) fn give(&self, dir: &Path, leaving: &mut Leaving) -> io::Result<()> {
        let wanted = {
            let ready = lock(&self.shared);
            ready.busy == 0 && ready.files.len() < self.most
        };
        // The oldest first: what is left, whenever that is, has no hole.
        while let Some((path, file)) = leaving.files.front_mut() {
            let wanted = wanted && leaving.renamed.is_none();
            let mine = file.take().filter(|_| wanted).and_then(Arc::into_inner);
            match mine.map(|file| rename(path, file)) {
                Some(Ok(spare)) => leaving.renamed = Some(spare),
                // A new name can take space where removing an old one takes none.
                Some(Err(_)) | None => disk::remove_file(path)?,
            }
            leaving.unsynced = true;
            leaving.files.pop_front();
        }
        if leaving.unsynced {
            sync_dir(dir)?;
            leaving.unsynced = false;
        }
        // Not before: zeros under the name of a file of the log would be taken for damage after a power cut.
        leaving.renamed.take().map_or(Ok(()), |spare| self.make_ready(spare))
    }

    /// Fills a file with zeros on a thread of its own.
    fn make_ready(&self, spare: Spare) -> io::Result<()> {
        let given_up = {
            let mut ready = lock(&self.shared);
            ready.busy += 1;
            ready.given_up
        };
        let (shared, path) = (Arc::clone(&self.shared), spare.path.clone());
        let mut zeroing = Some(Zeroing { spare, bytes: self.bytes, at: 0, next: Step::Length });
        let work = move || {
            let Some(mut going) = zeroing.take() else { return ControlFlow::Break(()) };
            let wanted = lock(&shared).given_up == given_up;
            let done = if wanted { going.step() } else { Ok(ControlFlow::Break(())) };
            if matches!(done, Ok(ControlFlow::Continue(()))) {
                zeroing = Some(going);
                return ControlFlow::Continue(());
            }
            let mut ready = lock(&shared);
            ready.busy -= 1;
            match done {
                Ok(_) if wanted && ready.given_up == given_up => ready.files.push(going.spare),
                Ok(_) => discard(&going.spare.path),
                Err(error) => {
                    tracing::debug!(%error, "a file of the log is not used again");
                    discard(&going.spare.path);
                }
            }
            ControlFlow::Break(())
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

fn rename(path: &Path, file: File) -> io::Result<Spare> {
    let spare = Spare { path: path.with_extension(&SUFFIX[1..]), file };
    disk::rename(path, &spare.path)?;
    Ok(spare)
}

/// Removes the file of a spare that nobody has any more.
pub(super) fn discard(path: &Path) {
    if let Err(error) = disk::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "a spare file stays until the next start");
    }
}

/// A file that is being filled with zeros, step by step: each may wait for the disk.
struct Zeroing {
    spare: Spare,
    bytes: u64,
    at: u64,
    next: Step,
}

#[derive(Clone, Copy)]
enum Step {
    /// Give it its length.
    Length,
    Write,
    Sync,
}

impl Zeroing {
    /// Does one step; a break is the end.
    fn step(&mut self) -> io::Result<ControlFlow<()>> {
        let file = &self.spare.file;
        let left = self.bytes - self.at;
        self.next = match self.next {
            Step::Length => {
                file.set_len(self.bytes)?;
                Step::Write
            }
            Step::Write => {
                let len = usize::try_from(left).unwrap_or(STEP).min(STEP);
                file.write_all_at(&vec![0; len], self.at)?;
                self.at += len as u64;
                Step::Sync
            }
            Step::Sync if left > 0 => {
                file.sync_data()?;
                Step::Write
            }
            Step::Sync => {
                file.sync_all()?;
                return Ok(ControlFlow::Break(()));
            }
        };
        Ok(ControlFlow::Continue(()))
    }
}
