//! A pod's volumes: made before its sandbox, refreshed while it runs, removed with it.

pub(crate) mod files;
pub(crate) mod host_path;
pub(crate) mod payload;
pub(crate) mod sandbox_mounts;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Volume as ApiVolume};
use pontoon_container::{Mount, MountKind};
use pontoon_model::quantity::bytes;
use thiserror::Error;

use crate::container::environment::Variables;
use crate::container::expand::expand;
use crate::container::{ConfigError, Surroundings};
use crate::pod::spec::{is_plain, spec};
use files::files;
use sandbox_mounts::SubPath;

/// Why a volume is not there; quoted in a `FailedMount` event.
#[derive(Debug, Error)]
pub(crate) enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Config { volume: String, source: ConfigError },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : cannot {action} {path}: {source}", path = path.display())]
    File { volume: String, action: &'static str, path: PathBuf, source: io::Error },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : hostPath type check failed: {path} is not {wanted}", path = path.display())]
    HostPath { volume: String, path: PathBuf, wanted: &'static str },
}

/// Where a pod's things are: what must survive a reboot, and what must not (secrets are in memory if the
/// run directory is).
#[derive(Clone, Debug)]
pub(crate) struct PodDirs {
    pub data: PathBuf,
    pub run: PathBuf,
}

impl PodDirs {
    /// The directories of the pod with this uid, which is plain text.
    pub(crate) fn new(data_dir: &Path, run_dir: &Path, uid: &str) -> Self {
        Self { data: data_dir.join("pods").join(uid), run: run_dir.join("pods").join(uid) }
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.data.join("volumes").join(name)
    }

    pub(crate) fn payload(&self, name: &str) -> PathBuf {
        self.run.join("volumes").join(name)
    }

    pub(crate) fn sub_path(&self, container: &str, index: usize) -> PathBuf {
        self.run.join("subpaths").join(container).join(index.to_string())
    }

    /// The log of one run of a container.
    pub(crate) fn log(&self, container: &str, restarts: u32) -> PathBuf {
        self.data.join("logs").join(container).join(format!("{restarts}.log"))
    }

    pub(crate) fn termination_message(&self, container: &str) -> PathBuf {
        self.data.join("termination").join(container)
    }
}

/// A volume that is ready, or will be once its memory is mounted in the sandbox.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Volume {
    pub path: PathBuf,
    /// Memory of at most so many bytes (`Some(None)`: half of the machine's) is to be mounted on it.
    pub memory: Option<Option<u64>>,
}

/// Makes, or makes anew, the volumes of a pod. Blocking.
pub(crate) fn prepare(
    around: &Surroundings<'_>,
    dirs: &PodDirs,
) -> Result<BTreeMap<String, Volume>, VolumeError> {
    let mut volumes = BTreeMap::new();
    for volume in spec(around.pod).volumes.iter().flatten() {
        volumes.insert(volume.name.clone(), one(around, dirs, volume)?);
    }
    Ok(volumes)
}

fn one(
    around: &Surroundings<'_>,
    dirs: &PodDirs,
    volume: &ApiVolume,
) -> Result<Volume, VolumeError> {
    let name = volume.name.as_str();
    let config = |source| VolumeError::Config { volume: name.to_owned(), source };
    if !is_plain(name) {
        return Err(config(ConfigError::Invalid { what: "volume name", text: name.to_owned() }));
    }
    if let Some(empty) = &volume.empty_dir {
        let memory = match empty.medium.as_deref() {
            None | Some("") => None,
            Some("Memory") => {
                let limit = empty.size_limit.as_ref().and_then(|limit| bytes(&limit.0).ok());
                Some(limit.and_then(|limit| u64::try_from(limit).ok()).filter(|&size| size > 0))
            }
            Some(_) => return Err(config(ConfigError::Unsupported("this medium of an emptyDir"))),
        };
        let path = if memory.is_some() { dirs.payload(name) } else { dirs.volume(name) };
        make_empty(name, &path, group(around))?;
        return Ok(Volume { path, memory });
    }
    if let Some(host) = &volume.host_path {
        let path = host_path::ensure(name, host)?;
        return Ok(Volume { path, memory: None });
    }
    let files = files(around, volume).map_err(config)?;
    let path = dirs.payload(name);
    payload::write(&path, &files, group(around)).map_err(|source| VolumeError::File {
        volume: name.to_owned(),
        action: "write",
        path: path.clone(),
        source,
    })?;
    Ok(Volume { path, memory: None })
}

/// The group that owns the pod's volumes, if it asks for one.
fn group(around: &Surroundings<'_>) -> Option<u32> {
    let context = spec(around.pod).security_context.as_ref()?;
    context.fs_group.and_then(|group| u32::try_from(group).ok())
}

/// Makes an empty directory. One that is there already is left as its containers have it.
fn make_empty(name: &str, path: &Path, group: Option<u32>) -> Result<(), VolumeError> {
    if path.is_dir() {
        return Ok(());
    }
    // It has its name once it is complete.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&new).and_then(|()| {
        std::os::unix::fs::chown(&new, None, group)?;
        // Everybody may write, as in Kubernetes; with an owning group what is made below has it too.
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&new, path)
    });
    made.map_err(|source| VolumeError::File {
        volume: name.to_owned(),
        action: "make",
        path: path.to_owned(),
        source,
    })
}

/// What a container mounts of the pod's volumes, and the sub-paths that have to be bound in the sandbox before.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ContainerMounts {
    pub mounts: Vec<Mount>,
    pub sub_paths: Vec<SubPath>,
}

/// The mounts of `container`.
pub(crate) fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, Volume>,
    variables: &Variables,
    dirs: &PodDirs,
) -> Result<ContainerMounts, ConfigError> {
    let mut out = ContainerMounts::default();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        if mount.mount_propagation.as_deref().is_some_and(|kind| kind != "None") {
            return Err(ConfigError::Unsupported("mountPropagation other than None"));
        }
        if mount.recursive_read_only.as_deref() == Some("Enabled") {
            return Err(ConfigError::Unsupported("recursiveReadOnly Enabled"));
        }
        let volume = volumes
            .get(&mount.name)
            .ok_or_else(|| ConfigError::NoObject { kind: "volume", name: mount.name.clone() })?;
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let sub_path = given(&mount.sub_path).or_else(|| {
            given(&mount.sub_path_expr).map(|text| expand(&text, |name| variables.get(name)))
        });
        let source = match sub_path {
            None => volume.path.clone(),
            Some(path) => {
                let target = dirs.sub_path(&container.name, index);
                let bound = SubPath::new(&volume.path, &path, &target)
                    .ok_or_else(|| ConfigError::Invalid { what: "subPath", text: path.clone() })?;
                out.sub_paths.push(bound);
                target
            }
        };
        out.mounts.push(Mount {
            target: mount.mount_path.clone(),
            kind: MountKind::Bind { source },
            read_only: mount.read_only.unwrap_or(false),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
