//! What a name asks for: one of ours, reduced to the zone's key, an address to name, or somebody else's.

use std::net::Ipv4Addr;

use hickory_proto::rr::Name;

/// A name after the cluster's suffixes were taken off.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question<'a> {
    /// A name in the cluster's domain with the key under which the zone may have it; must be answered here.
    Ours(&'a str),
    /// `service.namespace` and its longer forms without domain: ours if the zone has the key, otherwise not.
    Perhaps(&'a str),
    /// `a-b-c-d.namespace.pod.<domain>`.
    Pod { address: Ipv4Addr, namespace: &'a str },
    /// The domain itself, or a name that only has names below it.
    Apex,
    /// In the cluster's domain, or of a shape nobody serves: does not exist.
    Nowhere,
    /// `d.c.b.a.in-addr.arpa`.
    Reverse(Ipv4Addr),
    /// For the upstream servers.
    Foreign,
}

/// The name in lower case, its labels joined by dots without the last one, or `None` for a name with bytes that
/// no name of ours has.
pub(super) fn lower_case(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        for &byte in label {
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                return None;
            }
            text.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    Some(text)
}

/// Sorts `name` (from `lower_case`) against the cluster's `domain` (in lower case, no dot at its end).
pub(super) fn classify<'a>(name: &'a str, domain: &str) -> Question<'a> {
    if let Some(address) = name.strip_suffix(".in-addr.arpa") {
        return reverse(address);
    }
    match name.strip_suffix(domain) {
        Some("") => Question::Apex,
        Some(below) if below.ends_with('.') => in_domain(&below[..below.len() - 1]),
        _ => without_domain(name),
    }
}

fn in_domain(name: &str) -> Question<'_> {
    if matches!(name, "svc" | "pod") {
        return Question::Apex;
    }
    if let Some(key) = name.strip_suffix(".svc") {
        return Question::Ours(key);
    }
    match name.strip_suffix(".pod").map(|pod| pod.split_once('.')) {
        None => Question::Nowhere,
        Some(None) => Question::Apex,
        Some(Some((address, namespace))) => pod(address, namespace),
    }
}

/// Names without dots are never asked upstream: they came here through a search list and mean nothing to others.
fn without_domain(name: &str) -> Question<'_> {
    match name.strip_suffix(".svc").unwrap_or(name) {
        "" => Question::Foreign,
        key if !key.contains('.') => Question::Nowhere,
        key if key.len() < name.len() => Question::Ours(key),
        key => Question::Perhaps(key),
    }
}

fn pod<'a>(address: &str, namespace: &'a str) -> Question<'a> {
    match address.replace('-', ".").parse::<Ipv4Addr>() {
        Ok(address) if !namespace.contains('.') => Question::Pod { address, namespace },
        _ => Question::Nowhere,
    }
}

fn reverse(labels: &str) -> Question<'_> {
    match labels.parse::<Ipv4Addr>() {
        Ok(turned) => {
            let [d, c, b, a] = turned.octets();
            Question::Reverse(Ipv4Addr::new(a, b, c, d))
        }
        Err(_) => Question::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lower(name: &str) -> String {
        lower_case(&Name::from_ascii(name).unwrap()).unwrap()
    }

    macro_rules! ask {
        ($name:literal) => {
            classify(&lower($name), "cluster.local")
        };
    }

    #[test]
    fn long_and_short_forms_have_one_key() {
        assert_eq!(ask!("Web.Default.svc.cluster.LOCAL."), Question::Ours("web.default"));
        assert_eq!(ask!("web.default.svc."), Question::Ours("web.default"));
        assert_eq!(ask!("web.default."), Question::Perhaps("web.default"));
        assert_eq!(ask!("tasks.web.default."), Question::Perhaps("tasks.web.default"));
    }

    #[test]
    fn what_is_in_the_domain_is_never_foreign() {
        assert_eq!(ask!("cluster.local."), Question::Apex);
        assert_eq!(ask!("svc.cluster.local."), Question::Apex);
        assert_eq!(ask!("nonsense.cluster.local."), Question::Nowhere);
        assert_eq!(ask!("a.b.c.pod.cluster.local."), Question::Nowhere);
    }

    #[test]
    fn names_without_a_dot_stay_here_and_others_go_upstream() {
        assert_eq!(ask!("notcluster.local."), Question::Perhaps("notcluster.local"));
        assert_eq!(ask!("web."), Question::Nowhere);
        assert_eq!(ask!("."), Question::Foreign);
        assert_eq!(ask!("example.org."), Question::Perhaps("example.org"));
        assert_eq!(lower_case(&Name::from_ascii("a\\.b.org.").unwrap()), None);
    }

    #[test]
    fn pods_and_addresses() {
        let address = Ipv4Addr::new(10, 244, 1, 5);
        let pod = Question::Pod { address, namespace: "default" };
        assert_eq!(ask!("10-244-1-5.default.pod.cluster.local."), pod);
        assert_eq!(ask!("10-244-1.default.pod.cluster.local."), Question::Nowhere);
        assert_eq!(ask!("5.1.244.10.in-addr.arpa."), Question::Reverse(address));
        assert_eq!(ask!("244.10.in-addr.arpa."), Question::Foreign);
    }
}
