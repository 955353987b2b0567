//! The forms of values on the command line. What is wrong with one is said in words for people, and is a mistake of use.

use std::str::FromStr;

use pontoon_node::config::{longest_prefix, parse_range};

/// A whole number.
pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    let bits = 8 * size_of::<T>();
    text.parse().map_err(|_| {
        let largest = u64::MAX >> (64 - bits);
        format!("{text:?} is no whole number from 0 to {largest}")
    })
}

/// How many pods: what a Deployment's `replicas` holds.
pub(super) fn replicas(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| i32::try_from(*count).is_ok());
    count.ok_or_else(|| format!("{text:?} is no whole number from 0 to {}", i32::MAX))
}

/// A node's name.
pub(super) fn node_name(text: &str) -> Result<String, String> {
    pontoon_node::config::check_node_name(text).map(|()| text.to_owned())
}

/// A group's path below the cgroup hierarchies' mounts.
pub(super) fn cgroup_path(text: &str) -> Result<String, String> {
    let is_name = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
        !matches!(part, "" | "." | "..") && part.chars().all(plain)
    };
    if text.len() <= 200 && text.trim_matches('/').split('/').all(is_name) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no path of a group below the cgroups' mounts, such as pontoon or system/pontoon"
    ))
}

/// The name of an image.
pub(super) fn image(text: &str) -> Result<String, String> {
    pontoon_node::registries::check_image(text).map(|()| text.to_owned())
}

/// PORT[:CONTAINER-PORT].
pub(super) fn port(text: &str) -> Result<(u16, u16), String> {
    let (port, target) = text.split_once(':').unwrap_or((text, text));
    Ok((one_port(port)?, one_port(target)?))
}

fn one_port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{text:?} is no port; ports are 1 to 65535"))
}

/// HOST[:PORT].
pub(super) fn manager(text: &str) -> Result<String, String> {
    let host = match text.rsplit_once(':') {
        // Colons within are those of an IPv6 address.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            one_port(port)?;
            host
        }
        _ => text,
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(format!("{text:?} is no HOST[:PORT], such as 192.0.2.1:2377"));
    }
    Ok(text.to_owned())
}

/// TOKEN@HOST[:PORT].
pub(super) fn token_at(text: &str) -> Result<(String, String), String> {
    let (token, host) =
        text.split_once('@').ok_or("it wants TOKEN@HOST, as in PNTN-1-…@192.0.2.1:2377")?;
    Ok((token.to_owned(), manager(host)?))
}

/// Addresses of pods.
pub(super) fn cluster_range(text: &str) -> Result<String, String> {
    parse_range(text, longest_prefix::NODES).map(|range| range.to_string())
}

/// Addresses of services.
pub(super) fn service_range(text: &str) -> Result<String, String> {
    parse_range(text, longest_prefix::SERVICES).map(|range| range.to_string())
}

/// A label that a node may give itself; others would be left out by the managers.
pub(super) fn node_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = label(text)?;
    if let Some(fault) = pontoon_node::node_labels::fault(&key, &value) {
        return Err(format!("{text:?} is no label: {fault}"));
    }
    if !pontoon_node::node_labels::is_own(&key) {
        return Err(format!(
            "a node cannot give itself the label {key}; once it has joined: kubectl label node NAME {text}"
        ));
    }
    Ok((key, value))
}

/// KEY=VALUE.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text:?} is not of the form KEY=VALUE"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::cli::Cli;

    #[test]
    fn a_node_is_not_started_with_labels_that_are_not_its_own() {
        let start = |label: &str| Cli::try_parse_from(["pontoon", "daemon", "--label", label]);
        for broken in ["a b=c", "disk=very fast", "/x=1", "disk=-"] {
            let refused = start(broken).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(refused.contains("is no label"), "{broken}: {refused}");
        }
        assert!(start("disk=ssd").is_ok() && start("topology.kubernetes.io/zone=a").is_ok());
        for label in
            ["node-role.kubernetes.io/control-plane=", "node-restriction.kubernetes.io/a=b"]
        {
            let refused = start(label).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(refused.contains("kubectl label node NAME"), "{refused}");
        }
    }

    /// Arguments that nothing is said of.
    fn without_help(command: &clap::Command, found: &mut Vec<String>) {
        for arg in command.get_arguments().filter(|arg| arg.get_help().is_none()) {
            found.push(format!("{} {}", command.get_name(), arg.get_id()));
        }
        command.get_subcommands().for_each(|leaf| without_help(leaf, found));
    }

    #[test]
    fn every_argument_has_help() {
        let mut found = Vec::new();
        without_help(&Cli::command(), &mut found);
        assert!(found.is_empty(), "no help: {found:?}");
    }

    #[test]
    fn numbers_and_names_are_bounded() {
        let parse = |words: &str| {
            Cli::try_parse_from(words.split(' ')).map(drop).map_err(|e| e.to_string())
        };
        for (words, told) in [
            ("pontoon run a --replicas -1", "no whole number from 0 to 2147483647"),
            ("pontoon run a --replicas 3000000000", "no whole number from 0 to 2147483647"),
            ("pontoon logs a --tail -1", "no whole number"),
            ("pontoon daemon --node-name A_B", "cannot be a node's name"),
            ("pontoon daemon --cgroup-parent ../x", "no path of a group"),
            ("pontoon image import f Box:1", "Box:1"),
        ] {
            let refused = parse(words).unwrap_err();
            assert!(refused.contains(told) && !refused.contains("tip:"), "{refused}");
        }
        for words in
            ["pontoon daemon --cgroup-parent /system/pontoon", "pontoon run a --replicas 0"]
        {
            parse(words).unwrap();
        }
    }

    fn without_example(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let leaves: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
        if !help.contains("Example") {
            found.push(path.clone());
        }
        for leaf in leaves {
            without_example(leaf, &path, found);
        }
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        let mut found = Vec::new();
        without_example(&command, "", &mut found);
        assert!(found.is_empty(), "no example: {found:?}");
    }

    #[test]
    fn what_is_wrong_is_said_in_plain_words() {
        for words in [
            "run a --port foo",
            "run a --port 0",
            "run a --port 80:http",
            "run a --port 80:70000",
            "run a --replicas many",
            "run a --replicas -1",
            "logs a --tail x",
            "hello --port 99999",
            "hello get http://a --times 1.5",
            "join --token t host:port",
            "join --token t host:",
            "up --join token",
            "up --join token@host:0x1",
            "init --cluster-cidr hello",
            "init --service-cidr 10.96.0.0/31",
            "machine stop",
            "machine rm",
            "machine rm a --all",
            "service rm",
        ] {
            let all = std::iter::once("pontoon").chain(words.split(' '));
            let Err(refused) = Cli::try_parse_from(all) else { panic!("{words} is taken") };
            assert_eq!(refused.exit_code(), 2, "{words}");
            let said = refused.to_string();
            for word in ["digit", "parse", "too large", "ParseIntError"] {
                assert!(!said.contains(word), "{words}: {said}");
            }
        }
    }

    #[test]
    fn help_is_the_same_in_every_environment() {
        fn shown(command: &clap::Command, found: &mut Vec<String>) {
            let arguments = command.get_arguments();
            let found_here =
                arguments.filter(|a| a.get_env().is_some() && !a.is_hide_env_values_set());
            found.extend(found_here.map(|a| format!("{} {}", command.get_name(), a.get_id())));
            for command in command.get_subcommands() {
                shown(command, found);
            }
        }
        let mut found = Vec::new();
        shown(&Cli::command(), &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}
