//! Image names: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, read Docker's way, except that a name without a registry stays
//! local: it is found among loaded images, and pulled only where a default registry is configured.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A checked image name. Its text is canonical: with neither tag nor digest given, the tag is `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: Option<Box<str>>,
    repository: Box<str>,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image name `{name}`: {reason}")]
pub struct ReferenceError {
    name: String,
    reason: &'static str,
}

impl Reference {
    /// The registry's `host[:port]`, if the name has one.
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// The path within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; absent only where a digest was given without one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, if the name pins it.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository: the name without tag and digest.
    pub fn name(&self) -> String {
        match &self.registry {
            Some(registry) => format!("{registry}/{}", self.repository),
            None => self.repository.to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason| ReferenceError { name: text.chars().take(300).collect(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| wrong("what follows `@` is no digest"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(Box::from(tag))),
            _ => (rest, None),
        };
        if name.is_empty() {
            return Err(wrong("the name is empty"));
        }
        if name.len() > MAX_NAME {
            return Err(wrong("the name is longer than 255 characters"));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(
                "the tag must be up to 128 of A-Z a-z 0-9 _ . - and start with none of . -",
            ));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if is_registry(host) => (Some(Box::from(host)), path),
            _ => (None, name),
        };
        if registry.as_deref().is_some_and(|host| !is_host(host)) {
            return Err(wrong("the registry is no HOST or HOST:PORT"));
        }
        if !repository.split('/').all(is_component) {
            return Err(wrong(
                "each part of the path must be a-z 0-9, parts of it joined by `.`, `_`, `__` or `-`",
            ));
        }
        let tag = if tag.is_none() && digest.is_none() { Some(Box::from("latest")) } else { tag };
        Ok(Self { registry, repository: repository.into(), tag, digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

/// Docker's rule: the first part is a registry if it could not be a user's name.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':', '['])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_ok = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_ok = match inner {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    port_ok && host_ok
}

fn is_tag(tag: &str) -> bool {
    !tag.is_empty()
        && tag.len() <= MAX_TAG
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_in_words =
        bytes.first().is_some_and(|b| word(*b)) && bytes.last().is_some_and(|b| word(*b));
    ends_in_words
        && part
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        text: &str,
        registry: Option<&str>,
        repository: &str,
        tag: Option<&str>,
        canonical: &str,
    ) {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.registry(), registry, "{text}");
        assert_eq!(reference.repository(), repository, "{text}");
        assert_eq!(reference.tag(), tag, "{text}");
        assert_eq!(reference.to_string(), canonical);
        assert_eq!(canonical.parse::<Reference>().unwrap(), reference);
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        check("busybox", None, "busybox", Some("latest"), "busybox:latest");
        check("team/app:v1.2", None, "team/app", Some("v1.2"), "team/app:v1.2");
        check(
            "pontoon.local/hello",
            Some("pontoon.local"),
            "hello",
            Some("latest"),
            "pontoon.local/hello:latest",
        );
        check("localhost/x", Some("localhost"), "x", Some("latest"), "localhost/x:latest");
        check(
            "10.0.0.1:5000/a/b",
            Some("10.0.0.1:5000"),
            "a/b",
            Some("latest"),
            "10.0.0.1:5000/a/b:latest",
        );
        check("[::1]:5000/a:t", Some("[::1]:5000"), "a", Some("t"), "[::1]:5000/a:t");
        let digest = Digest::of(b"m");
        let pinned = format!("reg.example:5000/a/b__c:1@{digest}");
        check(&pinned, Some("reg.example:5000"), "a/b__c", Some("1"), &pinned);
        let bare = format!("a@{digest}");
        check(&bare, None, "a", None, &bare);
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in [
            "",
            ":",
            "@",
            "a:",
            "a@sha256:12",
            "UPPER",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a/../b",
            "a b",
            "a:b c",
            "a:-x",
            "-a",
            "a___b",
            "a.-b",
            "reg.example:99999/a",
            "reg..example/a",
            "a\0b",
            "é",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was accepted");
        }
        assert!("a".repeat(256).parse::<Reference>().is_err());
    }
}
