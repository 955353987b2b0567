//! Who gets an image that is here already.

use std::sync::Mutex;

use pontoon_image::{Credentials, ImportChanges, Progress};

use super::*;

/// A source that has nothing, and says why.
struct Refusing(fn(Reference) -> ImageError, Mutex<Vec<Keychain>>);

#[async_trait]
impl ImageSource for Refusing {
    async fn fetch(
        &self,
        reference: &Reference,
        _: bool,
        keychain: &Keychain,
    ) -> Result<Arc<Image>, ImageError> {
        self.1.lock().unwrap().push(keychain.clone());
        Err((self.0)(reference.clone()))
    }
}

fn denied(reference: Reference) -> ImageError {
    ImageError::Denied { reference, reason: "no".to_owned() }
}

fn unreachable(reference: Reference) -> ImageError {
    ImageError::Registry { reference, reason: "no route".to_owned() }
}

const NAME: &str = "r.example/app:1";

/// A node that has one image, and a source that fails like this.
async fn node(fails: fn(Reference) -> ImageError) -> Option<(NodeImages, tempfile::TempDir)> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path().join("images")).unwrap();
    // The end of a tar file: no entry at all.
    let tar = std::io::Cursor::new(vec![0; 1024]);
    let changes = ImportChanges::default();
    store.import(tar, &NAME.parse().unwrap(), changes, Progress::none()).await.unwrap();
    let source = Arc::new(Refusing(fails, Mutex::default()));
    Some((NodeImages { store, source }, dir))
}

#[tokio::test]
async fn always_means_that_the_registry_says_yes_to_this_pod() {
    let Some((images, _dir)) = node(denied).await else { return };
    let nobody = Keychain::default();
    let refused = images.ensure(NAME, PullPolicy::Always, &nobody).await.unwrap_err();
    assert_eq!(refused.reason, "ErrImagePull");
    assert!(refused.message.contains("denies"), "{refused}");
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        let here = images.ensure(NAME, policy, &nobody).await.unwrap();
        assert!(!here.fetched && here.stale.is_none(), "as in Kubernetes");
    }
}

#[tokio::test]
async fn a_registry_that_cannot_be_reached_has_not_said_no() {
    let Some((images, _dir)) = node(unreachable).await else { return };
    let here = images.ensure(NAME, PullPolicy::Always, &Keychain::default()).await.unwrap();
    assert!(here.stale.is_some_and(|why| why.contains("no route")));
}

#[tokio::test]
async fn the_source_is_shown_the_pods_credentials() {
    let Some((mut images, _dir)) = node(denied).await else { return };
    let source = Arc::new(Refusing(denied, Mutex::default()));
    images.source = source.clone();
    let mut keychain = Keychain::default();
    keychain.add("r.example", Credentials { username: "u".into(), password: "p".into() });
    images.ensure("r.example/other:1", PullPolicy::IfNotPresent, &keychain).await.unwrap_err();
    assert_eq!(*source.1.lock().unwrap(), [keychain]);
}
