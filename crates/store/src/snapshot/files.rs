//! The snapshots in a directory: named by what they hold, the two newest kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
        Ok(SnapshotFiles { dir, unfinished: AtomicU64::new(0) })
    }

    /// The snapshots in a directory with their files, newest first; nothing is changed.
    pub(crate) fn look(dir: &Path) -> io::Result<Vec<(SnapshotName, PathBuf)>> {
        let files = SnapshotFiles { dir: dir.to_owned(), unfinished: AtomicU64::new(0) };
        Ok(files.list()?.into_iter().map(|name| (name, files.path(name))).collect())
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
            if let Err(error) = disk::rename(&path, &aside) {
                tracing::error!(path = %path.display(), %error, "cannot put a snapshot aside");
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
    pub(crate) fn list(&self) -> io::Result<Vec<SnapshotName>> {
        let mut names = Vec::new();
        for path in disk::list(&self.dir)? {
            names.extend(parse(&path));
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    /// Gives a finished file its name and removes the snapshots it makes needless; durable when it
    /// returns.
    pub(crate) fn publish(&self, finished: &Unfinished, name: SnapshotName) -> io::Result<()> {
        disk::rename(&finished.path, &self.path(name))?;
        finished.published.store(true, Ordering::Relaxed);
        sync_dir(&self.dir)?;
        for old in self.list()?.into_iter().skip(KEEP) {
            disk::remove_file(&self.path(old))?;
        }
        Ok(())
    }

    /// The oldest snapshot kept: the log after it must be kept too.
    pub(crate) fn oldest(&self) -> io::Result<Option<SnapshotName>> {
        Ok(self.list()?.last().copied())
    }
}

fn parse(path: &Path) -> Option<SnapshotName> {
    let name = path.file_name()?.to_str()?.strip_suffix(".snap")?;
    let (index, term) = name.split_once('-')?;
    let index = u64::from_str_radix(index, 16).ok()?;
    let term = u64::from_str_radix(term, 16).ok()?;
    Some(SnapshotName { index, term })
}
