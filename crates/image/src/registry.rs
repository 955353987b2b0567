//! Pulling from registries over HTTPS, and over plain HTTP from those that are listed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as Remote};
use tokio_util::io::StreamReader;

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::image::{BlobInfo, Image};
use crate::keychain::{Credentials, Keychain};
use crate::manifest::{
    DOCKER_INDEX_TYPE, DOCKER_MANIFEST_TYPE, INDEX_TYPE, Index, MANIFEST_TYPE, MAX_MANIFEST,
    Manifest,
};
use crate::peer::{PARALLEL, finish, pin_all};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::ImageStore;

const ACCEPTED: &[&str] = &[MANIFEST_TYPE, INDEX_TYPE, DOCKER_MANIFEST_TYPE, DOCKER_INDEX_TYPE];
/// Credentials tried for one image.
const MOST_CREDENTIALS: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte for so long a transfer counts as broken.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A blob is tried so often; the pauses between double from the first.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What rustls says of a server that speaks no TLS.
const NOT_TLS: &str = "InvalidContentType";

/// How registries are reached. A registry is named by `host[:port]`, as in image names.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Registries spoken to over plain HTTP.
    pub plain_http: Vec<String>,
    /// Users and passwords.
    pub keychain: Keychain,
    /// PEM certificates trusted beside the system's.
    pub ca_pem: Vec<Vec<u8>>,
    /// `HOST[:PORT][/PATH]` for names that have no registry; `PATH` is put before names of a single part. Without it such
    /// names are not pulled.
    pub default_registry: Option<String>,
}

pub(crate) async fn pull(
    store: &ImageStore,
    reference: &Reference,
    config: &RegistryConfig,
    progress: &Progress,
) -> Result<Arc<Image>> {
    let (registry, repository) = locate(reference, config)?;
    let known = config.keychain.matching(&registry, &repository);
    let mut auths: Vec<RegistryAuth> =
        known.into_iter().take(MOST_CREDENTIALS).map(basic).collect();
    if auths.is_empty() {
        auths.push(RegistryAuth::Anonymous);
    }
    let mut refused = None;
    for auth in auths {
        match Pull::new(store, reference, config, progress, auth)?.run().await {
            Err(error) if error.is_refusal() => refused = Some(error),
            done => return done,
        }
    }
    Err(refused.expect("at least one attempt was made, and refused"))
}

fn basic(credentials: &Credentials) -> RegistryAuth {
    RegistryAuth::Basic(credentials.username.clone(), credentials.password.clone())
}

/// One image being pulled.
struct Pull<'a> {
    store: &'a ImageStore,
    reference: &'a Reference,
    progress: &'a Progress,
    client: Client,
    remote: Remote,
    auth: RegistryAuth,
}

impl<'a> Pull<'a> {
    fn new(
        store: &'a ImageStore,
        reference: &'a Reference,
        config: &RegistryConfig,
        progress: &'a Progress,
        auth: RegistryAuth,
    ) -> Result<Self> {
        let (registry, repository) = locate(reference, config)?;
        let remote = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => {
                Remote::with_digest(registry.clone(), repository, digest.to_string())
            }
            (None, tag) => {
                Remote::with_tag(registry.clone(), repository, tag.unwrap_or("latest").to_owned())
            }
        };
        let client =
            client(&registry, config, &auth).map_err(|error| explain(reference, &auth, &error))?;
        Ok(Self { store, reference, progress, client, remote, auth })
    }

    async fn run(&self) -> Result<Arc<Image>> {
        let bytes = self.manifest().await?;
        let manifest = Manifest::parse(&bytes)?;
        let mut session = self.store.inner().pins.session();
        pin_all(&mut session, &manifest);
        stream::iter(manifest.blobs().into_iter().map(|blob| self.blob(blob)))
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        finish(self.store, self.reference, bytes, session, self.progress).await
    }

    fn explain(&self, error: &OciDistributionError) -> ImageError {
        explain(self.reference, &self.auth, error)
    }

    /// The manifest for this machine.
    async fn manifest(&self) -> Result<Bytes> {
        let bytes = self.raw(&self.remote).await?;
        let Some(index) = Index::parse(&bytes)? else { return Ok(bytes) };
        let none = || ImageError::NoPlatform {
            reference: self.reference.clone(),
            available: index.platforms(),
        };
        let chosen = index.select().ok_or_else(none)?;
        let bytes = self.raw(&self.remote.clone_with_digest(chosen.digest.to_string())).await?;
        let actual = Digest::of(&bytes);
        if actual != chosen.digest {
            let what = "the manifest";
            return Err(ImageError::DigestMismatch { what, expected: chosen.digest, actual });
        }
        Ok(bytes)
    }

    async fn raw(&self, remote: &Remote) -> Result<Bytes> {
        let pulled = self.client.pull_manifest_raw(remote, &self.auth, ACCEPTED).await;
        let (bytes, _) = pulled.map_err(|error| self.explain(&error))?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ImageError::TooLarge { what: "a manifest", limit: MAX_MANIFEST });
        }
        Ok(bytes)
    }

    async fn blob(&self, blob: BlobInfo) -> Result<()> {
        let lock = self.store.inner().pins.lock_of(&blob.digest);
        let _fetching = lock.lock().await;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            if self.store.inner().files.has_blob(&blob.digest) {
                return Ok(());
            }
            match self.try_blob(&blob).await {
                Err(error) if attempt < ATTEMPTS && is_transient(&error) => {
                    tracing::warn!(blob = %blob.digest, %error, "a download broke off; trying again");
                }
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    async fn try_blob(&self, blob: &BlobInfo) -> Result<()> {
        let digest = blob.digest.to_string();
        let stream = self.client.pull_blob_stream(&self.remote, digest.as_str()).await;
        let stream = stream.map_err(|error| self.explain(&error))?;
        self.store.receive(blob, StreamReader::new(stream.stream), self.progress).await
    }
}

/// The registry and the path in it.
fn locate(reference: &Reference, config: &RegistryConfig) -> Result<(String, String)> {
    let repository = reference.repository();
    if let Some(registry) = reference.registry() {
        return Ok((registry.to_owned(), repository.to_owned()));
    }
    let default = config.default_registry.as_deref().filter(|default| !default.is_empty());
    let default = default.ok_or_else(|| ImageError::NoRegistry(reference.clone()))?;
    Ok(match default.trim_end_matches('/').split_once('/') {
        Some((host, path)) if !repository.contains('/') => {
            (host.to_owned(), format!("{path}/{repository}"))
        }
        Some((host, _)) => (host.to_owned(), repository.to_owned()),
        None => (default.trim_end_matches('/').to_owned(), repository.to_owned()),
    })
}

fn client(
    registry: &str,
    config: &RegistryConfig,
    auth: &RegistryAuth,
) -> std::result::Result<Client, OciDistributionError> {
    let plain = config.plain_http.iter().any(|listed| listed == registry);
    let certificate =
        |pem: &Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data: pem.clone() };
    let settings = |certificates_only: bool, unchecked: bool| {
        let certificates: Vec<_> = config.ca_pem.iter().map(certificate).collect();
        let (only, extra) =
            if certificates_only { (certificates, vec![]) } else { (vec![], certificates) };
        ClientConfig {
            protocol: ClientProtocol::HttpsExcept(config.plain_http.clone()),
            tls_certs_only: only,
            extra_root_certificates: extra,
            accept_invalid_certificates: unchecked,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("pontoon/", env!("CARGO_PKG_VERSION")),
            platform_resolver: None,
            ..ClientConfig::default()
        }
    };
    let usual = Client::try_from(settings(false, false));
    match usual {
        Ok(client) => Ok(client),
        // A bare server has no certificates of its own: then the configured ones must do.
        Err(_) if !config.ca_pem.is_empty() => Client::try_from(settings(true, false)),
        // Plain HTTP without a password needs none at all; what comes is checked by digest.
        Err(_) if plain && *auth == RegistryAuth::Anonymous => {
            Client::try_from(settings(false, true))
        }
        failed => failed,
    }
}

fn is_transient(error: &ImageError) -> bool {
    matches!(error, ImageError::Archive(_) | ImageError::Registry { .. })
}

/// Says what the registry said, and keeps "not there" and "not for you" apart from the rest.
fn explain(reference: &Reference, auth: &RegistryAuth, error: &OciDistributionError) -> ImageError {
    let reference = reference.clone();
    match answer(error) {
        Answer::NotFound => return ImageError::NotFound(reference),
        Answer::Denied => {
            let asked = match auth {
                RegistryAuth::Basic(user, _) => format!("asked as {user:?}"),
                _ => "asked without credentials".to_owned(),
            };
            return ImageError::Denied { reference, reason: format!("{error} ({asked})") };
        }
        Answer::Other => {}
    }
    // reqwest keeps the cause (refused, no such host, bad certificate) in the chain of sources.
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        source = cause.source();
    }
    if reason.contains(NOT_TLS) {
        let registry = reference.registry().unwrap_or("HOST[:PORT]");
        reason = format!(
            "{reason}; it seems to speak plain HTTP: to allow that, start the daemons with --insecure-registry {registry}"
        );
    }
    ImageError::Registry { reference, reason }
}

enum Answer {
    NotFound,
    Denied,
    Other,
}

fn answer(error: &OciDistributionError) -> Answer {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => Answer::NotFound,
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::ServerError { code: 401 | 403, .. } => Answer::Denied,
        OciDistributionError::RegistryError { envelope, .. } => {
            let any =
                |codes: &[OciErrorCode]| envelope.errors.iter().any(|e| codes.contains(&e.code));
            if any(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                Answer::Denied
            } else if any(&[
                OciErrorCode::ManifestUnknown,
                OciErrorCode::NameUnknown,
                OciErrorCode::NotFound,
            ]) {
                Answer::NotFound
            } else {
                Answer::Other
            }
        }
        _ => Answer::Other,
    }
}

#[cfg(test)]
mod tests;
