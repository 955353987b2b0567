//! The store from outside: loading, importing, fetching, removing, crashing.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Cursor};
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::samples::{Sample, gzip, tar_of};

struct Fixture {
    temp: tempfile::TempDir,
    store: ImageStore,
}

/// `None` without root, for owners cannot be set then.
fn fixture() -> Option<Fixture> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    let temp = tempfile::tempdir().unwrap();
    let store = ImageStore::open(temp.path().join("store")).unwrap();
    Some(Fixture { temp, store })
}

impl Fixture {
    fn reopen(self) -> Self {
        drop(self.store);
        let store = ImageStore::open(self.temp.path().join("store")).unwrap();
        Self { temp: self.temp, store }
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.temp.path().join("store").join(sub)
    }

    fn count(&self, sub: &str) -> usize {
        fs::read_dir(self.path(sub)).unwrap().count()
    }

    async fn load(&self, archive: Vec<u8>) -> Result<Vec<Reference>> {
        self.store.load(Cursor::new(archive), Progress::none()).await
    }
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn read(image: &Image, layer: usize, file: &str) -> String {
    fs::read_to_string(image.layers[layer].join(file)).unwrap()
}

#[tokio::test]
async fn a_docker_archive_is_loaded_in_any_compression_and_survives_a_restart() {
    let Some(mut fixture) = fixture() else { return };
    let shared = tar_of(&[("base", b"b")]);
    let sample = Sample::new(vec![shared.clone(), tar_of(&[("top", b"t")]), shared]);
    let plain = sample.docker_archive("team/app:1");
    let forms = [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap(), plain];
    for form in forms {
        assert_eq!(fixture.load(form).await.unwrap(), [name("team/app:1")]);
    }
    fixture = fixture.reopen();
    let image = fixture.store.get(&name("team/app:1")).unwrap();
    assert_eq!((read(&image, 0, "base"), read(&image, 1, "top")), ("b".into(), "t".into()));
    assert_eq!((image.layers.len(), image.size), (3, 3));
    let list = fixture.store.list();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].created.as_deref(), Some("2026-01-02T03:04:05Z"));
    // Two different layer blobs, a configuration and a manifest; nothing of the archive's own files stays.
    assert_eq!(fixture.count("blobs/sha256"), 4);
    assert_eq!(fixture.count("tmp"), 0);
}

#[tokio::test]
async fn an_oci_archive_is_loaded_for_this_platform() {
    let Some(fixture) = fixture() else { return };
    let annotated =
        r#","annotations":{"org.opencontainers.image.ref.name":"reg.example:5000/x:2"}"#;
    let archive = Sample::small("one").oci_archive(annotated);
    assert_eq!(fixture.load(archive).await.unwrap(), [name("reg.example:5000/x:2")]);
    let nameless = fixture.load(Sample::small("two").oci_archive("")).await.unwrap();
    assert!(nameless[0].to_string().starts_with("loaded:"), "{nameless:?}");
    assert_eq!(read(&fixture.store.get(&nameless[0]).unwrap(), 0, "f"), "two");
}

#[tokio::test]
async fn broken_archives_leave_nothing_behind() {
    let Some(fixture) = fixture() else { return };
    let good = Sample::small("x").docker_archive("a:1");
    let mut foreign = Sample::small("x");
    foreign.config = Sample::small("y").config;
    let mut flipped = Sample::small("some content").oci_archive("");
    let at = flipped.windows(4).position(|window| window == b"Cmd\"").unwrap();
    flipped[at] ^= 1;
    let cases = [
        ("empty", Vec::new()),
        ("no tar", b"hello, this is not a tar".repeat(100)),
        ("cut off", good[..good.len() / 2].to_vec()),
        ("a root filesystem", tar_of(&[("bin/sh", b"#")])),
        ("layers of another image", foreign.docker_archive("a:1")),
        ("a flipped bit", flipped),
        ("bad tag", Sample::small("x").docker_archive("../../etc")),
        ("cut gzip", gzip(&good)[..200].to_vec()),
    ];
    for (what, archive) in cases {
        assert!(fixture.load(archive).await.is_err(), "{what}");
        assert_eq!(fixture.store.list(), [], "{what}");
        for sub in ["blobs/sha256", "layers", "tmp"] {
            assert_eq!(fixture.count(sub), 0, "{what}: {sub}");
        }
    }
}

#[tokio::test]
async fn import_makes_an_image_with_the_changes_asked_for() {
    let Some(fixture) = fixture() else { return };
    let rootfs = tar_of(&[("bin/", b""), ("bin/app", b"#!")]);
    let changes = ImportChanges {
        entrypoint: vec!["/bin/app".into()],
        cmd: vec!["serve".into()],
        env: vec!["A=b=c".into()],
        working_dir: Some("/srv".into()),
        exposed_ports: vec!["80/tcp".into()],
        ..ImportChanges::default()
    };
    let reference = name("local/app");
    for form in [rootfs.clone(), gzip(&rootfs)] {
        let reader = Cursor::new(form);
        let image = fixture
            .store
            .import(reader, &reference, changes.clone(), Progress::none())
            .await
            .unwrap();
        let config = image.config.config().clone().unwrap();
        assert_eq!(config.entrypoint().clone().unwrap(), ["/bin/app"]);
        assert_eq!(config.cmd().clone().unwrap(), ["serve"]);
        assert_eq!(config.env().clone().unwrap(), ["A=b=c"]);
        assert_eq!(config.working_dir().as_deref(), Some("/srv"));
        assert_eq!(config.exposed_ports().clone().unwrap(), ["80/tcp"]);
        assert_eq!(read(&image, 0, "bin/app"), "#!");
    }
    let cut = rootfs[..rootfs.len() - 1024].to_vec();
    let refused = fixture
        .store
        .import(Cursor::new(cut), &reference, ImportChanges::default(), Progress::none())
        .await;
    assert!(matches!(refused, Err(ImageError::Archive(_))), "{refused:?}");
    for (archive, kind) in [
        (Sample::small("x").docker_archive("a:1"), "a docker-archive"),
        (tar_of(&[("oci-layout", b"{}"), ("blobs/sha256/x", b"")]), "an oci-archive"),
    ] {
        let none = ImportChanges::default();
        let import = fixture.store.import(Cursor::new(archive), &reference, none, Progress::none());
        let words = import.await.unwrap_err().to_string();
        assert!(words.contains(kind) && words.contains("pontoon image load"), "{words}");
    }
    let passwords = [b"root:x:0:0:root:/root:/bin/sh\n".repeat(40)].concat();
    let words = fixture.load(passwords).await.unwrap_err().to_string();
    assert!(words.contains("no tar archive") && !words.contains("root"), "{words}");
    let wrong = ImportChanges { env: vec!["=x".into()], ..ImportChanges::default() };
    let import = fixture.store.import(Cursor::new(rootfs), &reference, wrong, Progress::none());
    assert!(import.await.is_err());
}

#[tokio::test]
async fn removing_keeps_what_is_shared_and_what_is_in_use() {
    let Some(fixture) = fixture() else { return };
    let base = tar_of(&[("base", b"b")]);
    for (tag, content) in [("a:1", &b"1"[..]), ("b:1", b"2")] {
        let sample = Sample::new(vec![base.clone(), tar_of(&[("own", content)])]);
        fixture.load(sample.docker_archive(tag)).await.unwrap();
    }
    let (a, b) =
        (fixture.store.get(&name("a:1")).unwrap(), fixture.store.get(&name("b:1")).unwrap());
    assert_eq!(a.layers[0], b.layers[0], "the same base is unpacked once");
    fixture.store.tag(&name("a:1"), &name("a:2")).await.unwrap();
    let removed = fixture.store.remove(&name("a:1"), |_| false).await.unwrap();
    assert_eq!(removed, Removed::default(), "a:2 is the same image");
    let mounted = a.layers[1].clone();
    let removed = fixture.store.remove(&name("a:2"), move |layer| layer == mounted).await.unwrap();
    assert_eq!((removed.blobs, removed.layers), (3, 0));
    assert!(a.layers[1].exists(), "mounted");
    assert_eq!(fixture.store.collect_garbage(|_| false).await.unwrap().layers, 1);
    assert!(!a.layers[1].exists() && b.layers[0].exists() && b.layers[1].exists());
    let gone = fixture.store.remove(&name("a:2"), |_| false).await;
    assert!(matches!(gone, Err(ImageError::NotFound(_))));
}

#[tokio::test]
async fn what_a_crash_left_is_cleaned_up_and_only_whole_images_are_named() {
    let Some(fixture) = fixture() else { return };
    fixture.load(Sample::small("1").docker_archive("whole:1")).await.unwrap();
    fixture.load(Sample::small("2").docker_archive("broken:1")).await.unwrap();
    let broken = fixture.store.get(&name("broken:1")).unwrap();
    fs::remove_dir_all(broken.layers[0].parent().unwrap()).unwrap();
    fs::create_dir_all(fixture.path("tmp/7/fs/half/a/layer")).unwrap();
    fs::write(fixture.path("tmp/8"), "half a blob").unwrap();
    let fixture = fixture.reopen();
    assert_eq!(fixture.count("tmp"), 0);
    assert!(fixture.store.get(&name("broken:1")).is_none());
    assert!(fixture.store.get(&name("whole:1")).is_some());
    // Its blobs are still here, so loading it again only unpacks.
    fixture.load(Sample::small("2").docker_archive("broken:1")).await.unwrap();
    assert!(fixture.store.get(&name("broken:1")).is_some());
}

#[tokio::test]
async fn a_damaged_index_and_a_second_process_are_refused() {
    let Some(fixture) = fixture() else { return };
    let dir = fixture.path("");
    assert!(matches!(ImageStore::open(&dir), Err(ImageError::Locked(_))));
    drop(fixture.store);
    fs::write(dir.join("images.json"), "{\"version\":1,\"ima").unwrap();
    assert!(matches!(ImageStore::open(&dir), Err(ImageError::DamagedIndex { .. })));
    fs::write(dir.join("images.json"), "{\"version\":9,\"images\":{}}").unwrap();
    assert!(matches!(ImageStore::open(&dir), Err(ImageError::DamagedIndex { .. })));
}

#[tokio::test]
async fn a_blob_that_rotted_is_noticed_and_replaced() {
    let Some(fixture) = fixture() else { return };
    let sample = Sample::small(&"content ".repeat(500));
    let (manifest, blobs) = sample.registry_form();
    let source = Peer::new(manifest, &blobs);
    let reference = name("reg.example/x:1");
    let image = fixture.store.fetch(&reference, &source, Progress::none()).await.unwrap();
    let blob = fixture.path("blobs/sha256").join(Digest::of(&blobs[0]).hex());
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&blob, bytes).unwrap();
    fs::remove_dir_all(image.layers[0].parent().unwrap()).unwrap();
    let fixture = fixture.reopen();
    let first = fixture.store.fetch(&reference, &source, Progress::none()).await;
    assert!(matches!(first, Err(ImageError::DigestMismatch { .. })), "{first:?}");
    fixture.store.fetch(&reference, &source, Progress::none()).await.unwrap();
}

#[tokio::test]
async fn layers_are_bounded_when_unpacked() {
    let Some(fixture) = fixture() else { return };
    let dir = fixture.temp.path().join("bounded");
    let store = ImageStore::open_with(dir, Limits { bytes: 100_000, entries: 5 }).unwrap();
    let bomb = Sample::new(vec![tar_of(&[("zeros", &vec![0; 1 << 20])])]);
    let many: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    let files: Vec<(&str, &[u8])> = many.iter().map(|n| (n.as_str(), &b""[..])).collect();
    let crowd = Sample::new(vec![tar_of(&files)]);
    for sample in [bomb, crowd] {
        let (manifest, blobs) = sample.registry_form();
        let source = Peer::new(manifest, &blobs);
        let fetched = store.fetch(&name("x"), &source, Progress::none()).await;
        assert!(matches!(fetched, Err(ImageError::Unpack { .. })), "{fetched:?}");
    }
    let claim = BlobInfo { digest: Digest::of(b"huge"), size: u64::MAX };
    let added = store.add_blob(&claim, tokio::io::repeat(0)).await;
    assert!(matches!(added, Err(ImageError::TooLarge { .. })), "{added:?}");
}

/// A node that has one image.
struct Peer {
    manifest: Vec<u8>,
    blobs: HashMap<Digest, Vec<u8>>,
    given: AtomicUsize,
}

impl Peer {
    fn new(manifest: Vec<u8>, blobs: &[Vec<u8>]) -> Self {
        let blobs = blobs.iter().map(|blob| (Digest::of(blob), blob.clone())).collect();
        Self { manifest, blobs, given: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl BlobSource for Peer {
    async fn manifest(&self, _: &Reference) -> io::Result<Option<Bytes>> {
        Ok(Some(self.manifest.clone().into()))
    }

    async fn blob(&self, digest: &Digest) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        self.given.fetch_add(1, Ordering::Relaxed);
        let blob = self.blobs.get(digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(blob.clone())))
    }
}

#[tokio::test]
async fn concurrent_fetches_of_one_image_share_the_work() {
    let Some(fixture) = fixture() else { return };
    let sample = Sample::new((0..4u8).map(|n| tar_of(&[("f", &[n; 5000])])).collect());
    let (manifest, blobs) = sample.registry_form();
    let source = Peer::new(manifest, &blobs);
    let reference = name("reg.example/x:1");
    let fetches = (0..8).map(|_| fixture.store.fetch(&reference, &source, Progress::none()));
    for image in futures::future::join_all(fetches).await {
        assert_eq!(image.unwrap().layers.len(), 4);
    }
    assert_eq!(source.given.load(Ordering::Relaxed), blobs.len(), "each blob once");
}

#[tokio::test]
async fn a_lying_peer_is_refused_and_nothing_it_said_is_kept() {
    let Some(fixture) = fixture() else { return };
    let (manifest, blobs) = Sample::small("truth").registry_form();
    let lie = |change: fn(&mut Vec<u8>)| {
        let mut peer = Peer::new(manifest.clone(), &blobs);
        change(peer.blobs.get_mut(&Digest::of(&blobs[0])).unwrap());
        peer
    };
    let lies = [
        lie(|blob| blob[20] ^= 1),
        lie(|blob| blob.truncate(30)),
        lie(|blob| blob.extend([0; 100])),
        lie(Vec::clear),
    ];
    for peer in lies {
        let fetched = fixture.store.fetch(&name("x:1"), &peer, Progress::none()).await;
        assert!(fetched.is_err());
        assert!(!fixture.store.inner().files.has_blob(&Digest::of(&blobs[0])));
    }
    let pinned = format!("x@{}", Digest::of(b"another manifest"));
    let honest = Peer::new(manifest, &blobs);
    let fetched = fixture.store.fetch(&name(&pinned), &honest, Progress::none()).await;
    assert!(matches!(fetched, Err(ImageError::DigestMismatch { .. })));
    assert_eq!(fixture.store.list(), []);
}

#[tokio::test]
async fn an_image_goes_from_node_to_node_blob_by_blob() {
    let Some(from) = fixture() else { return };
    let Some(to) = fixture() else { return };
    from.load(Sample::small("x").docker_archive("a:1")).await.unwrap();
    let manifest = from.store.export_manifest(&name("a:1")).await.unwrap();
    let missing = to.store.missing_blobs(&manifest).unwrap();
    assert_eq!(missing.len(), 2);
    for blob in missing {
        let (file, size) = from.store.open_blob(&blob.digest).await.unwrap();
        assert_eq!(size, blob.size);
        to.store.add_blob(&blob, file).await.unwrap();
    }
    to.store.collect_garbage(|_| false).await.unwrap();
    assert_eq!(to.store.missing_blobs(&manifest).unwrap(), [], "kept until it is finished");
    let image = to.store.finish(&name("a:1"), &manifest).await.unwrap();
    let pinned = name(&format!("a@{}", image.digest));
    assert_eq!(to.store.get(&pinned).unwrap().digest, image.digest);
    assert_eq!(image.digest, from.store.get(&name("a:1")).unwrap().digest);
}
