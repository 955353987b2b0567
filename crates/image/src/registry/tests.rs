//! Pulling: from a small server made here, over plain HTTP, with a password, and over TLS with our own CA; and from Debian's
//! docker-registry where that is installed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::samples::{Sample, tar_of};

/// A registry of one image, `team/app:1`, that counts what it gives and can be told to spoil it.
struct Server {
    manifest: Vec<u8>,
    blobs: HashMap<String, Vec<u8>>,
    password: Option<&'static str>,
    /// The password is good for a token only, which is good for the rest.
    by_token: bool,
    given: AtomicUsize,
    spoil_next: Mutex<Option<Spoil>>,
}

#[derive(Clone, Copy)]
enum Spoil {
    FlipBit,
    CutOff,
}

impl Server {
    fn new(sample: &Sample) -> Self {
        let (manifest, blobs) = sample.registry_form();
        let blobs = blobs.into_iter().map(|blob| (Digest::of(&blob).to_string(), blob)).collect();
        let given = AtomicUsize::new(0);
        Self {
            manifest,
            blobs,
            password: None,
            by_token: false,
            given,
            spoil_next: Mutex::new(None),
        }
    }

    async fn start(self: Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = self.clone();
                tokio::spawn(async move { server.answer(stream).await });
            }
        });
        address
    }

    /// Answers one request and closes.
    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut lines = BufReader::new(&mut stream).lines();
        let mut head = Vec::new();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.is_empty() {
                break;
            }
            head.push(line);
        }
        let (status, body, length) = self.response(&head);
        let host = header(&head, "host").unwrap_or_default();
        let challenge = match self.by_token {
            true => format!("Bearer realm=\"http://{host}/token\",service=\"s\""),
            false => "Basic realm=\"x\"".to_owned(),
        };
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nWWW-Authenticate: {challenge}\r\nConnection: close\r\n\r\n"
        );
        let sent = async {
            stream.write_all(text.as_bytes()).await?;
            stream.write_all(&body).await?;
            stream.shutdown().await
        };
        // A client that has heard enough may hang up.
        drop(sent.await);
    }

    fn response(&self, head: &[String]) -> (&'static str, Vec<u8>, usize) {
        let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("");
        if let Some(password) = self.password {
            let basic = base64::engine::general_purpose::STANDARD.encode(format!("me:{password}"));
            let is_for_token = path.starts_with("/token?");
            let wanted = match self.by_token && !is_for_token {
                true => "Bearer good".to_owned(),
                false => format!("Basic {basic}"),
            };
            if header(head, "authorization") != Some(&wanted) {
                return ("401 Unauthorized", Vec::new(), 0);
            }
            if is_for_token {
                let token = br#"{"token": "good"}"#.to_vec();
                return ("200 OK", token.clone(), token.len());
            }
        }
        let found = match path.strip_prefix("/v2/team/app/") {
            Some("manifests/1") => Some(self.manifest.clone()),
            Some(rest) => rest.strip_prefix("blobs/").and_then(|digest| {
                self.given.fetch_add(1, Ordering::Relaxed);
                self.blobs.get(digest).cloned()
            }),
            None => (path == "/v2/").then(Vec::new),
        };
        let Some(mut body) = found else { return ("404 Not Found", Vec::new(), 0) };
        let length = body.len();
        if path.contains("/blobs/") {
            match self.spoil_next.lock().unwrap().take() {
                Some(Spoil::FlipBit) => body[length / 2] ^= 1,
                Some(Spoil::CutOff) => body.truncate(length / 2),
                None => {}
            }
        }
        ("200 OK", body, length)
    }
}

fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    let mut fields = head.iter().filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

struct Fixture {
    temp: tempfile::TempDir,
    store: ImageStore,
}

fn fixture() -> Option<Fixture> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    // Refused if another test was first, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let temp = tempfile::tempdir().unwrap();
    let store = ImageStore::open(temp.path().join("store")).unwrap();
    Some(Fixture { temp, store })
}

fn app(address: SocketAddr) -> Reference {
    format!("{address}/team/app:1").parse().unwrap()
}

fn plain(address: SocketAddr) -> RegistryConfig {
    RegistryConfig { plain_http: vec![address.to_string()], ..RegistryConfig::default() }
}

#[tokio::test]
async fn a_pull_fetches_each_blob_once_and_only_what_is_missing() {
    let Some(fixture) = fixture() else { return };
    let sample = Sample::new(vec![tar_of(&[("a", b"1")]), tar_of(&[("b", b"2")])]);
    let server = Arc::new(Server::new(&sample));
    let address = server.clone().start().await;
    let (reference, config) = (app(address), plain(address));
    let pulls = (0..4).map(|_| fixture.store.pull(&reference, &config, Progress::none()));
    for image in futures::future::join_all(pulls).await {
        assert_eq!(image.unwrap().layers.len(), 2);
    }
    assert_eq!(server.given.load(Ordering::Relaxed), 3);
    fixture.store.remove(&reference, |_| true).await.unwrap();
    assert!(fixture.store.get(&reference).is_none());
    fixture.store.pull(&reference, &config, Progress::none()).await.unwrap();
    assert_eq!(server.given.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn what_is_damaged_or_cut_off_on_the_way_is_not_kept() {
    let Some(fixture) = fixture() else { return };
    for spoil in [Spoil::FlipBit, Spoil::CutOff] {
        let server = Arc::new(Server::new(&Sample::small(&"text ".repeat(3000))));
        *server.spoil_next.lock().unwrap() = Some(spoil);
        let address = server.clone().start().await;
        // The transfer is tried again by itself, or on the next pull; never is the damage accepted.
        let first = fixture.store.pull(&app(address), &plain(address), Progress::none()).await;
        let image = match first {
            Ok(image) => image,
            Err(_) => {
                fixture.store.pull(&app(address), &plain(address), Progress::none()).await.unwrap()
            }
        };
        assert!(server.given.load(Ordering::Relaxed) > 2, "it was fetched again");
        assert!(image.layers[0].join("f").metadata().unwrap().len() == 15_000);
        fixture.store.remove(&app(address), |_| false).await.unwrap();
    }
}

fn key(place: &str, username: &str, password: &str) -> Keychain {
    let mut keychain = Keychain::default();
    let (username, password) = (username.to_owned(), password.to_owned());
    keychain.add(place, Credentials { username, password });
    keychain
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let Some(fixture) = fixture() else { return };
    let mut server = Server::new(&Sample::small("x"));
    server.password = Some("secret");
    let address = Arc::new(server).start().await;
    let pull = async |text: &str, config: &RegistryConfig| {
        fixture.store.pull(&text.parse().unwrap(), config, Progress::none()).await
    };
    let mut config = plain(address);
    let app = format!("{address}/team/app:1");
    let refused = pull(&app, &config).await.unwrap_err();
    assert!(matches!(refused, ImageError::Denied { .. }), "{refused}");
    assert!(refused.to_string().contains("asked without credentials"), "{refused}");
    let host = address.to_string();
    config.keychain = key(&host, "me", "wrong");
    let refused = pull(&app, &config).await.unwrap_err();
    assert!(refused.is_refusal() && refused.to_string().contains("asked as \"me\""), "{refused}");
    // What is for a part of the registry is tried first, and what is for all of it after that.
    config.keychain.extend(key(&format!("{host}/team"), "other", "secret"));
    assert!(pull(&app, &config).await.unwrap_err().is_refusal());
    config.keychain = key(&format!("{host}/team"), "me", "wrong");
    config.keychain.extend(key(&format!("http://{host}"), "me", "secret"));
    pull(&app, &config).await.unwrap();
    assert!(!format!("{config:?}").contains("secret"));

    let plain = pull(&app, &RegistryConfig::default()).await.unwrap_err().to_string();
    assert!(plain.contains(&format!("--insecure-registry {address}")), "{plain}");
    let absent = pull(&format!("{address}/team/none:1"), &config).await.unwrap_err();
    assert!(matches!(absent, ImageError::NotFound(_)), "{absent}");
    let homeless = pull("app", &config).await.unwrap_err();
    assert!(matches!(homeless, ImageError::NoRegistry(_)), "{homeless}");
    config.default_registry = Some(format!("{address}/team"));
    pull("app:1", &config).await.unwrap();
    assert!(fixture.store.get(&"app:1".parse().unwrap()).is_some());
}

#[tokio::test]
async fn a_token_is_asked_for_with_the_credentials() {
    let Some(fixture) = fixture() else { return };
    let mut server = Server::new(&Sample::small("x"));
    server.password = Some("secret");
    server.by_token = true;
    let address = Arc::new(server).start().await;
    let pull = async |keychain: Keychain| {
        let config = RegistryConfig { keychain, ..plain(address) };
        fixture.store.pull(&app(address), &config, Progress::none()).await
    };
    let host = address.to_string();
    for stranger in [Keychain::default(), key(&host, "me", "wrong")] {
        let refused = pull(stranger).await.unwrap_err();
        assert!(matches!(refused, ImageError::Denied { .. }), "{refused}");
    }
    pull(key(&host, "me", "secret")).await.unwrap();
}

/// A port that was free a moment ago.
async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

struct Registry {
    child: Child,
    address: SocketAddr,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Registry {
    /// `None` where the package is not installed.
    async fn start(dir: &Path, tls: Option<(&Path, &Path)>) -> Option<Self> {
        let tls = tls.map_or_else(String::new, |(certificate, key)| {
            format!(
                "  tls:\n    certificate: {}\n    key: {}\n",
                certificate.display(),
                key.display()
            )
        });
        Self::start_with(dir, &tls).await
    }

    /// With these lines below `http:` at the end of its configuration.
    async fn start_with(dir: &Path, more: &str) -> Option<Self> {
        let binary = Path::new("/usr/bin/docker-registry");
        if !binary.exists() {
            lack("the package docker-registry is not installed");
            return None;
        }
        let address = free_port().await;
        let root = dir.join("registry");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{more}",
            root.display()
        );
        let path = dir.join("registry.yml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new(binary)
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut registry = Self { child, address };
        while TcpStream::connect(address).await.is_err() {
            assert!(registry.child.try_wait().unwrap().is_none(), "the registry did not start");
            tokio::task::yield_now().await;
        }
        Some(registry)
    }

    async fn request(&self, head: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let text = format!(
            "{head}\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn push(&self, sample: &Sample) {
        let (manifest, blobs) = sample.registry_form();
        for blob in blobs {
            let begun = self.request("POST /v2/team/app/blobs/uploads/ HTTP/1.1", b"").await;
            let location = begun
                .lines()
                .find_map(|line| line.strip_prefix("Location: "))
                .and_then(|url| url.split_once("/v2/"))
                .map(|(_, rest)| rest.trim().to_owned())
                .unwrap_or_else(|| panic!("no upload location in {begun}"));
            let digest = Digest::of(&blob);
            let head = format!(
                "PUT /v2/{location}&digest={digest} HTTP/1.1\r\nContent-Type: application/octet-stream"
            );
            let done = self.request(&head, &blob).await;
            assert!(done.starts_with("HTTP/1.1 201"), "{done}");
        }
        let head =
            format!("PUT /v2/team/app/manifests/1 HTTP/1.1\r\nContent-Type: {MANIFEST_TYPE}");
        let done = self.request(&head, &manifest).await;
        assert!(done.starts_with("HTTP/1.1 201"), "{done}");
    }
}

#[tokio::test]
async fn debians_registry_serves_us_over_plain_http_where_listed_only() {
    let Some(fixture) = fixture() else { return };
    let Some(registry) = Registry::start(fixture.temp.path(), None).await else { return };
    let layers = vec![tar_of(&[("d/", b""), ("d/gone", b"x")]), tar_of(&[("d/.wh.gone", b"")])];
    registry.push(&Sample::new(layers)).await;
    let reference = app(registry.address);
    let unlisted = RegistryConfig::default();
    assert!(fixture.store.pull(&reference, &unlisted, Progress::none()).await.is_err());
    let listed = plain(registry.address);
    let image = fixture.store.pull(&reference, &listed, Progress::none()).await.unwrap();
    assert_eq!(image.layers.len(), 2);
    let by_digest =
        format!("{}/team/app@{}", registry.address, image.digest).parse::<Reference>().unwrap();
    let again = fixture.store.pull(&by_digest, &listed, Progress::none()).await.unwrap();
    assert_eq!(again.digest, image.digest);
}

#[tokio::test]
async fn debians_registry_serves_us_over_tls_if_its_ca_is_trusted() {
    let Some(fixture) = fixture() else { return };
    let dir = fixture.temp.path();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let (certificate_path, key_path) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&certificate_path, &certificate).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    // Filled over plain HTTP first; then the same directory is served over TLS.
    let Some(registry) = Registry::start(dir, None).await else { return };
    registry.push(&Sample::small("over tls")).await;
    drop(registry);
    let tls = Some((certificate_path.as_path(), key_path.as_path()));
    let Some(registry) = Registry::start(dir, tls).await else { return };
    let reference = app(registry.address);
    let stranger = RegistryConfig::default();
    let refused = fixture.store.pull(&reference, &stranger, Progress::none()).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let trusting = RegistryConfig { ca_pem: vec![certificate.into_bytes()], ..stranger };
    fixture.store.pull(&reference, &trusting, Progress::none()).await.unwrap();
}

/// `me`, with the password `open sesame`, as bcrypt.
const HTPASSWD: &str = "me:$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n";

#[tokio::test]
async fn debians_registry_serves_those_who_have_its_password() {
    let Some(fixture) = fixture() else { return };
    let dir = fixture.temp.path();
    let Some(registry) = Registry::start(dir, None).await else { return };
    registry.push(&Sample::small("for some only")).await;
    drop(registry);
    let passwords = dir.join("htpasswd");
    std::fs::write(&passwords, HTPASSWD).unwrap();
    let auth = format!("auth:\n  htpasswd:\n    realm: here\n    path: {}\n", passwords.display());
    let Some(registry) = Registry::start_with(dir, &auth).await else { return };
    let pull = async |config: &str| {
        let keychain = Keychain::of_config_json(config.as_bytes()).unwrap();
        let config = RegistryConfig { keychain, ..plain(registry.address) };
        fixture.store.pull(&app(registry.address), &config, Progress::none()).await
    };
    let entry = |place: &str, password: &str| {
        format!(r#"{{"auths": {{"{place}": {{"username": "me", "password": "{password}"}}}}}}"#)
    };
    let place = format!("http://{}/team", registry.address);
    for stranger in ["{}", &entry(&place, "wrong"), &entry("other.example", "open sesame")] {
        let refused = pull(stranger).await.unwrap_err();
        assert!(matches!(refused, ImageError::Denied { .. }), "{refused}");
    }
    pull(&entry(&place, "open sesame")).await.unwrap();
}

/// Says on standard error, which the harness does not keep to itself, that something is not tested here. Where `CI` is
/// set everything must be installed.
fn lack(what: &str) {
    let is_set = |value: std::ffi::OsString| !value.is_empty() && value != "false";
    assert!(!std::env::var_os("CI").is_some_and(is_set), "{what}, and CI is to test everything");
    std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {what}\n").as_bytes())
        .unwrap();
}
