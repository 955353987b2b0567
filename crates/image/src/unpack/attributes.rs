//! Owners, modes, times, extended attributes, and the nodes and marks by which overlayfs hides things.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fstat,
};
use rustix::io::Errno;

use super::invalid;
use crate::tar_reader::{Entry, Kind};

const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
const MAX_XATTRS: usize = 64 * 1024;

/// Owner, extended attributes and mode of something open. In this order: a change of owner clears set-id bits and capabilities.
pub(super) fn set_attributes(fd: impl AsFd, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = owner(entry)?;
    fchown(&fd, Some(uid), Some(gid))?;
    for (name, value) in wanted_xattrs(entry)? {
        tolerate(rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()))?;
    }
    Ok(fchmod(&fd, Mode::from_raw_mode(entry.mode))?)
}

/// The same for a symbolic link, which has no mode.
pub(super) fn set_link_attributes(parent: impl AsFd, name: &[u8], entry: &Entry) -> io::Result<()> {
    let (uid, gid) = owner(entry)?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags)?;
    for (xattr, value) in wanted_xattrs(entry)? {
        let path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_fd().as_raw_fd()))
            .join(std::ffi::OsStr::from_bytes(name));
        tolerate(rustix::fs::lsetxattr(path, xattr, value, XattrFlags::empty()))?;
    }
    Ok(rustix::fs::utimensat(&parent, name, &times(entry.mtime), flags)?)
}

/// Makes a pipe or device.
pub(super) fn make_node(parent: impl AsFd, name: &[u8], entry: &Entry) -> io::Result<()> {
    let (kind, device) = match entry.kind {
        Kind::Fifo => (FileType::Fifo, 0),
        Kind::Char { major, minor } => {
            (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
        }
        Kind::Block { major, minor } => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
        _ => return Err(invalid("the entry is no device")),
    };
    rustix::fs::mknodat(&parent, name, kind, Mode::from_raw_mode(0o600), device)?;
    let (uid, gid) = owner(entry)?;
    rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    Ok(rustix::fs::utimensat(&parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A character device 0/0: overlayfs shows nothing at this name.
pub(super) fn make_whiteout(parent: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?)
}

/// Marks a directory so that overlayfs shows nothing of the layers below in it.
pub(super) fn set_opaque(directory: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, OPAQUE_XATTR, b"y", XattrFlags::empty())?)
}

pub(super) fn set_times(fd: impl AsFd, mtime: (i64, u32)) -> io::Result<()> {
    Ok(rustix::fs::futimens(fd, &times(mtime))?)
}

/// Owner and mode of another directory.
pub(super) fn copy(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let stat = fstat(from)?;
    fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    Ok(fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
}

fn owner(entry: &Entry) -> io::Result<(Uid, Gid)> {
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        return Err(invalid("the owner is not a valid number"));
    }
    Ok((Uid::from_raw(entry.uid), Gid::from_raw(entry.gid)))
}

/// File capabilities, ACLs and user attributes; never those by which overlayfs could be made to hide or redirect.
fn wanted_xattrs(entry: &Entry) -> io::Result<impl Iterator<Item = (&[u8], &[u8])>> {
    if entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_XATTRS
    {
        return Err(invalid("extended attributes are too large"));
    }
    let wanted = |name: &[u8]| {
        matches!(
            name,
            b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
        ) || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
    };
    Ok(entry.xattrs.iter().filter(move |(name, _)| wanted(name)).map(|(n, v)| (&n[..], &v[..])))
}

/// A filesystem without such attributes is no reason to refuse an image.
fn tolerate(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
