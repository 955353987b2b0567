//! The OCI runtime specification that libcontainer is given for a container.

use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;
use serde_json::{Value, json};

use super::passwd::Account;
use super::rootfs::Dirs;
use crate::capability;
use crate::error::Refusal;
use crate::spec::{ContainerSpec, Mount, MountKind};

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// A machine with more device nodes gives a privileged container the first ones.
const MAX_DEVICES: usize = 4096;

/// What the specification is made of besides the caller's.
#[derive(Debug)]
pub(super) struct Details<'a> {
    pub(super) spec: &'a ContainerSpec,
    pub(super) dirs: &'a Dirs,
    pub(super) account: &'a Account,
    pub(super) capabilities: CapabilitySet,
    /// Rights until the filter is in.
    pub(super) until_filtered: CapabilitySet,
    pub(super) shm: PathBuf,
    /// `None` for a new one of its own, `Some(None)` for the shim's.
    pub(super) pid_namespace: Option<Option<PathBuf>>,
}

pub(super) fn config(details: &Details<'_>) -> Result<Value, Refusal> {
    let spec = details.spec;
    let privileged = spec.security.privileged;
    let bounding = capability::names(details.capabilities);
    let now = capability::names(details.until_filtered);
    let mut namespaces = vec![json!({ "type": "mount" })];
    match &details.pid_namespace {
        None => namespaces.push(json!({ "type": "pid" })),
        Some(Some(path)) => namespaces.push(json!({ "type": "pid", "path": path })),
        Some(None) => {}
    }
    let mut linux = json!({ "namespaces": namespaces });
    if privileged {
        linux["devices"] = Value::Array(machine_devices());
    } else {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
    }
    let cwd = if spec.cwd.is_empty() { "/" } else { &spec.cwd };
    Ok(json!({
        "ociVersion": "1.0.2",
        "root": { "path": details.dirs.root(), "readonly": spec.security.read_only_root },
        "process": {
            "terminal": false,
            "user": {
                "uid": details.account.uid,
                "gid": details.account.gid,
                "additionalGids": details.account.groups,
            },
            "args": spec.argv,
            // The executor has the real one. With a HOME, libcontainer does not ask the C library for a user.
            "env": ["HOME=/"],
            "cwd": cwd,
            "capabilities": {
                "bounding": bounding, "effective": now, "permitted": now,
                "inheritable": [], "ambient": [],
            },
            "noNewPrivileges": spec.security.no_new_privileges,
        },
        "mounts": mounts(details)?,
        "linux": linux,
    }))
}

fn mounts(details: &Details<'_>) -> Result<Vec<Value>, Refusal> {
    let entry = |target: &str, kind: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    let bind = |target: &str, source: &Path, options: &[&str]| json!({ "destination": target, "type": "bind", "source": source, "options": options });
    let access = if details.spec.security.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        entry("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        entry("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        entry(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        entry("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        entry("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]),
    ];
    mounts.push(match details.spec.shm_bytes {
        Some(bytes) => {
            let size = format!("size={bytes}");
            entry("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &size])
        }
        None => bind("/dev/shm", &details.shm, &["bind", "rprivate"]),
    });
    for mount in &details.spec.mounts {
        mounts.push(wanted(mount)?);
    }
    Ok(mounts)
}

fn wanted(mount: &Mount) -> Result<Value, Refusal> {
    if !mount.target.starts_with('/') || mount.target.split('/').any(|part| part == "..") {
        let text = format!("mount target {:?} is not an absolute path", mount.target);
        return Err(Refusal::InvalidSpec(text));
    }
    match &mount.kind {
        MountKind::Bind { source } => {
            if !source.is_absolute() || !source.exists() {
                let text = format!("mount source {} does not exist", source.display());
                return Err(Refusal::InvalidSpec(text));
            }
            let options: &[&str] = if mount.read_only {
                &["rbind", "rprivate", "rro"]
            } else {
                &["rbind", "rprivate"]
            };
            Ok(json!({
                "destination": mount.target, "type": "bind", "source": source, "options": options,
            }))
        }
        MountKind::Tmpfs { size_bytes, mode } => {
            let mut options = vec!["nosuid".into(), "nodev".into(), format!("mode={mode:o}")];
            options.extend(size_bytes.map(|bytes| format!("size={bytes}")));
            options.extend(mount.read_only.then(|| "ro".to_owned()));
            Ok(json!({
                "destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options,
            }))
        }
    }
}

/// The machine's device nodes, for a privileged container.
fn machine_devices() -> Vec<Value> {
    let mut devices = Vec::new();
    let mut dirs = vec![PathBuf::from("/dev")];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Ok(stat) = rustix::fs::lstat(&path) else { continue };
            let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
            let own = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/ptmx"];
            if own.iter().any(|own| path == Path::new(own)) || devices.len() >= MAX_DEVICES {
                continue;
            }
            match kind {
                rustix::fs::FileType::Directory => dirs.push(path),
                rustix::fs::FileType::CharacterDevice => devices.push(device(&path, "c", &stat)),
                rustix::fs::FileType::BlockDevice => devices.push(device(&path, "b", &stat)),
                _ => {}
            }
        }
    }
    devices
}

fn device(path: &Path, kind: &str, stat: &rustix::fs::Stat) -> Value {
    json!({
        "path": path,
        "type": kind,
        "major": rustix::fs::major(stat.st_rdev),
        "minor": rustix::fs::minor(stat.st_rdev),
        "fileMode": stat.st_mode & 0o7777,
        "uid": stat.st_uid,
        "gid": stat.st_gid,
    })
}
