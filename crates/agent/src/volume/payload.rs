//! Files that change all at once: a new directory beside the old one, and one symbolic link that is swapped, so that
//! a program that reads several files never sees half of a change. The layout is the kubelet's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use super::files::Files;

/// The link to the directory with the present files.
const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
const LONGEST_PATH: usize = 4096;

/// Makes the files of the volume at `root` be `files`; does nothing if they are already. Blocking.
pub(crate) fn write(root: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    for path in files.keys() {
        check(path)?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(root)?;
    own(root, group)?;
    let old = fs::read_link(root.join(DATA)).ok();
    if old.as_ref().is_some_and(|old| is_same(&root.join(old), files, group)) {
        return Ok(());
    }
    let name = fresh_name(root, old.as_deref())?;
    let directory = root.join(&name);
    write_all(&directory, files, group)?;
    swap(root, &name)?;
    show(root, files)?;
    if let Some(old) = old.filter(|old| is_one_of_ours(old)) {
        fs::remove_dir_all(root.join(old))?;
    }
    Ok(())
}

/// A path inside the volume: relative, never upwards, and not one of our own names.
fn check(path: &str) -> io::Result<()> {
    let mut components = Path::new(path).components();
    let plain = components.all(|c| matches!(c, Component::Normal(_)));
    let fits = plain && !path.is_empty() && path.len() <= LONGEST_PATH && !path.starts_with("..");
    if fits && !path.contains('\0') {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} is no path in a volume")))
}

fn is_one_of_ours(name: &Path) -> bool {
    name.components().count() == 1 && name.to_string_lossy().starts_with("..v")
}

fn fresh_name(root: &Path, old: Option<&Path>) -> io::Result<PathBuf> {
    // What a crash left half written has no link to it.
    for entry in fs::read_dir(root)? {
        let name = PathBuf::from(entry?.file_name());
        if is_one_of_ours(&name) && Some(name.as_path()) != old {
            fs::remove_dir_all(root.join(name))?;
        }
    }
    let number = old
        .and_then(|old| old.to_string_lossy().strip_prefix("..v")?.parse::<u64>().ok())
        .unwrap_or(0);
    Ok(PathBuf::from(format!("..v{}", number.wrapping_add(1))))
}

fn write_all(directory: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(directory)?;
    own(directory, group)?;
    for (path, file) in files {
        let target = directory.join(path);
        let parent = target.parent().unwrap_or(directory);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target)?;
        fs::write(&target, &file.data)?;
        chown(&target, None, group)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(shown_mode(file.mode, group)))?;
    }
    Ok(())
}

/// The owning group may read whatever the owner may.
fn shown_mode(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | ((mode & 0o500) >> 3) } else { mode }
}

fn own(directory: &Path, group: Option<u32>) -> io::Result<()> {
    chown(directory, None, group)
}

fn swap(root: &Path, name: &Path) -> io::Result<()> {
    let new = root.join(DATA_NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(name, &new)?;
    fs::rename(new, root.join(DATA))
}

/// Links for what is at the top of the volume, and no others.
fn show(root: &Path, files: &Files) -> io::Result<()> {
    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: BTreeSet<String> = files.keys().map(first).collect();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        let link = root.join(&name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(&name), link)?;
        }
    }
    Ok(())
}

fn is_same(directory: &Path, files: &Files, group: Option<u32>) -> bool {
    let same = |(path, file): (&String, &super::files::File)| {
        let path = directory.join(path);
        let mode = fs::metadata(&path).map(|meta| meta.permissions().mode() & 0o777);
        mode.is_ok_and(|mode| mode == shown_mode(file.mode, group))
            && fs::read(&path).is_ok_and(|data| data == file.data)
    };
    files.iter().all(same) && count(directory).is_ok_and(|count| count == files.len())
}

fn count(directory: &Path) -> io::Result<usize> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::super::files::File;
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |data: &str| File { data: data.as_bytes().to_vec(), mode: 0o640 };
        list.iter().map(|(path, data)| ((*path).to_owned(), file(data))).collect()
    }

    fn shown(root: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with(".."))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_appear_change_and_go_together() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("v");
        write(&root, &files(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!(shown(&root), ["a", "sub"]);
        assert_eq!(fs::read_to_string(root.join("sub/b")).unwrap(), "2");
        let mode = fs::metadata(root.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        write(&root, &files(&[("a", "3"), ("c", "4")]), None).unwrap();
        assert_eq!(shown(&root), ["a", "c"]);
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "3");
        let versions = fs::read_dir(&root)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("..v"));
        assert_eq!(versions.count(), 1, "the old version is gone");
    }

    #[test]
    fn nothing_changes_when_nothing_changed() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files(&[("a", "1")]), None).unwrap();
        let before = fs::read_link(dir.path().join(DATA)).unwrap();
        write(dir.path(), &files(&[("a", "1")]), None).unwrap();
        assert_eq!(fs::read_link(dir.path().join(DATA)).unwrap(), before);
    }

    #[test]
    fn an_open_directory_keeps_its_version() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &files(&[("a", "1")]), None).unwrap();
        let open = fs::File::open(dir.path().join("a")).unwrap();
        write(dir.path(), &files(&[("a", "2")]), None).unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "1");
    }

    #[test]
    fn no_path_leaves_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x", "..data", "", "a/./../b", "a\0b"] {
            let refused = write(&dir.path().join("v"), &files(&[(path, "x")]), None);
            assert_eq!(refused.map_err(|e| e.kind()), Err(io::ErrorKind::InvalidInput), "{path:?}");
        }
        assert!(!dir.path().join("x").exists());
    }

    #[test]
    fn leavings_of_a_crash_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("..v1")).unwrap();
        fs::write(dir.path().join("..v1/half"), "x").unwrap();
        symlink("..v9", dir.path().join(DATA_NEW)).unwrap();
        write(dir.path(), &files(&[("a", "1")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "1");
        assert!(!dir.path().join("..v1/half").exists());
    }
}
