//! What a container sees at `/sys/fs/cgroup`: its own numbers, read-only.
//!
//! The mounts are made by the shim, attached to nothing, and put in place by the container's first process: if
//! libcontainer saw a cgroup mounted anywhere, it would make groups of its own there.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::fs::{CWD, Mode, mkdirat, symlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::cgroup::Group;
use crate::kernel;

const TARGET: &str = "/sys/fs/cgroup";

/// Mounts and the places where they go, in order.
#[derive(Debug)]
pub(super) struct View(Vec<(OwnedFd, String)>);

/// The same, by number, for the process that is to put them there.
pub(super) type Attachments = Vec<(RawFd, String)>;

impl View {
    pub(super) fn of(group: &Group) -> io::Result<Self> {
        let views = group.views();
        let mut mounts = Vec::new();
        if views.iter().any(|(name, _)| !name.is_empty()) {
            let names: Vec<&str> = views.iter().map(|(name, _)| place(name)).collect();
            mounts.push((directories(&names)?, TARGET.to_owned()));
        }
        for (name, dir) in &views {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(CWD, dir, flags)?;
            kernel::make_read_only(&tree)?;
            let target = match views.len() {
                1 if name.is_empty() => TARGET.to_owned(),
                _ => format!("{TARGET}/{}", place(name)),
            };
            mounts.push((tree, target));
        }
        Ok(Self(mounts))
    }

    pub(super) fn attachments(&self) -> Attachments {
        self.0.iter().map(|(tree, target)| (tree.as_raw_fd(), target.clone())).collect()
    }
}

/// Puts them in place, inside the container; it takes CAP_SYS_ADMIN.
pub(super) fn attach(attachments: &Attachments) -> io::Result<()> {
    for (tree, target) in attachments {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(kernel::lend(*tree), "", CWD, target.as_str(), flags)?;
    }
    Ok(())
}

fn place(name: &str) -> &str {
    if name.is_empty() { "unified" } else { name }
}

/// A tmpfs with a directory for each v1 hierarchy, and a link for each controller of those that have several.
fn directories(names: &[&str]) -> io::Result<OwnedFd> {
    let filesystem = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&filesystem, "mode", "755")?;
    fsconfig_set_string(&filesystem, "size", "64k")?;
    fsconfig_create(&filesystem)?;
    let tree = fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    for name in names {
        mkdirat(&tree, *name, Mode::from_raw_mode(0o755))?;
        for controller in name.split(',').filter(|controller| controller != name) {
            symlinkat(*name, &tree, controller)?;
        }
    }
    kernel::make_read_only(&tree)?;
    Ok(tree)
}
