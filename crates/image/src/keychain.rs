//! Users and passwords for registries, as Docker keeps them: `~/.docker/config.json` and its older form `.dockercfg`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

/// Docker's own registry goes by several names.
const DOCKER_HUB: &[&str] = &["docker.io", "index.docker.io", "registry-1.docker.io"];

/// A registry's user and password; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password or access token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Credentials by where they are good: `HOST[:PORT][/PATH]`, the most particular first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keychain {
    keys: Vec<(Place, Credentials)>,
}

/// Why a text holds no credentials. It tells nothing of what the text holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeychainError {
    /// It is not of the form.
    #[error("it is no JSON of the form {form} (line {line}, column {column})")]
    Form {
        /// What was expected.
        form: &'static str,
        /// Where it is something else.
        line: usize,
        /// Where in that line.
        column: usize,
    },
    /// A registry's `auth` is not what it must be.
    #[error("`auth` of {0:?} is not the base64 of USER:PASSWORD")]
    Auth(String),
    /// A registry has a token of a kind that is not exchanged here.
    #[error(
        "{0:?} has an identity token or registry token and no password; tokens of these kinds are not supported"
    )]
    Token(String),
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Keychain {
    /// What a `config.json` of Docker holds.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn of_config_json(json: &[u8]) -> Result<Self, KeychainError> {
        let form = "{\"auths\": {\"REGISTRY\": {\"auth\": …}}}";
        let config: ConfigJson = serde_json::from_slice(json).map_err(|e| malformed(form, &e))?;
        Self::of_entries(config.auths.unwrap_or_default())
    }

    /// What a `.dockercfg` of older Dockers holds.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn of_dockercfg(json: &[u8]) -> Result<Self, KeychainError> {
        let form = "{\"REGISTRY\": {\"auth\": …}}";
        Self::of_entries(serde_json::from_slice(json).map_err(|e| malformed(form, &e))?)
    }

    fn of_entries(entries: BTreeMap<String, Entry>) -> Result<Self, KeychainError> {
        let mut keychain = Self::default();
        for (registry, entry) in entries {
            if let Some(credentials) = entry.credentials(&registry)? {
                keychain.add(&registry, credentials);
            }
        }
        Ok(keychain)
    }

    /// Adds credentials for `[SCHEME://]HOST[:PORT][/PATH]`; a part of a host's name may have `*` in it.
    pub fn add(&mut self, registry: &str, credentials: Credentials) {
        self.keys.push((Place::of(registry), credentials));
        self.sort();
    }

    /// Adds everything from another keychain, behind what is here for the same place.
    pub fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.sort();
    }

    fn sort(&mut self) {
        self.keys.sort_by_key(|(place, _)| std::cmp::Reverse((place.path.len(), place.host.len())));
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The credentials that are good for a repository of a registry, the most particular first.
    pub(crate) fn matching(&self, registry: &str, repository: &str) -> Vec<&Credentials> {
        let good = self.keys.iter().filter(|(place, _)| place.covers(registry, repository));
        good.map(|(_, credentials)| credentials).collect()
    }
}

impl Entry {
    /// `None` where it holds nothing, as when a credential helper of that machine holds it.
    fn credentials(self, registry: &str) -> Result<Option<Credentials>, KeychainError> {
        if let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) {
            let wrong = || KeychainError::Auth(registry.to_owned());
            let bytes =
                STANDARD.decode(auth.trim()).or_else(|_| STANDARD_NO_PAD.decode(auth.trim()));
            let text = String::from_utf8(bytes.map_err(|_| wrong())?).map_err(|_| wrong())?;
            let (username, password) = text.split_once(':').ok_or_else(wrong)?;
            // Old Dockers padded what they encoded.
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Some(Credentials { username: username.to_owned(), password }));
        }
        match (self.username, self.password) {
            (Some(username), Some(password)) if !username.is_empty() => {
                Ok(Some(Credentials { username, password }))
            }
            _ if self.identitytoken.or(self.registrytoken).is_some_and(|t| !t.is_empty()) => {
                Err(KeychainError::Token(registry.to_owned()))
            }
            _ => Ok(None),
        }
    }
}

/// serde's own words may quote what it read, which may be a password.
fn malformed(form: &'static str, error: &serde_json::Error) -> KeychainError {
    KeychainError::Form { form, line: error.line(), column: error.column() }
}

/// Where credentials are good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// `host[:port]`, lower case; its labels may hold `*`.
    host: String,
    /// Without slashes at its ends; empty for the whole registry.
    path: String,
}

impl Place {
    fn of(text: &str) -> Self {
        let text = text.trim();
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        // `https://index.docker.io/v1/`: the version of the registry's API, no part of a name.
        let path = match path.split_once('/').unwrap_or((path, "")) {
            ("v1" | "v2", rest) => rest,
            _ => path,
        };
        Self { host: canonical(host), path: path.to_owned() }
    }

    fn covers(&self, registry: &str, repository: &str) -> bool {
        let below = match repository.strip_prefix(&self.path) {
            Some(rest) => self.path.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        below && host_fits(&self.host, &canonical(registry))
    }
}

fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if DOCKER_HUB.contains(&host.as_str()) { DOCKER_HUB[0].to_owned() } else { host }
}

/// Label by label: a `*` stands for no dot, so that `*.example` is not good for `a.b.example`.
fn host_fits(pattern: &str, host: &str) -> bool {
    let (pattern, host): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), host.split('.').collect());
    pattern.len() == host.len() && pattern.iter().zip(&host).all(|(p, h)| label_fits(p, h))
}

/// Leftmost pieces first, never back: linear, whatever stars somebody wrote.
fn label_fits(pattern: &str, label: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == label };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inner = label.strip_prefix(head).and_then(|label| label.strip_suffix(tail));
    let Some(mut inner) = inner else { return false };
    for piece in middle.split('*') {
        let Some((_, after)) = inner.split_once(piece) else { return false };
        inner = after;
    }
    true
}

#[cfg(test)]
mod tests;
