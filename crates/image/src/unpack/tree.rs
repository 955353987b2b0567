//! The directory a layer is unpacked into, and the only way to reach names in it: `openat2` with `RESOLVE_BENEATH`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::attributes;
use super::invalid;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// A relative path without `.`, `..`, empty parts or NUL; empty means the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CleanPath(Vec<u8>);

impl CleanPath {
    pub(super) fn root() -> Self {
        Self(Vec::new())
    }

    /// A leading `/` is dropped, as `tar` does.
    pub(super) fn parse(raw: &[u8]) -> io::Result<Self> {
        let mut out = Vec::with_capacity(raw.len());
        for part in raw.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")) {
            if part == b".." {
                return Err(invalid("the path leads out of the image by `..`"));
            }
            if part.contains(&0) {
                return Err(invalid("the path holds a NUL byte"));
            }
            if !out.is_empty() {
                out.push(b'/');
            }
            out.extend_from_slice(part);
        }
        Ok(Self(out))
    }

    /// One part exactly.
    pub(super) fn single(name: &[u8]) -> io::Result<Self> {
        let path = Self::parse(name)?;
        if path.0.is_empty() || path.0 != name {
            return Err(invalid("the whiteout names nothing"));
        }
        Ok(path)
    }

    pub(super) fn name(&self) -> Option<&[u8]> {
        self.0.rsplit(|b| *b == b'/').next().filter(|name| !name.is_empty())
    }

    pub(super) fn parent(&self) -> Self {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => Self(self.0[..slash].to_vec()),
            None => Self::root(),
        }
    }

    fn join(&self, name: &[u8]) -> Self {
        let mut out = self.0.clone();
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(name);
        Self(out)
    }

    fn arg(&self) -> &[u8] {
        if self.0.is_empty() { b"." } else { &self.0 }
    }

    fn as_path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

pub(super) struct Tree {
    root: OwnedFd,
    lower: Vec<PathBuf>,
    /// The directory last used: archives name the entries of one directory in a row.
    recent: Option<(CleanPath, OwnedFd)>,
}

impl Tree {
    pub(super) fn open(root: &Path, lower: &[PathBuf]) -> io::Result<Self> {
        let root = rustix::fs::open(root, DIRECTORY, Mode::empty())?;
        let tree = Self { root, lower: lower.to_vec(), recent: None };
        // A layer need not name its root; then the root is as it was below.
        match tree.lower_directory(&CleanPath::root())? {
            Some(below) => attributes::copy(&below, &tree.root)?,
            None => rustix::fs::fchmod(&tree.root, Mode::from_raw_mode(0o755))?,
        }
        Ok(tree)
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    pub(super) fn open_directory(&self, path: &CleanPath) -> io::Result<OwnedFd> {
        self.open_beneath(path).map_err(explain)
    }

    fn open_beneath(&self, path: &CleanPath) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat2(&self.root, path.arg(), DIRECTORY, Mode::empty(), BENEATH)
    }

    /// The parent directory, made if need be, and the last name.
    pub(super) fn place<'a>(&mut self, path: &'a CleanPath) -> io::Result<(&OwnedFd, &'a [u8])> {
        let name = path.name().ok_or_else(|| invalid("the entry has no name"))?;
        let parent = path.parent();
        if self.recent.as_ref().is_none_or(|(recent, _)| *recent != parent) {
            let opened = self.ensure(&parent)?;
            self.recent = Some((parent, opened));
        }
        let (_, opened) = self.recent.as_ref().expect("set just above");
        Ok((opened, name))
    }

    /// Opens a directory, making what is missing of it like the same directory in the layers below.
    fn ensure(&self, path: &CleanPath) -> io::Result<OwnedFd> {
        if let Ok(found) = self.open_beneath(path) {
            return Ok(found);
        }
        let mut current = CleanPath::root();
        let mut directory = self.open_beneath(&current)?;
        for part in path.0.split(|b| *b == b'/') {
            current = current.join(part);
            directory = match self.open_beneath(&current) {
                Ok(found) => found,
                Err(Errno::NOENT) => self.make_missing(&directory, part, &current)?,
                Err(Errno::NOTDIR) if is_whiteout(stat(&directory, part)?.as_ref()) => {
                    rustix::fs::unlinkat(&directory, part, AtFlags::empty())?;
                    let made = self.make_missing(&directory, part, &current)?;
                    attributes::set_opaque(&made)?;
                    made
                }
                Err(error) => return Err(explain(error)),
            };
        }
        Ok(directory)
    }

    fn make_missing(&self, parent: &OwnedFd, name: &[u8], path: &CleanPath) -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(explain)?;
        let made = rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        match self.lower_directory(path)? {
            Some(below) => attributes::copy(&below, &made)?,
            None => rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?,
        }
        Ok(made)
    }

    /// The topmost directory of this path in the layers below.
    fn lower_directory(&self, path: &CleanPath) -> io::Result<Option<OwnedFd>> {
        for layer in self.lower.iter().rev() {
            let root = rustix::fs::open(layer, DIRECTORY, Mode::empty())?;
            let flags = BENEATH | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(&root, path.arg(), DIRECTORY, Mode::empty(), flags) {
                Ok(found) => return Ok(Some(found)),
                Err(Errno::NOENT) => {}
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Makes or keeps a directory.
    pub(super) fn directory(&mut self, path: &CleanPath) -> io::Result<OwnedFd> {
        let (parent, name) = self.place(path)?;
        let existing = stat(parent, name)?;
        if !existing.is_some_and(|stat| file_type(&stat) == FileType::Directory) {
            let was_whiteout = is_whiteout(existing.as_ref());
            if existing.is_some() {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            }
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
            if was_whiteout {
                let made =
                    rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                attributes::set_opaque(&made)?;
            }
        }
        Ok(rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
    }

    /// Removes what an earlier entry put at this name, for a later one to take its place.
    pub(super) fn clear(&mut self, path: &CleanPath) -> io::Result<()> {
        let (parent, name) = self.place(path)?;
        match stat(parent, name)? {
            None => Ok(()),
            Some(stat) if file_type(&stat) == FileType::Directory => {
                let within = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()))
                    .join(std::ffi::OsStr::from_bytes(name));
                std::fs::remove_dir_all(within)?;
                // The directory kept open may have been in it.
                self.recent = None;
                Ok(())
            }
            Some(_) => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
        }
    }

    pub(super) fn create_file(&mut self, path: &CleanPath) -> io::Result<File> {
        let (parent, name) = self.place(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    pub(super) fn hard_link(&mut self, target: &CleanPath, path: &CleanPath) -> io::Result<()> {
        if target == path {
            return Ok(());
        }
        let target_name = target.name().ok_or_else(|| invalid("the hard link has no target"))?;
        let missing = |error| match error {
            Errno::NOENT | Errno::NOTDIR => {
                invalid("a hard link to a file that is not in this layer")
            }
            other => explain(other),
        };
        let target_parent = self.open_beneath(&target.parent()).map_err(missing)?;
        if stat(&target_parent, target_name)?.is_none() {
            return Err(missing(Errno::NOENT));
        }
        self.clear(path)?;
        let (parent, name) = self.place(path)?;
        rustix::fs::linkat(&target_parent, target_name, parent, name, AtFlags::empty())
            .map_err(missing)
    }

    /// Hides `name` of the layers below. What this layer itself has there stays, and is all that there is.
    pub(super) fn whiteout(&mut self, directory: &CleanPath, name: &CleanPath) -> io::Result<()> {
        let path = directory.join(&name.0);
        let (parent, name) = self.place(&path)?;
        match stat(parent, name)? {
            None => attributes::make_whiteout(parent, name),
            Some(stat) if file_type(&stat) == FileType::Directory => {
                let kept =
                    rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                attributes::set_opaque(&kept)
            }
            Some(_) => Ok(()),
        }
    }

    /// Hides all that the layers below have in a directory.
    pub(super) fn make_opaque(&mut self, directory: &CleanPath) -> io::Result<()> {
        if *directory != CleanPath::root() {
            return attributes::set_opaque(&self.ensure(directory)?);
        }
        // Overlayfs does not look for the mark on a layer's root, so each name is hidden by itself.
        for layer in self.lower.clone() {
            for entry in std::fs::read_dir(layer)? {
                let name = CleanPath::single(entry?.file_name().as_bytes())?;
                self.whiteout(&CleanPath::root(), &name)?;
            }
        }
        Ok(())
    }
}

fn stat(parent: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_whiteout(stat: Option<&Stat>) -> bool {
    stat.is_some_and(|stat| file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0)
}

/// The kernel's refusals to follow a path, said in our words.
fn explain(error: Errno) -> io::Error {
    match error {
        Errno::XDEV => invalid("the path leads out of the image by a symbolic link"),
        Errno::NOTDIR => invalid("a part of the path is no directory"),
        Errno::EXIST => invalid("a part of the path is a symbolic link to nothing"),
        other => other.into(),
    }
}

impl std::fmt::Display for CleanPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_path().display().fmt(f)
    }
}
