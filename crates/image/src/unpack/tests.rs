//! What unpacking makes of good, odd and malicious archives.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use tar::{Builder, EntryType, Header};

use super::*;

struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn add(mut self, kind: EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        // Written directly: the builder would refuse the malicious ones.
        let name = path.as_bytes();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_size(data.len() as u64);
        header.set_mtime(1_000_000);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.add(EntryType::Regular, path, "", data.as_bytes())
    }

    fn dir(self, path: &str) -> Self {
        self.add(EntryType::Directory, path, "", b"")
    }

    fn unpack(self, root: &Path, lower: &[PathBuf]) -> Result<u64, UnpackError> {
        fs::create_dir(root).unwrap();
        let bytes = self.0.into_inner().unwrap();
        unpack(&mut TarReader::new(&bytes[..], 1000), root, lower)
    }
}

fn root_or_skip() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

#[test]
fn owner_mode_time_xattr_links_and_devices_are_kept() {
    if !root_or_skip() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("fs");
    let mut layer = Layer::new().dir("./").dir("bin").file("bin/a", "hello");
    let mut header = Header::new_ustar();
    header.set_mode(0o4751);
    header.set_uid(12);
    header.set_gid(34);
    header.set_size(3);
    header.set_mtime(77);
    layer
        .0
        .append_pax_extensions([
            ("SCHILY.xattr.user.k", &b"v"[..]),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .unwrap();
    layer.0.append_data(&mut header, "bin/suid", &b"abc"[..]).unwrap();
    let layer = layer
        .add(EntryType::Link, "bin/b", "bin/a", b"")
        .add(EntryType::Symlink, "link", "/etc/passwd", b"")
        .add(EntryType::Fifo, "pipe", "", b"");
    assert_eq!(layer.unpack(&root, &[]).unwrap(), 8);

    let suid = fs::metadata(root.join("bin/suid")).unwrap();
    assert_eq!((suid.uid(), suid.gid(), suid.mode() & 0o7777, suid.mtime()), (12, 34, 0o4751, 77));
    let mut value = [0; 8];
    let size = rustix::fs::getxattr(root.join("bin/suid"), "user.k", &mut value).unwrap();
    assert_eq!(&value[..size], b"v");
    assert!(
        rustix::fs::getxattr(root.join("bin/suid"), "trusted.overlay.opaque", &mut value).is_err()
    );
    let (a, b) =
        (fs::metadata(root.join("bin/a")).unwrap(), fs::metadata(root.join("bin/b")).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(fs::metadata(root.join("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(root.join("bin")).unwrap().mtime(), 1_000_000);
}

#[test]
fn whiteouts_and_opaque_directories_take_overlayfs_form() {
    if !root_or_skip() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (low, top) = (temp.path().join("low"), temp.path().join("top"));
    Layer::new()
        .dir("d")
        .file("d/gone", "x")
        .dir("o")
        .file("o/old", "x")
        .unpack(&low, &[])
        .unwrap();
    Layer::new()
        .file("d/.wh.gone", "")
        .file("o/new", "n")
        .file("o/.wh..wh..opq", "")
        .file(".wh.was-a-file", "")
        .dir("was-a-file")
        .file(".wh..wh.plnk", "")
        .unpack(&top, &[low])
        .unwrap();
    let gone = fs::symlink_metadata(top.join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0; 1];
    for opaque in ["o", "was-a-file"] {
        rustix::fs::getxattr(top.join(opaque), "trusted.overlay.opaque", &mut value).unwrap();
        assert_eq!(&value, b"y", "{opaque}");
    }
    assert!(!top.join(".wh..wh.plnk").exists());
    assert!(top.join("o/new").exists());
}

#[test]
fn directories_a_layer_does_not_name_are_like_those_below() {
    if !root_or_skip() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (low, top) = (temp.path().join("low"), temp.path().join("top"));
    Layer::new().dir("tmp").unpack(&low, &[]).unwrap();
    fs::set_permissions(low.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(&low, Some(5), Some(6)).unwrap();
    Layer::new().file("tmp/new/f", "").unpack(&top, &[low]).unwrap();
    assert_eq!(fs::metadata(top.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(fs::metadata(top.join("tmp/new")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(&top).unwrap().uid(), 5);
}

#[test]
fn a_later_entry_takes_the_place_of_an_earlier_one() {
    if !root_or_skip() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("fs");
    Layer::new()
        .dir("a")
        .file("a/b", "1")
        .file("a", "file now")
        .file("c", "1")
        .dir("c")
        .file("c/d", "2")
        .add(EntryType::Symlink, "e", "c", b"")
        .file("e", "not through the link")
        .unpack(&root, &[])
        .unwrap();
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "file now");
    assert_eq!(fs::read_to_string(root.join("c/d")).unwrap(), "2");
    assert!(fs::symlink_metadata(root.join("e")).unwrap().is_file());
}

/// Whatever the archive, nothing outside its directory may change, and these may not even unpack.
#[test]
fn archives_that_reach_outside_are_refused() {
    if !root_or_skip() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let out = outside.to_str().unwrap();
    let link = |target: &str| Layer::new().add(EntryType::Symlink, "l", target, b"");
    let cases = vec![
        ("dot-dot", Layer::new().file("../outside/x", "")),
        ("inner dot-dot", Layer::new().dir("a").file("a/../../outside/x", "")),
        ("through an absolute link", link(out).file("l/x", "")),
        ("through a relative link", link("../outside").file("l/x", "")),
        (
            "through a link to a link",
            link("m").add(EntryType::Symlink, "m", out, b"").file("l/x", ""),
        ),
        ("directory through a link", link(out).dir("l/x")),
        ("whiteout through a link", link(out).file("l/.wh.secret", "")),
        ("opaque through a link", link(out).file("l/.wh..wh..opq", "")),
        ("hard link out", Layer::new().add(EntryType::Link, "h", "../outside/secret", b"")),
        (
            "hard link by absolute name",
            Layer::new().add(EntryType::Link, "h", &format!("{out}/secret"), b""),
        ),
        ("hard link through a link", link(out).add(EntryType::Link, "h", "l/secret", b"")),
        ("whiteout of dot-dot", Layer::new().file(".wh...", "")),
        ("whiteout of nothing", Layer::new().file(".wh.", "")),
        ("file as root", Layer::new().file("./", "").add(EntryType::Symlink, ".", out, b"")),
        ("file below a file", Layer::new().file("f", "").file("f/x", "")),
    ];
    for (index, (what, layer)) in cases.into_iter().enumerate() {
        let result = layer.unpack(&temp.path().join(format!("fs{index}")), &[]);
        assert!(result.is_err(), "{what}: {result:?}");
    }
    let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["secret"]);
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
}

#[test]
fn replacing_a_link_does_not_write_through_it() {
    if !root_or_skip() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let victim = temp.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let target = victim.to_str().unwrap();
    Layer::new()
        .add(EntryType::Symlink, "f", target, b"")
        .file("f", "mine")
        .unpack(&temp.path().join("fs"), &[])
        .unwrap();
    assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

fn listing(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The kernel's own overlayfs must see what the layers mean.
#[test]
fn the_kernel_shows_the_layers_as_they_are_meant() {
    if !root_or_skip() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let (low, middle, top, merged) = (path("low"), path("middle"), path("top"), path("merged"));
    let files = ["d/gone", "d/kept", "o/old", "whole/old", "f", "later/old"];
    let base = files.iter().fold(Layer::new(), |layer, file| layer.file(file, "low"));
    base.unpack(&low, &[]).unwrap();
    Layer::new()
        .file("d/.wh.gone", "")
        .file("o/.wh..wh..opq", "")
        .file("o/new", "middle")
        .file(".wh.whole", "")
        .file("whole/new", "middle")
        .add(EntryType::Symlink, "f", "d", b"")
        .unpack(&middle, std::slice::from_ref(&low))
        .unwrap();
    Layer::new().file("top/only", "").unpack(&top, &[low.clone(), middle.clone()]).unwrap();
    fs::create_dir(&merged).unwrap();
    let layers = format!("lowerdir={}:{}:{}", top.display(), middle.display(), low.display());
    let layers = std::ffi::CString::new(layers).unwrap();
    let flags = rustix::mount::MountFlags::RDONLY;
    if let Err(error) = rustix::mount::mount("overlay", &merged, "overlay", flags, &*layers) {
        println!("skipped: overlayfs cannot be mounted here: {error}");
        return;
    }
    let _mounted = Mounted(&merged);
    assert_eq!(listing(&merged), ["d", "f", "later", "o", "top", "whole"]);
    assert_eq!(listing(&merged.join("d")), ["kept"]);
    assert_eq!(listing(&merged.join("o")), ["new"]);
    assert_eq!(listing(&merged.join("whole")), ["new"]);
    assert_eq!(fs::read_link(merged.join("f")).unwrap(), Path::new("d"));
}

#[test]
fn an_opaque_root_hides_all_below() {
    if !root_or_skip() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let (low, top) = (temp.path().join("low"), temp.path().join("top"));
    Layer::new().file("a", "").dir("b").file("b/old", "").unpack(&low, &[]).unwrap();
    Layer::new().file(".wh..wh..opq", "").file("b/new", "").unpack(&top, &[low]).unwrap();
    assert!(fs::symlink_metadata(top.join("a")).unwrap().file_type().is_char_device());
    let mut value = [0; 1];
    rustix::fs::getxattr(top.join("b"), "trusted.overlay.opaque", &mut value).unwrap();
    assert_eq!(listing(&top.join("b")), ["new"]);
}
