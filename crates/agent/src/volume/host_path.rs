//! Paths of the node given to a pod, checked or made by their type.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::VolumeError;
use crate::container::ConfigError;

/// The path of a hostPath volume, made or found to be of its type.
pub(crate) fn ensure(volume: &str, source: &HostPathVolumeSource) -> Result<PathBuf, VolumeError> {
    let path = PathBuf::from(&source.path);
    let upwards = path.components().any(|c| c == std::path::Component::ParentDir);
    if !path.is_absolute() || upwards {
        let source = ConfigError::Invalid { what: "hostPath", text: source.path.clone() };
        return Err(VolumeError::Config { volume: volume.to_owned(), source });
    }
    let kind = source.type_.as_deref().unwrap_or_default();
    let failed = |action| {
        let path = path.clone();
        move |source| VolumeError::File { volume: volume.to_owned(), action, path, source }
    };
    let wrong = |wanted| {
        Err(VolumeError::HostPath { volume: volume.to_owned(), path: path.clone(), wanted })
    };
    match kind {
        "DirectoryOrCreate" => {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&path)
                .map_err(failed("make"))?;
        }
        "FileOrCreate" => {
            let made = fs::OpenOptions::new().append(true).create(true).mode(0o644).open(&path);
            made.map_err(failed("make"))?;
        }
        // The runtime needs something to mount.
        "" => make_directory_if_missing(&path).map_err(failed("make"))?,
        _ => {}
    }
    let found = fs::metadata(&path).map_err(failed("find"))?.file_type();
    match kind {
        "Directory" | "DirectoryOrCreate" if !found.is_dir() => wrong("a directory"),
        "File" | "FileOrCreate" if !found.is_file() => wrong("a file"),
        "Socket" if !found.is_socket() => wrong("a socket file"),
        "CharDevice" if !found.is_char_device() => wrong("a character device"),
        "BlockDevice" if !found.is_block_device() => wrong("a block device"),
        "" | "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket"
        | "CharDevice" | "BlockDevice" => Ok(path),
        _ => Err(VolumeError::Config {
            volume: volume.to_owned(),
            source: ConfigError::Invalid { what: "hostPath type", text: kind.to_owned() },
        }),
    }
}

fn make_directory_if_missing(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(path: &Path, kind: &str) -> bool {
        let source = HostPathVolumeSource {
            path: path.to_string_lossy().into_owned(),
            type_: Some(kind.to_owned()),
        };
        ensure("v", &source).is_ok()
    }

    #[test]
    fn types_are_checked_and_made() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("f"), dir.path().join("d"));
        assert!(!ask(&folder, "Directory") && ask(&folder, "DirectoryOrCreate"));
        assert!(ask(&folder, "Directory") && !ask(&folder, "File"));
        assert!(!ask(&file, "File") && ask(&file, "FileOrCreate") && ask(&file, "File"));
        assert!(!ask(&file, "Socket") && !ask(&file, "Nonsense"));
        assert!(ask(Path::new("/dev/null"), "CharDevice"));
    }

    #[test]
    fn only_plain_absolute_paths() {
        assert!(!ask(Path::new("relative"), "") && !ask(Path::new("/tmp/../etc"), ""));
    }
}
