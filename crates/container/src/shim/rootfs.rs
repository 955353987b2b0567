//! A container's root filesystem: an overlay of its layers, and careful looks into it.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

use super::setup::failed;
use crate::error::Refusal;
use crate::spec::Rootfs;

/// `fsconfig` takes no longer value.
const MAX_VALUE: usize = 255;
const MAX_LAYERS: usize = 128;
/// A user database larger than this is not one.
const MAX_TEXT: u64 = 1 << 20;

/// Where the files of one container are.
#[derive(Clone, Debug)]
pub(super) struct Dirs {
    /// Sockets, notes and mount points; vanishes.
    pub(super) run: PathBuf,
    /// The writable layer.
    pub(super) state: PathBuf,
}

impl Dirs {
    pub(super) fn root(&self) -> PathBuf {
        self.run.join("rootfs")
    }

    pub(super) fn notes(&self) -> PathBuf {
        self.run.join("oci")
    }

    pub(super) fn make(&self) -> Result<(), Refusal> {
        let upper = [self.state.join("upper"), self.state.join("work")];
        for dir in upper.iter().chain([&self.root(), &self.notes()]) {
            fs::create_dir_all(dir).map_err(|e| failed(&format!("make {}", dir.display()), e))?;
        }
        Ok(())
    }

    /// Unmounts and removes all; what is not there is no error.
    pub(super) fn remove(&self) -> Result<(), Refusal> {
        // Not mounted, or not there, is what is wanted.
        let _gone = unmount(self.root(), UnmountFlags::DETACH);
        for dir in [&self.run, &self.state] {
            match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&format!("remove {}", dir.display()), error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Mounts the layers, with a writable one on top, and opens the result.
pub(super) fn assemble(rootfs: &Rootfs, dirs: &Dirs) -> Result<Root, Refusal> {
    let count = rootfs.layers.len();
    if !(1..=MAX_LAYERS).contains(&count) {
        return Err(Refusal::InvalidSpec(format!(
            "{count} layers; 1 to {MAX_LAYERS} are possible"
        )));
    }
    let mut layers = Vec::with_capacity(count);
    for layer in &rootfs.layers {
        let dir = open_dir(layer)
            .map_err(|e| Refusal::Rootfs(format!("layer {}: {e}", layer.display())))?;
        layers.push(dir);
    }
    mount_overlay(&rootfs.layers, &layers, dirs)
        .map_err(|e| Refusal::Rootfs(format!("cannot mount the overlay: {e}")))?;
    Root::open(&dirs.root()).map_err(|e| Refusal::Rootfs(format!("cannot open it: {e}")))
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn by_number(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// By the new mount calls; kernels before 6.7 know no `lowerdir+`, which they say only when the filesystem is made, and
/// get the old one.
fn mount_overlay(paths: &[PathBuf], layers: &[OwnedFd], dirs: &Dirs) -> io::Result<()> {
    let made = new_overlay(paths, layers, dirs);
    match made.as_ref().err().and_then(Errno::from_io_error) {
        Some(Errno::INVAL | Errno::NOSYS) => old_overlay(layers, dirs),
        _ => made,
    }
}

fn new_overlay(paths: &[PathBuf], layers: &[OwnedFd], dirs: &Dirs) -> io::Result<()> {
    let filesystem = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&filesystem, "source", "overlay")?;
    // The first one added is the topmost.
    for (path, fd) in paths.iter().zip(layers).rev() {
        let text = path.to_str().filter(|path| path.len() <= MAX_VALUE);
        let text = text.map_or_else(|| by_number(fd), str::to_owned);
        fsconfig_set_string(&filesystem, "lowerdir+", text)?;
    }
    let upper = open_dir(&dirs.state.join("upper"))?;
    let work = open_dir(&dirs.state.join("work"))?;
    fsconfig_set_string(&filesystem, "upperdir", by_number(&upper))?;
    fsconfig_set_string(&filesystem, "workdir", by_number(&work))?;
    // The writable layer goes with the container: nothing in it needs to survive a power failure.
    rustix::mount::fsconfig_set_flag(&filesystem, "volatile")?;
    fsconfig_create(&filesystem)?;
    let tree = fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(move_mount(&tree, "", CWD, dirs.root(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Layers by descriptor, so that 128 of them fit into the page that options may take.
fn old_overlay(layers: &[OwnedFd], dirs: &Dirs) -> io::Result<()> {
    let upper = open_dir(&dirs.state.join("upper"))?;
    let work = open_dir(&dirs.state.join("work"))?;
    let lower: Vec<String> = layers.iter().rev().map(by_number).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        by_number(&upper),
        by_number(&work)
    );
    let options = std::ffi::CString::new(options)?;
    Ok(mount("overlay", dirs.root(), "overlay", MountFlags::empty(), Some(options.as_c_str()))?)
}

/// An open root filesystem. Paths in it cannot lead out of it, whatever links it has.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        open_dir(path).map(Self)
    }

    fn at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// A small text file, or nothing if it is missing, no file, or too large.
    pub(super) fn text(&self, path: &str) -> String {
        // NONBLOCK: a fifo of that name must not hold the shim up.
        let Ok(fd) = self.at(path, OFlags::RDONLY | OFlags::NONBLOCK) else {
            return String::new();
        };
        let is_file = rustix::fs::fstat(&fd)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file());
        let mut text = String::new();
        let read = fs::File::from(fd).take(MAX_TEXT).read_to_string(&mut text);
        if is_file && read.is_ok() { text } else { String::new() }
    }

    /// Makes a directory and those above it, as root's.
    pub(super) fn make_dir(&self, path: &str) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut dir = self.at(".", flags)?;
        let mut so_far = String::new();
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            so_far.push('/');
            so_far.push_str(part);
            dir = match self.at(&so_far, flags) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755))?;
                    self.at(&so_far, flags)?
                }
                found => found?,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_do_not_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        let inside = outside.path().join("root");
        fs::create_dir_all(inside.join("etc")).unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        symlink("../../secret", inside.join("etc/passwd")).unwrap();
        symlink(outside.path(), inside.join("var")).unwrap();
        let root = Root::open(&inside).unwrap();
        assert_eq!(root.text("/etc/passwd"), "");
        // The link's target is looked up inside, where its directories do not exist.
        assert!(root.make_dir("/var/made").is_err());
        assert!(!outside.path().join("made").exists());
        root.make_dir("/a/b/../c").unwrap();
        assert!(inside.join("a/b").is_dir() && inside.join("a/c").is_dir());
    }

    #[test]
    fn only_small_regular_files_are_texts() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        fs::write(dir.path().join("good"), "text").unwrap();
        rustix::fs::mknodat(
            CWD,
            dir.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .unwrap();
        assert_eq!(root.text("good"), "text");
        assert_eq!(root.text("/fifo"), "");
        assert_eq!(root.text("absent"), "");
        assert_eq!(root.text("."), "");
    }
}
