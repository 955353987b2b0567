//! The two files that tell a container how names become addresses: `resolv.conf` and `hosts`.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;

use crate::pod::spec::{hostname, spec, uses_host_network};

/// As many as resolvers read.
const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;

/// The pod's `resolv.conf`. `server` is the node's own name server, `of_host` the text of the node's file.
pub(crate) fn resolv_conf(pod: &Pod, server: Ipv4Addr, domain: &str, of_host: &str) -> String {
    let spec = spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let of_cluster = || Settings {
        nameservers: vec![server.to_string()],
        searches: vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.to_owned(),
        ],
        options: vec![("ndots".to_owned(), Some("5".to_owned()))],
    };
    let mut settings = match policy {
        "None" => Settings::default(),
        "Default" => Settings::read(of_host),
        "ClusterFirstWithHostNet" => of_cluster(),
        _ if uses_host_network(pod) => Settings::read(of_host),
        _ => of_cluster(),
    };
    if let Some(own) = &spec.dns_config {
        settings.nameservers.extend(own.nameservers.clone().unwrap_or_default());
        settings.searches.extend(own.searches.clone().unwrap_or_default());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            settings.options.retain(|(known, _)| *known != name);
            settings.options.push((name, option.value.clone()));
        }
    }
    settings.write()
}

#[derive(Default)]
struct Settings {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<(String, Option<String>)>,
}

impl Settings {
    fn read(text: &str) -> Self {
        let mut settings = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => settings.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => settings.searches = words.map(str::to_owned).collect(),
                Some("options") => {
                    settings.options.extend(words.map(|word| match word.split_once(':') {
                        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                        None => (word.to_owned(), None),
                    }))
                }
                _ => {}
            }
        }
        settings
    }

    fn write(self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            let searches: Vec<_> = distinct(self.searches).take(MOST_SEARCHES).collect();
            text.push_str(&format!("search {}\n", searches.join(" ")));
        }
        for server in distinct(self.nameservers).take(MOST_NAMESERVERS) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            let word = |(name, value): (String, Option<String>)| match value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name,
            };
            let words: Vec<_> = self.options.into_iter().map(word).collect();
            text.push_str(&format!("options {}\n", words.join(" ")));
        }
        text
    }
}

/// Each word once, and only words: a line break would be a line of its own.
fn distinct(list: Vec<String>) -> impl Iterator<Item = String> {
    let mut seen = std::collections::HashSet::new();
    list.into_iter()
        .filter(|word| !word.contains(char::is_whitespace))
        .filter(move |word| seen.insert(word.clone()))
}

/// The pod's `hosts` file. `of_host` is the text of the node's file, which a pod on the node's network sees.
pub(crate) fn hosts(pod: &Pod, ip: Option<Ipv4Addr>, domain: &str, of_host: &str) -> String {
    let mut text = if uses_host_network(pod) {
        format!("# The node's hosts file, managed by Pontoon.\n{of_host}\n")
    } else {
        "# Hosts file managed by Pontoon.\n127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
            .to_owned()
    };
    let (own, subdomain) = (hostname(pod), spec(pod).subdomain.as_deref().unwrap_or_default());
    if let Some(ip) = ip.filter(|_| !uses_host_network(pod)) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let line = if subdomain.is_empty() {
            format!("{ip}\t{own}\n")
        } else {
            format!("{ip}\t{own}.{subdomain}.{namespace}.svc.{domain}\t{own}\n")
        };
        text.push_str(&line);
    }
    for alias in spec(pod).host_aliases.iter().flatten() {
        let names: Vec<_> = distinct(alias.hostnames.clone().unwrap_or_default()).collect();
        if alias.ip.parse::<std::net::IpAddr>().is_ok() && !names.is_empty() {
            text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const HOST: &str = "nameserver 192.168.0.53\nsearch corp.example\noptions timeout:1 rotate\n";

    fn pod(spec: Value) -> Pod {
        let meta = json!({"name": "web-0", "namespace": "d"});
        serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
    }

    #[track_caller]
    fn check(spec: Value, expected: &str) {
        let server = Ipv4Addr::new(10, 244, 1, 1);
        assert_eq!(resolv_conf(&pod(spec), server, "cluster.local", HOST), expected);
    }

    const CLUSTER: &str = "search d.svc.cluster.local svc.cluster.local cluster.local\n\
                           nameserver 10.244.1.1\noptions ndots:5\n";
    const OF_HOST: &str =
        "search corp.example\nnameserver 192.168.0.53\noptions timeout:1 rotate\n";

    #[test]
    fn the_policies() {
        check(json!({"containers": []}), CLUSTER);
        check(json!({"containers": [], "dnsPolicy": "Default"}), OF_HOST);
        check(json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirst"}), OF_HOST);
        let policy = "ClusterFirstWithHostNet";
        check(json!({"containers": [], "hostNetwork": true, "dnsPolicy": policy}), CLUSTER);
    }

    #[test]
    fn own_settings_are_added_and_override() {
        let config = json!({"nameservers": ["1.1.1.1", "1.1.1.1\nevil"], "searches": ["x.org"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        check(
            json!({"containers": [], "dnsPolicy": "None", "dnsConfig": config}),
            "search x.org\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
        );
    }

    #[test]
    fn hosts_has_the_pod_and_its_aliases() {
        let spec = json!({"containers": [], "subdomain": "web",
            "hostAliases": [{"ip": "10.1.1.1", "hostnames": ["a", "b"]}, {"ip": "x", "hostnames": ["c"]}]});
        let text = hosts(&pod(spec), Some(Ipv4Addr::new(10, 244, 1, 9)), "cluster.local", "");
        assert!(text.contains("127.0.0.1\tlocalhost\n"));
        assert!(
            text.ends_with("10.244.1.9\tweb-0.web.d.svc.cluster.local\tweb-0\n10.1.1.1\ta\tb\n")
        );
    }
}
