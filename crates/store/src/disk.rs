//! Files, as far as the store needs them. They are the kernel's; in tests a simulated host has its own
//! disk, which loses what was not synced.

use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};

#[cfg(test)]
use crate::simulation::disk as simulated;

/// An open file.
#[derive(Debug)]
pub(crate) enum File {
    Real(std::fs::File),
    #[cfg(test)]
    Simulated(simulated::File),
}

/// Keeps others from opening the same store while it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _held: Option<OwnedFd>,
}

impl File {
    /// Makes a file, or empties the one there is.
    pub(crate) fn create(path: &Path) -> io::Result<File> {
        #[cfg(test)]
        if let Some(disk) = simulated::here() {
            return disk.create(path).map(File::Simulated);
        }
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).open(path).map(File::Real)
    }

    /// Opens a file to be read.
    pub(crate) fn open(path: &Path) -> io::Result<File> {
        #[cfg(test)]
        if let Some(disk) = simulated::here() {
            return disk.open(path).map(File::Simulated);
        }
        std::fs::File::open(path).map(File::Real)
    }

    /// Opens a file to be read and changed.
    pub(crate) fn edit(path: &Path) -> io::Result<File> {
        #[cfg(test)]
        if let Some(disk) = simulated::here() {
            return disk.open(path).map(File::Simulated);
        }
        std::fs::OpenOptions::new().read(true).write(true).open(path).map(File::Real)
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self {
            File::Real(file) => file.write_all_at(bytes, at),
            #[cfg(test)]
            File::Simulated(file) => file.write_all_at(bytes, at),
        }
    }

    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            File::Real(file) => file.read_exact_at(bytes, at),
            #[cfg(test)]
            File::Simulated(file) => file.read_exact_at(bytes, at),
        }
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        match self {
            File::Real(file) => file.set_len(len),
            #[cfg(test)]
            File::Simulated(file) => file.set_len(len),
        }
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            File::Real(file) => Ok(file.metadata()?.len()),
            #[cfg(test)]
            File::Simulated(file) => file.len(),
        }
    }

    /// Makes the content durable, and what is needed to find it.
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        match self {
            File::Real(file) => file.sync_data(),
            #[cfg(test)]
            File::Simulated(file) => file.sync(),
        }
    }

    /// Makes everything about the file durable, but for its name.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        match self {
            File::Real(file) => file.sync_all(),
            #[cfg(test)]
            File::Simulated(file) => file.sync(),
        }
    }
}

impl Read for File {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            File::Real(file) => file.read(bytes),
            #[cfg(test)]
            File::Simulated(file) => file.read(bytes),
        }
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            File::Real(file) => file.write(bytes),
            #[cfg(test)]
            File::Simulated(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All of a file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    #[cfg(test)]
    if let Some(disk) = simulated::here() {
        return disk.read(path);
    }
    std::fs::read(path)
}

/// Lets go of what the kernel has of a file in memory, unless it has yet to be written, so that the next read is one
/// of the disk itself.
pub(crate) fn uncache(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    if simulated::here().is_some() {
        return Ok(());
    }
    // File systems that have no use for the advice ignore it.
    let advice = rustix::fs::Advice::DontNeed;
    Ok(rustix::fs::fadvise(std::fs::File::open(path)?, 0, None, advice)?)
}

pub(crate) fn exists(path: &Path) -> io::Result<bool> {
    #[cfg(test)]
    if let Some(disk) = simulated::here() {
        return disk.exists(path);
    }
    path.try_exists()
}

/// Durable when the directory is synced.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    if let Some(disk) = simulated::here() {
        return disk.rename(from, to);
    }
    std::fs::rename(from, to)
}

/// Durable when the directory is synced.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    if let Some(disk) = simulated::here() {
        return disk.remove(path);
    }
    std::fs::remove_file(path)
}

pub(crate) fn create_dir_all(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    if simulated::here().is_some() {
        return Ok(());
    }
    std::fs::create_dir_all(dir)
}

/// Makes a directory that nobody else can look into.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    if simulated::here().is_some() {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

/// Removes a directory with all that is in it, if there is one. Only a real one: whole stores are made and removed
/// where none runs, and hosts that are simulated do not do that.
pub(crate) fn remove_dir_all(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes that still fit on the disk of a directory.
pub(crate) fn free_space(dir: &Path) -> io::Result<u64> {
    #[cfg(test)]
    if let Some(disk) = simulated::here() {
        return Ok(disk.free_space());
    }
    let about = rustix::fs::statvfs(dir)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

/// The files in a directory, in no order.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    #[cfg(test)]
    if let Some(disk) = simulated::here() {
        return disk.list(dir);
    }
    std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

/// Bytes of the files in a directory.
pub(crate) fn bytes_in(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for path in list(dir)? {
        match File::open(&path) {
            Ok(file) => bytes += file.len()?,
            // It was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Makes the names in `dir` durable: after a file was made, renamed or removed.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    if let Some(disk) = simulated::here() {
        return disk.sync_dir(dir);
    }
    std::fs::File::open(dir)?.sync_all()
}

/// Takes the lock at `path`; `WouldBlock` if another holds it.
pub(crate) fn lock(path: &Path) -> io::Result<Lock> {
    #[cfg(test)]
    if simulated::here().is_some() {
        // A host runs one store at a time.
        return Ok(Lock { _held: None });
    }
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(Lock { _held: Some(file) })
}
