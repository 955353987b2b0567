//! The snapshots in a directory: named by what they hold, the two newest kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::{self, sync_dir};

/// Snapshots kept: the newest, and one to fall back to should the newest be damaged.
const KEEP: usize = 2;

/// The last entry a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SnapshotName {
    pub(crate) index: u64,
    pub(crate) term: u64,
}

/// The file of a snapshot that is being written or received. Removed when this is dropped, unless it was published:
/// it takes space that is wanted, and nobody else knows of it.
#[derive(Debug)]
pub(crate) struct Unfinished {
    path: PathBuf,
    published: AtomicBool,
}

impl Unfinished {
    /// Where it is until it is published.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.published.load(Ordering::Relaxed) {
            // What cannot be removed, or was never made, is looked for again when the store is opened.
            disk::remove_file(&self.path).ok();
        }
    }
}

/// The directory of snapshots.
#[derive(Debug)]
pub(crate) struct SnapshotFiles {
    dir: PathBuf,
    unfinished: AtomicU64,
    /// Those that are there, newest first. Known without a look at the disk, which may have too many open files.
    names: Mutex<Vec<SnapshotName>>,
    /// So many times publishing fails for now, for tests.
    #[cfg(test)]
    pub(crate) failing: AtomicU64,
}

impl SnapshotFiles {
    /// Opens the directory, makes it if it is missing, and removes what was left unfinished.
    pub(crate) fn open(dir: PathBuf) -> io::Result<SnapshotFiles> {
        disk::create_dir_all(&dir)?;
        for path in disk::list(&dir)? {
            if path.extension().is_some_and(|extension| extension == "new") {
                disk::remove_file(&path)?;
            }
        }
        SnapshotFiles::of(dir)
    }

    fn of(dir: PathBuf) -> io::Result<SnapshotFiles> {
        let mut names: Vec<_> = disk::list(&dir)?.iter().filter_map(|path| parse(path)).collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(SnapshotFiles {
            dir,
            unfinished: AtomicU64::new(0),
            names: Mutex::new(names),
            #[cfg(test)]
            failing: AtomicU64::new(0),
        })
    }

    /// The snapshots in a directory with their files, newest first; nothing is changed.
    pub(crate) fn look(dir: &Path) -> io::Result<Vec<(SnapshotName, PathBuf)>> {
        let files = SnapshotFiles::of(dir.to_owned())?;
        Ok(files.list().into_iter().map(|name| (name, files.path(name))).collect())
    }

    /// Where they are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Renames damaged snapshots, so that they are not tried again but can be looked at.
    pub(crate) fn put_aside(&self, bad: impl Iterator<Item = SnapshotName>) {
        for name in bad {
            let path = self.path(name);
            let aside = path.with_extension("damaged");
            match disk::rename(&path, &aside) {
                Ok(()) => self.forget(name),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "cannot put a snapshot aside");
                }
            }
        }
    }

    /// A name for a file to be written.
    pub(crate) fn unfinished(&self) -> Unfinished {
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        Unfinished {
            path: self.dir.join(format!("{number}.new")),
            published: AtomicBool::new(false),
        }
    }

    /// Where the snapshot of a name is.
    pub(crate) fn path(&self, name: SnapshotName) -> PathBuf {
        self.dir.join(format!("{:016x}-{:016x}.snap", name.index, name.term))
    }

    /// The snapshots, newest first.
    pub(crate) fn list(&self) -> Vec<SnapshotName> {
        self.names().clone()
    }

    /// Gives a finished file its name and removes the snapshots it makes needless; durable when it
    /// returns. May be tried again if it failed.
    pub(crate) fn publish(&self, finished: &Unfinished, name: SnapshotName) -> io::Result<()> {
        if !finished.published.load(Ordering::Relaxed) {
            disk::rename(&finished.path, &self.path(name))?;
            finished.published.store(true, Ordering::Relaxed);
        }
        #[cfg(test)]
        self.fail_for_now()?;
        sync_dir(&self.dir)?;
        for old in self.add(name) {
            let path = self.path(old);
            match disk::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // The next time.
                    tracing::warn!(path = %path.display(), %error, "cannot remove an old snapshot");
                }
                _ => self.forget(old),
            }
        }
        Ok(())
    }

    /// The oldest snapshot kept: the log after it must be kept too.
    pub(crate) fn oldest(&self) -> Option<SnapshotName> {
        self.names().last().copied()
    }

    /// Takes down a snapshot; answers with those that are not needed any more.
    fn add(&self, name: SnapshotName) -> Vec<SnapshotName> {
        let mut names = self.names();
        if !names.contains(&name) {
            names.push(name);
            names.sort_unstable_by(|a, b| b.cmp(a));
        }
        names.iter().skip(KEEP).copied().collect()
    }

    fn forget(&self, name: SnapshotName) {
        self.names().retain(|other| *other != name);
    }

    fn names(&self) -> MutexGuard<'_, Vec<SnapshotName>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn fail_for_now(&self) -> io::Result<()> {
        let less = |times: u64| times.checked_sub(1);
        match self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => Err(rustix::io::Errno::MFILE.into()),
            Err(_) => Ok(()),
        }
    }
}

fn parse(path: &Path) -> Option<SnapshotName> {
    let name = path.file_name()?.to_str()?.strip_suffix(".snap")?;
    let (index, term) = name.split_once('-')?;
    let index = u64::from_str_radix(index, 16).ok()?;
    let term = u64::from_str_radix(term, 16).ok()?;
    Some(SnapshotName { index, term })
}
