//! The image built into the binary: `pontoon.local/hello:latest` holds the running executable and little else.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hashing};
use crate::error::{ImageError, Result};
use crate::image::{BlobInfo, Image, ImportChanges};
use crate::import::config;
use crate::manifest::{MAX_CONFIG, Manifest};
use crate::reference::Reference;
use crate::store::{Expect, ImageStore, Inner, LayerInfo};

/// The registry part of the built-in image's name. There is no such registry, and no other node is asked for what is
/// below it.
pub const REGISTRY: &str = "pontoon.local";

/// The built-in image's name.
pub const HELLO: &str = "pontoon.local/hello:latest";

const REMEMBERED: &str = "builtin.json";
const PASSWD: &str = "root:x:0:0:root:/:/pontoon\nnobody:x:65534:65534:nobody:/:/pontoon\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
/// Readable and executable by all.
const WORLD_EXECUTABLE: u32 = 0o555;

/// Makes the built-in image from the executable, or finds it made; the same binary gives the same digest on every node.
/// The executable is hashed once, and again only if its size, time or inode changed.
pub async fn ensure(store: &ImageStore, exe: &Path) -> Result<Arc<Image>> {
    let exe = exe.to_owned();
    let known = store.get(&HELLO.parse()?);
    store.blocking(move |inner| make(inner, &exe, known)).await
}

/// The image of a name below [`REGISTRY`], made again if it was removed.
///
/// # Errors
/// When it is not the built-in image, and nobody gave this store another of that name.
pub async fn find(store: &ImageStore, exe: &Path, reference: &Reference) -> Result<Arc<Image>> {
    ensure(store, exe).await?;
    store.get(reference).ok_or_else(|| ImageError::NotBuiltIn(reference.clone()))
}

/// Which file was hashed, and what came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Hashed {
    file: FileIdentity,
    layer: BlobInfo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
}

fn make(inner: &Inner, exe: &Path, known: Option<Arc<Image>>) -> Result<Arc<Image>> {
    let mut binary = File::open(exe).map_err(ImageError::io("open", exe))?;
    let layer = layer_of(inner, &mut binary, exe)?;
    let chain = layer.digest;
    if let Some(known) = known
        && known.layers == [inner.files.layer_fs(&chain)]
        && inner.files.layer_info(&chain).is_some()
    {
        return Ok(known);
    }
    let reference: Reference = HELLO.parse()?;
    let mut session = inner.pins.session();
    session.pin(chain);
    let lock = inner.pins.lock_of(&chain);
    let _making = lock.blocking_lock();
    if inner.files.layer_info(&chain).is_none() {
        unpack(inner, &binary, exe, &layer)?;
    }
    let changes = ImportChanges {
        entrypoint: vec!["/pontoon".to_owned(), "hello".to_owned()],
        exposed_ports: vec!["8080/tcp".to_owned()],
        working_dir: Some("/".to_owned()),
        ..ImportChanges::default()
    };
    let config = config(&changes, &layer.digest)?;
    let config =
        inner.files.add_blob(&config[..], Expect::AtMost(MAX_CONFIG), &mut session, |_| {})?;
    let manifest = Manifest::build(&config, &[(layer, "application/vnd.oci.image.layer.v1.tar")]);
    inner.name(&reference, &manifest, &mut session)
}

/// The digest and size that the layer's tar has, or would have: it is never written.
fn layer_of(inner: &Inner, binary: &mut File, exe: &Path) -> Result<BlobInfo> {
    let failed = ImageError::io("read", exe);
    let found = match binary.metadata() {
        Ok(found) => found,
        Err(error) => return Err(failed(error)),
    };
    let file = FileIdentity {
        device: found.dev(),
        inode: found.ino(),
        size: found.len(),
        modified_s: found.mtime(),
        modified_ns: found.mtime_nsec(),
    };
    let remembered = fs::read(inner.files.file(REMEMBERED)).ok();
    if let Some(known) = remembered.and_then(|bytes| serde_json::from_slice::<Hashed>(&bytes).ok())
        && known.file == file
    {
        return Ok(known.layer);
    }
    let layer = hash(binary, file.size).map_err(failed)?;
    let bytes = serde_json::to_vec(&Hashed { file, layer })
        .map_err(|e| ImageError::malformed("builtin.json", e))?;
    inner.files.write_file(REMEMBERED, &bytes)?;
    Ok(layer)
}

fn hash(binary: &mut File, size: u64) -> io::Result<BlobInfo> {
    binary.rewind()?;
    let mut builder = tar::Builder::new(Hashing::new(io::sink()));
    let mut add = |path: &str, mode: u32, data: &mut dyn Read, size: u64| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(if path.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_mode(mode);
        header.set_size(size);
        builder.append_data(&mut header, path, data)
    };
    add("etc/", 0o755, &mut io::empty(), 0)?;
    add("etc/group", 0o644, &mut GROUP.as_bytes(), GROUP.len() as u64)?;
    add("etc/passwd", 0o644, &mut PASSWD.as_bytes(), PASSWD.len() as u64)?;
    add("pontoon", 0o755, &mut binary.take(size), size)?;
    add("tmp/", 0o1777, &mut io::empty(), 0)?;
    let (_, digest, size): (_, Digest, u64) = builder.into_inner()?.finish();
    Ok(BlobInfo { digest, size })
}

fn unpack(inner: &Inner, binary: &File, exe: &Path, layer: &BlobInfo) -> Result<()> {
    let made = inner.files.temporary();
    let root = made.path.join("fs");
    let fill = || -> io::Result<u64> {
        for (dir, mode) in [("", 0o755), ("etc", 0o755), ("tmp", 0o1777)] {
            fs::create_dir_all(root.join(dir))?;
            fs::set_permissions(root.join(dir), fs::Permissions::from_mode(mode))?;
        }
        for (name, text) in [("etc/group", GROUP), ("etc/passwd", PASSWD)] {
            fs::write(root.join(name), text)?;
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o644))?;
        }
        place(binary, &root.join("pontoon"))?;
        Ok(binary.metadata()?.len() + (PASSWD.len() + GROUP.len()) as u64)
    };
    let size = fill().map_err(ImageError::io("make the built-in image from", exe))?;
    inner.files.persist_layer(made, &layer.digest, LayerInfo { diff: layer.digest, size })
}

/// A hard link costs nothing; it must not change the file's mode, so a file that not everybody may run is copied.
fn place(binary: &File, target: &Path) -> io::Result<()> {
    if binary.metadata()?.mode() & WORLD_EXECUTABLE == WORLD_EXECUTABLE {
        let open = format!("/proc/self/fd/{}", binary.as_raw_fd());
        if rustix::fs::linkat(CWD, open, CWD, target, AtFlags::SYMLINK_FOLLOW).is_ok() {
            return Ok(());
        }
    }
    let mut from = binary;
    from.rewind()?;
    let mut to = File::create_new(target)?;
    io::copy(&mut from, &mut to)?;
    to.set_permissions(fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(dir: &Path) -> ImageStore {
        ImageStore::open(dir.join("store")).unwrap()
    }

    #[tokio::test]
    async fn the_same_binary_gives_the_same_image_however_it_got_there() {
        let temp = tempfile::tempdir().unwrap();
        let (linked, private) = (temp.path().join("a"), temp.path().join("b"));
        for (path, mode) in [(&linked, 0o755), (&private, 0o700)] {
            fs::write(path, "the program").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let store = open(temp.path()).await;
        let first = ensure(&store, &linked).await.unwrap();
        let placed = fs::metadata(first.layers[0].join("pontoon")).unwrap();
        assert_eq!(placed.ino(), fs::metadata(&linked).unwrap().ino(), "same filesystem: a link");
        assert_eq!(fs::read_to_string(first.layers[0].join("etc/passwd")).unwrap(), PASSWD);
        let settings = first.config.config().clone().unwrap();
        assert_eq!(settings.entrypoint().clone().unwrap(), ["/pontoon", "hello"]);
        assert_eq!(settings.exposed_ports().clone().unwrap(), ["8080/tcp"]);

        drop(store);
        fs::remove_dir_all(temp.path().join("store")).unwrap();
        let store = open(temp.path()).await;
        let second = ensure(&store, &private).await.unwrap();
        assert_eq!((second.digest, second.id), (first.digest, first.id));
        let placed = fs::metadata(second.layers[0].join("pontoon")).unwrap();
        assert_eq!(placed.mode() & 0o777, 0o755);
        assert_eq!(fs::metadata(&private).unwrap().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_new_binary_makes_a_new_image_and_the_old_layer_is_garbage() {
        let temp = tempfile::tempdir().unwrap();
        let exe = temp.path().join("exe");
        fs::write(&exe, "one").unwrap();
        let store = open(temp.path()).await;
        let first = ensure(&store, &exe).await.unwrap();
        assert_eq!(ensure(&store, &exe).await.unwrap().digest, first.digest);
        fs::remove_file(&exe).unwrap();
        fs::write(&exe, "another").unwrap();
        let second = ensure(&store, &exe).await.unwrap();
        assert_ne!(second.digest, first.digest);
        assert_eq!(fs::read_to_string(second.layers[0].join("pontoon")).unwrap(), "another");
        let kept = first.layers[0].clone();
        let removed = store.collect_garbage(move |layer| layer == kept).await.unwrap();
        assert_eq!((removed.layers, first.layers[0].exists()), (0, true), "in use");
        assert_eq!(store.collect_garbage(|_| false).await.unwrap().layers, 1);
        assert!(!first.layers[0].exists() && second.layers[0].exists());
        assert!(store.export_manifest(&HELLO.parse().unwrap()).await.is_err());
    }

    #[tokio::test]
    async fn it_is_there_again_when_it_is_asked_for() {
        let temp = tempfile::tempdir().unwrap();
        let exe = temp.path().join("exe");
        fs::write(&exe, "one").unwrap();
        let store = open(temp.path()).await;
        let hello = HELLO.parse().unwrap();
        let made = ensure(&store, &exe).await.unwrap();
        store.remove(&hello, |_| false).await.unwrap();
        assert!(!made.layers[0].exists() && store.get(&hello).is_none());
        assert_eq!(find(&store, &exe, &hello).await.unwrap().digest, made.digest);
        assert!(made.layers[0].join("pontoon").exists());
        let other = find(&store, &exe, &"pontoon.local/other".parse().unwrap()).await.unwrap_err();
        assert!(other.to_string().contains("only pontoon.local/hello:latest"), "{other}");
    }
}
