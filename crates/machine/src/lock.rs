//! A file as a lock, between processes and between tasks of one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Held until it is dropped, or its holder dies.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits until nobody holds the lock of this file. The wait is on a thread of its own: the holder may be a task
    /// of the same process.
    pub(crate) async fn take(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        let taken = tokio::task::spawn_blocking(move || Self::wait(path)).await;
        taken.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    fn wait(path: PathBuf) -> io::Result<Self> {
        loop {
            fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
            let file = File::create(&path)?;
            file.lock()?;
            // Who held it may have removed the file: then the lock of the new one counts.
            if is_at(&file, &path)? {
                return Ok(Self { path, _file: file });
            }
        }
    }

    /// Gives the lock up for good, and its file with it.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_has_it_although_its_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("a.lock");
        let first = Lock::take(&path).await.unwrap();
        let mut second = tokio::spawn({
            let path = path.clone();
            async move { Lock::take(&path).await.unwrap() }
        });
        // It can only wait: nobody lets go of the lock.
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert!(futures::poll!(&mut second).is_pending());
        }
        first.remove().unwrap();
        let second = second.await.unwrap();
        assert!(path.exists(), "the second one's file is a new one");
        assert!(File::open(&path).unwrap().try_lock().is_err(), "and it is locked");
        drop(second);
        File::open(&path).unwrap().try_lock().unwrap();
    }
}
