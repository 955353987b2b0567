//! Mounts that live in a sandbox's own mount namespace, so that they end with it: memory volumes and sub-paths.
//!
//! A sub-path is resolved by the kernel below the volume's root and then bound by its descriptor: a link that a
//! container swaps in meanwhile leads nowhere else.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

/// A part of a volume, to be bound to a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubPath {
    volume: PathBuf,
    path: PathBuf,
    target: PathBuf,
}

impl SubPath {
    /// `path` inside the volume at `volume`; `None` if it is absolute or leads upwards.
    pub(crate) fn new(volume: &Path, path: &str, target: &Path) -> Option<Self> {
        let path = PathBuf::from(path);
        let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
        path.components().all(plain).then(|| Self {
            volume: volume.to_owned(),
            path,
            target: target.to_owned(),
        })
    }

    /// Binds the part to its target in the calling thread's mount namespace.
    fn bind(&self) -> io::Result<()> {
        let part = open_below(&self.volume, &self.path)?;
        if let Some(parent) = self.target.parent() {
            fs::create_dir_all(parent)?;
        }
        // A restarted container binds it anew.
        match umount2(&self.target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        make_mount_point(&self.target, &part)?;
        let source = format!("/proc/self/fd/{}", part.as_raw_fd());
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        Ok(mount(Some(source.as_str()), &self.target, None::<&str>, flags, None::<&str>)?)
    }
}

fn make_mount_point(target: &Path, part: &OwnedFd) -> io::Result<()> {
    let is_dir = FileType::from_raw_mode(rustix::fs::fstat(part)?.st_mode) == FileType::Directory;
    let found = fs::symlink_metadata(target).ok().map(|meta| meta.is_dir());
    match found {
        Some(was_dir) if was_dir == is_dir => return Ok(()),
        Some(true) => fs::remove_dir(target)?,
        Some(false) => fs::remove_file(target)?,
        None => {}
    }
    if is_dir { fs::create_dir(target) } else { fs::File::create_new(target).map(drop) }
}

/// Opens `path` below `root`; directories that are missing are made. Links may not lead out of `root`.
fn open_below(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let below = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&root, path, flags, Mode::empty(), below) {
        Err(rustix::io::Errno::NOENT) => {}
        opened => return Ok(opened?),
    }
    let mut at = root.as_fd().try_clone_to_owned()?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        at = match rustix::fs::openat2(&at, name, flags, Mode::empty(), below) {
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755))?;
                let flags = flags | OFlags::NOFOLLOW | OFlags::DIRECTORY;
                rustix::fs::openat(&at, name, flags, Mode::empty())?
            }
            opened => opened?,
        };
    }
    Ok(at)
}

/// Memory to be mounted on `path`, at most `size` bytes (half of the machine's if not given).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub path: PathBuf,
    pub size: Option<u64>,
}

impl Memory {
    fn mount(&self) -> io::Result<()> {
        let size = self.size.map_or(String::new(), |size| format!("size={size},"));
        let options = format!("{size}mode=1777");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let options = Some(options.as_str());
        Ok(mount(Some("tmpfs"), &self.path, Some("tmpfs"), flags, options)?)
    }
}

/// Mounts memory and binds sub-paths in the mount namespace of process `pid`.
pub(crate) async fn mount_in(
    pid: u32,
    memory: Vec<Memory>,
    sub_paths: Vec<SubPath>,
) -> io::Result<()> {
    if memory.is_empty() && sub_paths.is_empty() {
        return Ok(());
    }
    in_mount_namespace(pid, move || {
        memory.iter().try_for_each(Memory::mount)?;
        sub_paths.iter().try_for_each(SubPath::bind)
    })
    .await
}

/// Runs `work` on a thread of its own inside the mount namespace of `pid`; the thread ends with it.
async fn in_mount_namespace(
    pid: u32,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let (done, result) = tokio::sync::oneshot::channel();
    let enter_and_work = move || -> io::Result<()> {
        let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt"))?;
        // A thread that shares its working directory with others may not change the mount namespace.
        unshare(CloneFlags::CLONE_FS)?;
        setns(namespace, CloneFlags::CLONE_NEWNS)?;
        work()
    };
    thread::Builder::new().name("sandbox-mounts".to_owned()).spawn(move || {
        // Nobody waits any more when the pod was stopped meanwhile.
        drop(done.send(enter_and_work()));
    })?;
    result.await.unwrap_or_else(|_| Err(io::Error::other("the mounting thread ended early")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn is_root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            println!("skipped: needs root");
        }
        is_root
    }

    #[test]
    fn links_do_not_lead_out_of_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("real")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        symlink("..", volume.join("up")).unwrap();
        symlink("real", volume.join("inside")).unwrap();
        for path in ["absolute", "absolute/passwd", "up/secret", "up/new", "absolute/new/x"] {
            assert!(open_below(&volume, Path::new(path)).is_err(), "{path}");
        }
        assert!(!dir.path().join("new").exists());
        assert!(open_below(&volume, Path::new("inside")).is_ok());
        assert!(open_below(&volume, Path::new("made/on/the/way")).is_ok());
        assert!(volume.join("made/on/the/way").is_dir());
    }

    #[test]
    fn a_link_exchanged_while_it_is_resolved_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("d/x")).unwrap();
        fs::create_dir_all(dir.path().join("outside/x")).unwrap();
        symlink("../outside", volume.join("evil")).unwrap();
        let outside = fs::canonicalize(dir.path().join("outside")).unwrap();
        let exchanger = {
            let volume = volume.clone();
            thread::spawn(move || {
                for _ in 0..2000 {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    let (a, b) = (volume.join("d"), volume.join("evil"));
                    rustix::fs::renameat_with(CWD, a, CWD, b, flags).unwrap();
                }
            })
        };
        while !exchanger.is_finished() {
            if let Ok(opened) = open_below(&volume, Path::new("d/x")) {
                let real = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).unwrap();
                assert!(!real.starts_with(&outside), "{}", real.display());
            }
        }
        exchanger.join().unwrap();
    }

    #[test]
    fn only_relative_paths_that_stay_below() {
        let new = |path| SubPath::new(Path::new("/v"), path, Path::new("/t"));
        assert!(new("a/b").is_some() && new("./a").is_some());
        assert!(new("/a").is_none() && new("../a").is_none() && new("a/../b").is_none());
    }

    #[tokio::test]
    async fn mounts_are_seen_in_the_namespace_and_nowhere_else() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (memory, volume) = (dir.path().join("memory"), dir.path().join("volume"));
        fs::create_dir_all(&memory).unwrap();
        fs::create_dir_all(volume.join("part")).unwrap();
        fs::write(volume.join("part/file"), "bound").unwrap();
        let holder = Holder::new();
        let target = dir.path().join("sub/0");
        let part = SubPath::new(&volume, "part", &target).unwrap();
        let memory_mount = Memory { path: memory.clone(), size: Some(4096) };
        let pid = holder.tid();
        mount_in(pid, vec![memory_mount], vec![part.clone()]).await.unwrap();
        // Again, as for a restarted container.
        mount_in(pid, vec![], vec![part]).await.unwrap();
        assert!(!target.join("file").exists(), "not in our namespace");
        let (seen, memory) = (target.join("file"), memory.join("in-memory"));
        let checks = move || {
            assert_eq!(fs::read_to_string(seen)?, "bound");
            fs::write(memory, "x")
        };
        in_mount_namespace(pid, checks).await.unwrap();
        assert!(!dir.path().join("memory/in-memory").exists(), "not in our namespace");
    }

    /// A thread with a mount namespace of its own, which ends with it.
    struct Holder {
        tid: u32,
        stop: Option<std::sync::mpsc::Sender<()>>,
        thread: Option<thread::JoinHandle<()>>,
    }

    impl Holder {
        fn new() -> Self {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let (send_tid, tid) = std::sync::mpsc::channel();
            let thread = thread::spawn(move || {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
                send_tid.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
                assert!(stopped.recv().is_err(), "nobody sends");
            });
            let tid = u32::try_from(tid.recv().unwrap()).unwrap();
            Self { tid, stop: Some(stop), thread: Some(thread) }
        }

        fn tid(&self) -> u32 {
            self.tid
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            drop(self.stop.take());
            if let Some(thread) = self.thread.take() {
                drop(thread.join());
            }
        }
    }
}
