//! The store's directories, and the one way anything comes into them: written under `tmp`, synced, renamed into place.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;
use crate::error::{ImageError, Result};

/// Paths within the store's directory.
pub(crate) struct Files {
    dir: PathBuf,
    next: AtomicU64,
    _lock: File,
}

impl Files {
    /// Makes the directories, takes the store's lock, and removes what a crash left in `tmp`.
    pub(crate) fn open(dir: PathBuf) -> Result<Self> {
        for sub in ["", "blobs/sha256", "layers", "tmp"] {
            let path = dir.join(sub);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(ImageError::io("create directory", path))?;
        }
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(ImageError::io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(ImageError::Locked(dir)),
            Err(fs::TryLockError::Error(error)) => return Err(ImageError::io("lock", path)(error)),
        }
        let files = Self { dir, next: AtomicU64::new(0), _lock: lock };
        files.empty_tmp()?;
        Ok(files)
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.dir.join("layers")
    }

    /// A layer's directory: `fs`, which overlayfs is given, and `layer.json`.
    pub(crate) fn layer(&self, chain: &Digest) -> PathBuf {
        self.layers().join(chain.hex())
    }

    pub(crate) fn layer_fs(&self, chain: &Digest) -> PathBuf {
        self.layer(chain).join("fs")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A path under `tmp` that nothing else uses; what is there when the guard goes is deleted.
    pub(crate) fn temporary(&self) -> Temporary {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Temporary { path: self.dir.join(format!("tmp/{number}")) }
    }

    fn empty_tmp(&self) -> Result<()> {
        let tmp = self.dir.join("tmp");
        let list = |path: &Path| -> io::Result<Vec<PathBuf>> {
            fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect()
        };
        for path in list(&tmp).map_err(ImageError::io("list", &tmp))? {
            delete(&path).map_err(ImageError::io("remove", path))?;
        }
        Ok(())
    }

    /// Replaces a small file of the store, durably.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let temporary = self.temporary();
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary.path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(ImageError::io("write", self.file(name)))?;
        temporary.persist(&self.file(name))
    }

    /// Writes all of the filesystem's pending data to disk: cheaper than syncing each file of a layer.
    pub(crate) fn sync_all(&self) -> Result<()> {
        let sync = || -> io::Result<()> { Ok(rustix::fs::syncfs(File::open(&self.dir)?)?) };
        sync().map_err(ImageError::io("sync", &self.dir))
    }
}

/// A file or directory under `tmp` that is being made.
pub(crate) struct Temporary {
    pub(crate) path: PathBuf,
}

impl Temporary {
    /// Renames it into place and syncs the directory it is in now. Its content must be on disk already.
    pub(crate) fn persist(self, target: &Path) -> Result<()> {
        fs::rename(&self.path, target).map_err(ImageError::io("create", target))?;
        let parent = target.parent().unwrap_or(target);
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(ImageError::io("sync", parent))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = delete(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a temporary file");
        }
    }
}

/// Deletes a file or a whole directory; nothing there is no error.
fn delete(path: &Path) -> io::Result<()> {
    let deleted = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match deleted {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
