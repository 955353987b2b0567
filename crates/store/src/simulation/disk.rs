//! A simulated disk: what was not synced is lost, or half of it, when the power fails. It can be full, and the process
//! that uses it can have too many open files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::dice::Dice;
use super::host;

const SECTOR: usize = 512;

/// With less space than this a directory may have none for a name.
const BLOCK: u64 = 4096;

/// The disk of the host whose code runs.
pub(crate) fn here() -> Option<Arc<Disk>> {
    host::disk_here()
}

/// How long the disk takes: mostly little, sometimes much.
pub(crate) fn latency() -> Duration {
    let ms = match host::choice(0..100) {
        0..60 => 0,
        60..95 => host::choice(1..4),
        _ => host::choice(4..60),
    };
    Duration::from_millis(ms)
}

/// A disk; it outlives the processes that use it.
#[derive(Debug)]
pub(crate) struct Disk {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Names as programs see them, and as they would be found after a power loss.
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    unsynced: Vec<NameChange>,
    inodes: Vec<Inode>,
    dice: Dice,
    /// Bytes that fit.
    capacity: Option<u64>,
    /// Files and directories that can still be opened.
    handles: Option<u64>,
    /// Changes until the power fails.
    fuse: Option<u64>,
    frozen: bool,
    /// Syncs are answered and not done.
    lies: bool,
    /// Syncs of files so far.
    syncs: u64,
}

#[derive(Debug, Default)]
struct Inode {
    data: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Add(path, _) | NameChange::Remove(path) | NameChange::Rename(path, _) => {
                path.parent()
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Add(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Change::Len(len) => data.resize(*len, 0),
            Change::Write { at, bytes } => {
                if data.len() < at + bytes.len() {
                    data.resize(at + bytes.len(), 0);
                }
                data[*at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

impl Inode {
    /// What is found after a power loss: of what was not synced some sectors, or all, or none.
    fn after_power_loss(&mut self, dice: &mut Dice) {
        let percent = [0, 50, 90, 100][usize::try_from(dice.between(0..4)).unwrap_or(0)];
        let mut data = std::mem::take(&mut self.durable);
        for change in self.unsynced.drain(..) {
            match &change {
                Change::Len(_) if dice.chance(percent) => change.apply(&mut data),
                // What came after a change of length came after it on the disk too.
                Change::Len(_) => break,
                Change::Write { at, bytes } => {
                    let mut from = *at;
                    while from < at + bytes.len() {
                        let to = ((from / SECTOR + 1) * SECTOR).min(at + bytes.len());
                        if dice.chance(percent) {
                            let bytes = bytes[from - at..to - at].to_vec();
                            Change::Write { at: from, bytes }.apply(&mut data);
                        }
                        from = to;
                    }
                }
            }
        }
        self.durable.clone_from(&data);
        self.data = data;
    }
}

impl Inner {
    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].data.len() as u64).sum()
    }

    fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |all| all.saturating_sub(self.used()))
    }

    /// Called before every change.
    fn changing(&mut self) -> io::Result<()> {
        if let Some(fuse) = &mut self.fuse {
            *fuse = fuse.saturating_sub(1);
            if *fuse == 0 {
                self.fuse = None;
                self.frozen = true;
                host::lose_power();
            }
        }
        if self.frozen { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Called before a file is opened, or a directory.
    fn opening(&mut self) -> io::Result<()> {
        match &mut self.handles {
            None => Ok(()),
            Some(0) => Err(rustix::io::Errno::MFILE.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    /// Called before a name is given, and before names are written down.
    fn naming(&mut self) -> io::Result<()> {
        let full = self.free() < BLOCK && self.dice.chance(30);
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn rename_unsynced(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced.push(change);
    }
}

impl Disk {
    pub(crate) fn new(dice: Dice) -> Arc<Disk> {
        Arc::new(Disk {
            inner: Mutex::new(Inner {
                names: BTreeMap::new(),
                durable: BTreeMap::new(),
                unsynced: Vec::new(),
                inodes: Vec::new(),
                dice,
                capacity: None,
                handles: None,
                fuse: None,
                frozen: false,
                lies: false,
                syncs: 0,
            }),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power fails at the `changes`th change from now, whatever that is.
    pub(crate) fn set_fuse(&self, changes: u64) {
        self.inner().fuse = Some(changes.max(1));
    }

    /// The power does not fail after all.
    pub(crate) fn clear_fuse(&self) {
        self.inner().fuse = None;
    }

    /// Only `bytes` more fit; `None` is as many as there are.
    pub(crate) fn leave_space(&self, bytes: Option<u64>) {
        let mut inner = self.inner();
        inner.capacity = bytes.map(|bytes| inner.used() + bytes);
    }

    /// The process can open only so many files more, or as many as it likes; those that are open it can use.
    pub(crate) fn leave_handles(&self, handles: Option<u64>) {
        self.inner().handles = handles;
    }

    /// Bytes that still fit.
    pub(crate) fn free_space(&self) -> u64 {
        self.inner().free()
    }

    /// How often files were synced.
    pub(crate) fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// From now on a sync is answered and not done.
    pub(crate) fn lie(&self) {
        self.inner().lies = true;
    }

    /// Makes of the disk what a power loss leaves. Nobody uses it meanwhile.
    pub(crate) fn lose_power(&self) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.fuse = None;
        inner.frozen = false;
        let dirs: BTreeSet<PathBuf> =
            inner.unsynced.iter().filter_map(|change| change.dir().map(Path::to_owned)).collect();
        for dir in dirs {
            let changes = inner.unsynced.iter().filter(|change| change.dir() == Some(&dir));
            let changes: Vec<NameChange> = changes.cloned().collect();
            let kept = inner.dice.between(0..changes.len() as u64 + 1);
            for change in changes.iter().take(usize::try_from(kept).unwrap_or(0)) {
                change.apply(&mut inner.durable);
            }
        }
        inner.unsynced.clear();
        inner.names = inner.durable.clone();
        for inode in &mut inner.inodes {
            inode.after_power_loss(&mut inner.dice);
        }
    }

    pub(crate) fn create(self: &Arc<Disk>, path: &Path) -> io::Result<File> {
        let mut inner = self.inner();
        inner.opening()?;
        inner.changing()?;
        let inode = match inner.names.get(path) {
            Some(inode) => {
                let inode = *inode;
                inner.inodes[inode].data.clear();
                inner.inodes[inode].unsynced.push(Change::Len(0));
                inode
            }
            None => {
                inner.naming()?;
                let inode = inner.inodes.len();
                inner.inodes.push(Inode::default());
                inner.rename_unsynced(NameChange::Add(path.to_owned(), inode));
                inode
            }
        };
        drop(inner);
        Ok(File { disk: Arc::clone(self), inode, at: 0 })
    }

    pub(crate) fn open(self: &Arc<Disk>, path: &Path) -> io::Result<File> {
        let mut inner = self.inner();
        inner.opening()?;
        let inode = inner.names.get(path).copied();
        drop(inner);
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        Ok(File { disk: Arc::clone(self), inode, at: 0 })
    }

    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut inner = self.inner();
        inner.opening()?;
        let inode = inner.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(inner.inodes[*inode].data.clone())
    }

    pub(crate) fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.inner().names.contains_key(path))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.changing()?;
        if !inner.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.naming()?;
        inner.rename_unsynced(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.changing()?;
        if !inner.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.rename_unsynced(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    pub(crate) fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut inner = self.inner();
        inner.opening()?;
        Ok(inner.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    pub(crate) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.opening()?;
        inner.changing()?;
        inner.naming()?;
        if inner.lies {
            return Ok(());
        }
        let inner = &mut *inner;
        let (synced, left) = std::mem::take(&mut inner.unsynced)
            .into_iter()
            .partition(|change| change.dir() == Some(dir));
        inner.unsynced = left;
        let synced: Vec<NameChange> = synced;
        synced.iter().for_each(|change| change.apply(&mut inner.durable));
        Ok(())
    }
}

/// An open file of a simulated disk.
#[derive(Debug)]
pub(crate) struct File {
    disk: Arc<Disk>,
    inode: usize,
    /// Where reading and writing in a row goes on.
    at: u64,
}

impl File {
    pub(crate) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.changing()?;
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let end = at + bytes.len();
        let grows = end.saturating_sub(inner.inodes[self.inode].data.len()) as u64;
        let missing = usize::try_from(grows.saturating_sub(inner.free())).unwrap_or(0);
        let fits = bytes.len().saturating_sub(missing);
        let change = Change::Write { at, bytes: bytes[..fits].to_vec() };
        let inode = &mut inner.inodes[self.inode];
        if fits > 0 {
            change.apply(&mut inode.data);
            inode.unsynced.push(change);
        }
        if missing > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let inner = self.disk.inner();
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let data = &inner.inodes[self.inode].data;
        let found = data.get(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.changing()?;
        let change = Change::Len(usize::try_from(len).map_err(io::Error::other)?);
        let inode = &mut inner.inodes[self.inode];
        change.apply(&mut inode.data);
        inode.unsynced.push(change);
        Ok(())
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inner().inodes[self.inode].data.len() as u64)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.changing()?;
        inner.syncs += 1;
        if inner.lies {
            return Ok(());
        }
        let inode = &mut inner.inodes[self.inode];
        for change in std::mem::take(&mut inode.unsynced) {
            change.apply(&mut inode.durable);
        }
        Ok(())
    }

    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let inner = self.disk.inner();
        let data = &inner.inodes[self.inode].data;
        let at = usize::try_from(self.at).map_err(io::Error::other)?.min(data.len());
        let len = bytes.len().min(data.len() - at);
        bytes[..len].copy_from_slice(&data[at..at + len]);
        drop(inner);
        self.at += len as u64;
        Ok(len)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}
