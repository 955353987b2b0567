//! From a request's path to what it means. The table of resources decides; nothing is registered.

use pontoon_model::resource::{self, Resource};

use crate::review::{self, Review};

/// One object or collection, or a part of an object, that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub resource: &'static Resource,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

impl Target {
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn subresource(&self) -> &str {
        self.subresource.as_deref().unwrap_or_default()
    }
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/healthz`, `/livez`: whether this process answers.
    Alive,
    /// `/readyz`: whether the state can be read.
    Ready,
    Version,
    /// `/api`: the versions of the core group.
    CoreVersions,
    /// `/apis`: the other groups.
    Groups,
    Group(String),
    GroupVersion {
        group: String,
        version: String,
    },
    OpenApiV2,
    OpenApiIndex,
    OpenApiDocument {
        group: String,
        version: String,
    },
    Objects(Target),
    Review {
        review: Review,
        namespace: Option<String>,
    },
}

/// The route of a path as it came over the wire; `None` when it leads nowhere. Segments are decoded once, and
/// one that decodes to something with a slash, a NUL or a dot name is refused rather than interpreted.
pub(crate) fn parse(path: &str) -> Option<Route> {
    let segments = path
        .strip_prefix('/')?
        .trim_end_matches('/')
        .split('/')
        .map(decode)
        .collect::<Option<Vec<String>>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["healthz" | "livez"] => Some(Route::Alive),
        ["readyz"] => Some(Route::Ready),
        ["version"] => Some(Route::Version),
        ["openapi", rest @ ..] => openapi(rest),
        ["api"] => Some(Route::CoreVersions),
        ["api", version, rest @ ..] => in_group("", version, rest),
        ["apis"] => Some(Route::Groups),
        ["apis", group] => is_group(group).then(|| Route::Group((*group).to_owned())),
        ["apis", group, version, rest @ ..] if !group.is_empty() => in_group(group, version, rest),
        _ => None,
    }
}

fn openapi(rest: &[&str]) -> Option<Route> {
    let document = |group: &str, version: &str| {
        is_group_version(group, version).then(|| Route::OpenApiDocument {
            group: group.to_owned(),
            version: version.to_owned(),
        })
    };
    match rest {
        ["v2"] => Some(Route::OpenApiV2),
        ["v3"] => Some(Route::OpenApiIndex),
        ["v3", "api", version] => document("", version),
        ["v3", "apis", group, version] => document(group, version),
        _ => None,
    }
}

fn in_group(group: &str, version: &str, rest: &[&str]) -> Option<Route> {
    if !is_group_version(group, version) {
        return None;
    }
    match rest {
        [] => Some(Route::GroupVersion { group: group.to_owned(), version: version.to_owned() }),
        // A namespace itself, or a part of it; anything else below it is a resource in it.
        ["namespaces", name] => target(group, None, "namespaces", Some(name), None),
        ["namespaces", name, part] if is_part_of_namespace(group, part) => {
            target(group, None, "namespaces", Some(name), Some(part))
        }
        ["namespaces", namespace, plural, rest @ ..] => {
            in_scope(group, Some(namespace), plural, rest)
        }
        [plural, rest @ ..] => in_scope(group, None, plural, rest),
    }
}

fn is_part_of_namespace(group: &str, part: &str) -> bool {
    group.is_empty() && resource::NAMESPACES.subresource(part).is_some()
}

fn in_scope(group: &str, namespace: Option<&str>, plural: &str, rest: &[&str]) -> Option<Route> {
    if let Some(review) = review::find(group, plural) {
        let fits = rest.is_empty() && review.namespaced == namespace.is_some();
        return fits
            .then(|| Route::Review { review: *review, namespace: namespace.map(str::to_owned) });
    }
    match rest {
        [] => target(group, namespace, plural, None, None),
        [name] => target(group, namespace, plural, Some(name), None),
        [name, part] => target(group, namespace, plural, Some(name), Some(part)),
        _ => None,
    }
}

/// Refuses a path whose scope is not the resource's: an object of the cluster reached through a namespace
/// would be judged by the rights in that namespace.
fn target(
    group: &str,
    namespace: Option<&str>,
    plural: &str,
    name: Option<&str>,
    part: Option<&str>,
) -> Option<Route> {
    let resource = resource::find(group, plural)?;
    let of_all_namespaces = namespace.is_none() && name.is_none();
    let scoped = namespace.is_some() == resource.namespaced || of_all_namespaces;
    let empty = [namespace, name, part].into_iter().flatten().any(str::is_empty);
    if !scoped || empty {
        return None;
    }
    Some(Route::Objects(Target {
        resource,
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        subresource: part.map(str::to_owned),
    }))
}

pub(crate) fn is_group(group: &str) -> bool {
    !group.is_empty()
        && (resource::ALL.iter().any(|r| r.group == group)
            || review::ALL.iter().any(|r| r.group == group))
}

pub(crate) fn is_group_version(group: &str, version: &str) -> bool {
    resource::ALL.iter().any(|r| r.group == group && r.version == version)
        || review::ALL.iter().any(|r| r.group == group && r.version == version)
}

fn decode(segment: &str) -> Option<String> {
    let decoded = percent_decode(segment, false)?;
    let evil = decoded.contains(['/', '\0', '\\']) || decoded == "." || decoded == "..";
    (!evil).then_some(decoded)
}

/// Decodes `%41` (and `+` in a query); `None` when an escape is broken or the result is not UTF-8.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Encodes a query value: everything but letters, digits and `-._~`.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(path: &str) -> Option<[String; 4]> {
        let Route::Objects(target) = parse(path)? else { return None };
        let text = |part: &str| part.to_owned();
        let namespace = target.namespace().unwrap_or_default();
        let names = [namespace, target.name(), target.subresource()].map(text);
        let [namespace, name, part] = names;
        Some([target.resource.qualified(), namespace, name, part])
    }

    fn check(path: &str, wanted: [&str; 4]) {
        assert_eq!(objects(path), Some(wanted.map(str::to_owned)), "{path}");
    }

    #[test]
    fn paths_of_objects() {
        check("/api/v1/pods", ["pods", "", "", ""]);
        check("/api/v1/namespaces/a/pods", ["pods", "a", "", ""]);
        check("/api/v1/namespaces/a/pods/b/", ["pods", "a", "b", ""]);
        check("/api/v1/namespaces/a/pods/b/log", ["pods", "a", "b", "log"]);
        check("/api/v1/namespaces", ["namespaces", "", "", ""]);
        check("/api/v1/namespaces/a", ["namespaces", "", "a", ""]);
        check("/api/v1/namespaces/a/status", ["namespaces", "", "a", "status"]);
        check("/api/v1/nodes/n%2D1", ["nodes", "", "n-1", ""]);
        let scale = "/apis/apps/v1/namespaces/a/deployments/b/scale";
        check(scale, ["deployments.apps", "a", "b", "scale"]);
    }

    #[test]
    fn a_scope_that_is_not_the_resources_leads_nowhere() {
        for path in [
            "/api/v1/namespaces/a/nodes",
            "/api/v1/namespaces/a/nodes/n",
            "/api/v1/namespaces/a/namespaces/b",
            "/api/v1/pods/b",
            "/api/v1/pods/b/log",
            "/apis/apps/v1/deployments/b/scale",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    #[test]
    fn crooked_paths_lead_nowhere() {
        for path in [
            "",
            "/",
            "//api/v1/pods",
            "/api/v1/namespaces/%2e%2e/pods",
            "/api/v1/namespaces/../pods",
            "/api/v1/namespaces/a%2fpods",
            "/api/v1/namespaces/a/pods/b%2flog",
            "/api/v1/namespaces/a/pods/%00",
            "/api/v1/namespaces/a/pods/%",
            "/api/v1/namespaces/a/pods/%zz",
            "/api/v1/namespaces/a/pods/%ff",
            "/api/v1/namespaces//pods",
            "/api/v1/namespaces/a/pods/b/log/c",
            "/api/v2/pods",
            "/apis/apps/v1beta1/deployments",
            "/apis//v1/pods",
            "/apis/nosuch",
            "/openapi/v3/apis/apps/v9",
            "/api/v1/nosuch",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    #[test]
    fn reviews_have_their_scope() {
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        assert!(matches!(parse(path), Some(Route::Review { namespace: None, .. })));
        let path = "/apis/authorization.k8s.io/v1/namespaces/a/selfsubjectaccessreviews";
        assert_eq!(parse(path), None);
    }

    proptest::proptest! {
        #[test]
        fn encoding_is_undone_by_decoding(text in "\\PC*") {
            proptest::prop_assert_eq!(percent_decode(&percent_encode(&text), true), Some(text));
        }

        #[test]
        fn any_path_is_parsed_without_panic(path in "[/a-z%0-9.]{0,60}") {
            parse(&path);
        }
    }
}
