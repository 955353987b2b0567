//! What a name asks for, and the names that answers have in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

/// The domain that is answered for, and the only datacenter in it.
#[derive(Debug)]
pub(super) struct Zone {
    apex: Name,
    datacenter: String,
    /// The apex as a text, without a dot at its end.
    domain: String,
}

/// What a name asks for; texts are in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Node(String),
    /// The instances of a service, perhaps of those with a tag.
    Service {
        name: String,
        tag: Option<String>,
    },
    /// A prepared query, by its name or its id.
    Query(String),
    /// The address that is in the name.
    Address(IpAddr),
    /// The name of an address.
    Reverse(IpAddr),
    /// The domain itself, or a name that exists because of the names below it.
    Between,
    /// In the domain, of a form that nobody has.
    Nowhere,
    /// Not in the domain.
    Foreign,
}

impl Zone {
    /// None if one of these can be in no name.
    pub(super) fn new(domain: &str, datacenter: &str) -> Option<Zone> {
        let domain = domain.trim_matches('.').to_lowercase();
        let datacenter = datacenter.to_lowercase();
        let apex = absolute(&domain)?;
        absolute(&format!("{datacenter}.{domain}"))?;
        Some(Zone { apex, datacenter, domain })
    }

    pub(super) fn apex(&self) -> &Name {
        &self.apex
    }

    /// A name in the domain, if these can be labels of one.
    pub(super) fn below(&self, labels: &str) -> Option<Name> {
        absolute(&format!("{labels}.{}", self.domain))
    }

    /// The name of a node, a service or an address in the datacenter.
    pub(super) fn full(&self, name: &str, category: &str) -> Option<Name> {
        self.below(&format!("{name}.{category}.{}", self.datacenter))
    }

    /// The name that has this address in it.
    pub(super) fn of_address(&self, address: IpAddr) -> Option<Name> {
        let digits = match address {
            IpAddr::V4(address) => format!("{:08x}", u32::from(address)),
            IpAddr::V6(address) => format!("{:032x}", u128::from(address)),
        };
        self.full(&digits, "addr")
    }

    pub(super) fn asked(&self, name: &Name) -> Asked {
        let text = |label: &[u8]| Some(std::str::from_utf8(label).ok()?.to_lowercase());
        let labels: Option<Vec<String>> = name.iter().map(text).collect();
        if !self.apex.zone_of(name) {
            return labels.map_or(Asked::Foreign, |labels| reverse(&labels));
        }
        let Some(labels) = labels else { return Asked::Nowhere };
        let count = labels.len().saturating_sub(self.apex.iter().count());
        self.inside(&labels[..count])
    }

    fn inside(&self, labels: &[String]) -> Asked {
        let is_category = |label: &str| matches!(label, "node" | "service" | "query" | "addr");
        let (above, category) = match labels {
            [] => return Asked::Between,
            [above @ .., category] if is_category(category) => (above, category),
            [above @ .., category, datacenter]
                if is_category(category) && *datacenter == self.datacenter =>
            {
                (above, category)
            }
            [datacenter] if *datacenter == self.datacenter => return Asked::Between,
            _ => return Asked::Nowhere,
        };
        match (category.as_str(), above) {
            (_, []) => Asked::Between,
            ("node", _) => Asked::Node(above.join(".")),
            ("query", _) => Asked::Query(above.join(".")),
            ("service", [tags @ .., name]) => service(tags, name),
            ("addr", [digits]) => address(digits).map_or(Asked::Nowhere, Asked::Address),
            _ => Asked::Nowhere,
        }
    }
}

/// `tag.name`, where a tag may have dots, or RFC 2782's `_name._tag`, where `tcp` is every instance.
fn service(tags: &[String], name: &str) -> Asked {
    if let [service] = tags
        && let (Some(service), Some(tag)) = (service.strip_prefix('_'), name.strip_prefix('_'))
    {
        let tag = (tag != "tcp").then(|| tag.to_owned());
        return Asked::Service { name: service.to_owned(), tag };
    }
    let tag = (!tags.is_empty()).then(|| tags.join("."));
    Asked::Service { name: name.to_owned(), tag }
}

fn address(digits: &str) -> Option<IpAddr> {
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match digits.len() {
        8 => Some(Ipv4Addr::from(u32::from_str_radix(digits, 16).ok()?).into()),
        32 => Some(Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?).into()),
        _ => None,
    }
}

fn reverse(labels: &[String]) -> Asked {
    let found = match labels {
        [d, c, b, a, in_addr, arpa] if in_addr == "in-addr" && arpa == "arpa" => {
            format!("{a}.{b}.{c}.{d}").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
        }
        [nibbles @ .., ip6, arpa] if nibbles.len() == 32 && ip6 == "ip6" && arpa == "arpa" => {
            let is_one = nibbles.iter().all(|nibble| nibble.len() == 1);
            let digits: String = nibbles.iter().rev().map(String::as_str).collect();
            is_one.then(|| address(&digits)).flatten()
        }
        _ => None,
    };
    found.map_or(Asked::Foreign, Asked::Reverse)
}

/// The name that a text is, whatever bytes are between its dots; none if it has an empty label or a long one.
pub(super) fn absolute(text: &str) -> Option<Name> {
    let labels = text.trim_end_matches('.').split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The name of a host outside, if a text can be one.
pub(super) fn host_name(text: &str) -> Option<Name> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !text.bytes().all(is_plain) { None } else { absolute(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone() -> Zone {
        Zone::new("Consul.", "DC1").unwrap()
    }

    fn ask(name: &str) -> Asked {
        zone().asked(&Name::from_ascii(name).unwrap())
    }

    fn service(name: &str, tag: Option<&str>) -> Asked {
        Asked::Service { name: name.to_owned(), tag: tag.map(str::to_owned) }
    }

    #[test]
    fn names_are_sorted_by_their_category() {
        for (name, wanted) in [
            ("Alpha.Node.consul.", Asked::Node("alpha".to_owned())),
            ("a.b.node.dc1.CONSUL.", Asked::Node("a.b".to_owned())),
            ("a.node.dc2.consul.", Asked::Nowhere),
            ("a.node.dc1.x.consul.", Asked::Nowhere),
            ("web.service.consul.", service("web", None)),
            ("v1.web.service.dc1.consul.", service("web", Some("v1"))),
            ("v1.2.web.service.consul.", service("web", Some("v1.2"))),
            ("_web._tcp.service.consul.", service("web", None)),
            ("_web._V1.service.consul.", service("web", Some("v1"))),
            ("_web.service.consul.", service("_web", None)),
            ("web._tcp.service.consul.", service("_tcp", Some("web"))),
            ("a.b.query.consul.", Asked::Query("a.b".to_owned())),
            ("0A000001.addr.dc1.consul.", Asked::Address([10, 0, 0, 1].into())),
            ("0a01.addr.consul.", Asked::Nowhere),
            ("x.0a000001.addr.consul.", Asked::Nowhere),
            ("consul.", Asked::Between),
            ("dc1.consul.", Asked::Between),
            ("service.consul.", Asked::Between),
            ("service.dc1.consul.", Asked::Between),
            ("x.consul.", Asked::Nowhere),
            ("example.org.", Asked::Foreign),
            ("fooconsul.", Asked::Foreign),
            (".", Asked::Foreign),
        ] {
            assert_eq!(ask(name), wanted, "{name}");
        }
    }

    #[test]
    fn addresses_are_read_both_ways() {
        assert_eq!(ask("1.0.0.10.in-addr.arpa."), Asked::Reverse([10, 0, 0, 1].into()));
        assert_eq!(ask("0.0.10.in-addr.arpa."), Asked::Foreign);
        assert_eq!(ask("x.0.0.10.in-addr.arpa."), Asked::Foreign);
        let six: Ipv6Addr = "fd00::b".parse().unwrap();
        assert_eq!(ask(&Name::from(six).to_ascii()), Asked::Reverse(six.into()));
        let text = zone().of_address(six.into()).unwrap().to_ascii();
        assert_eq!(text, "fd00000000000000000000000000000b.addr.dc1.consul.");
        assert_eq!(ask(&text), Asked::Address(six.into()));
        let signed = zone().below("+a000001.addr").unwrap();
        assert_eq!(zone().asked(&signed), Asked::Nowhere);
        let four = zone().of_address([10, 1, 0, 1].into()).unwrap().to_ascii();
        assert_eq!(four, "0a010001.addr.dc1.consul.");
    }

    #[test]
    fn domains_may_have_dots_and_must_be_names() {
        let zone = Zone::new("c.example.org", "dc1").unwrap();
        let name = Name::from_ascii("a.node.c.example.org.").unwrap();
        assert_eq!(zone.asked(&name), Asked::Node("a".to_owned()));
        for (domain, datacenter) in [("", "dc1"), ("consul", ""), ("a..b", "dc1")] {
            assert!(Zone::new(domain, datacenter).is_none(), "{domain:?} {datacenter:?}");
        }
        assert!(Zone::new("consul", &"x".repeat(64)).is_none());
    }

    proptest! {
        #[test]
        fn any_labels_are_understood(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..6),
            inside: bool,
        ) {
            let mut labels = labels;
            if inside {
                labels.extend([b"service".to_vec(), b"consul".to_vec()]);
            }
            let name = Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap();
            prop_assert_eq!(zone().asked(&name) == Asked::Foreign, !inside);
        }
    }
}
