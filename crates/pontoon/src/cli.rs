//! The command line: every command with its options and an example.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Joins independent Linux servers into one machine that runs containers.
#[derive(Parser)]
#[command(
    name = "pontoon",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Example:\n  pontoon demo                 three nodes on this machine, for a look\n  pontoon up                   this server becomes a cluster of one; it prints how others join"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone)]
pub(crate) struct Global {
    /// State that survives: identity, replicated log, images
    #[arg(
        long,
        global = true,
        env = "PONTOON_DATA_DIR",
        default_value = "/var/lib/pontoon",
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub data_dir: PathBuf,
    /// Sockets and what lives as long as the machine is up
    #[arg(
        long,
        global = true,
        env = "PONTOON_RUN_DIR",
        default_value = "/run/pontoon",
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub run_dir: PathBuf,
    /// How to print
    #[arg(
        long,
        short = 'o',
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub output: Output,
}

/// How a command prints what it found.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people
    #[default]
    Table,
    /// More columns
    Wide,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run this node's process in the foreground; what a systemd unit starts
    #[command(after_help = "Example:\n  pontoon daemon --node-name a")]
    Daemon(Daemon),
    /// Make a cluster with this node as its first manager
    #[command(after_help = "Example:\n  pontoon init --advertise-addr 192.0.2.1")]
    Init(Init),
    /// Make this node a member of a cluster
    #[command(after_help = "Example:\n  pontoon join --token PNTN-1-… 192.0.2.1:2377")]
    Join(Join),
    /// Take this node out of its cluster and remove all that it made on this machine
    #[command(after_help = "Example:\n  pontoon node drain a && pontoon leave        (on a)")]
    Leave(Leave),
    /// Daemon and init, or daemon and join, in one
    #[command(after_help = "Examples:\n  pontoon up\n  pontoon up --join PNTN-1-…@192.0.2.1:2377")]
    Up(Up),
    /// Print the token with which a node joins, or make a new one
    #[command(
        after_help = "Examples:\n  pontoon join-token worker\n  pontoon join-token manager --rotate"
    )]
    JoinToken(JoinToken),
    /// The cluster's nodes
    #[command(subcommand)]
    Node(Node),
    /// Every node as gossip sees it
    #[command(after_help = "Example:\n  pontoon members")]
    Members,
    /// This node: its role, the leader, the state's revision
    #[command(after_help = "Example:\n  pontoon status")]
    Status,
    /// Print the kubeconfig with all rights (on a manager)
    #[command(after_help = "Example:\n  pontoon kubeconfig > ~/.kube/config && kubectl get nodes")]
    Kubeconfig,
    /// This node's images
    #[command(subcommand)]
    Image(Image),
    /// Run an application: a Deployment, with a Service when it has a port
    #[command(
        after_help = "Example:\n  pontoon run hello --image pontoon.local/hello --replicas 6 --port 80:8080"
    )]
    Run(Run),
    /// The cluster's services
    #[command(subcommand)]
    Service(Service),
    /// The cluster's pods
    #[command(after_help = "Example:\n  pontoon ps -A")]
    Ps(Scope),
    /// Print a pod's log
    #[command(after_help = "Example:\n  pontoon logs -f hello-5d8f-x2v")]
    Logs(Logs),
    /// Run a command in a pod's container
    #[command(after_help = "Example:\n  pontoon exec -it web-0 -- sh")]
    Exec(Exec),
    /// Local machines: nodes made of namespaces on this computer
    #[command(subcommand)]
    Machine(Machine),
    /// Three nodes on this machine, an application on them, a node killed, nothing lost
    #[command(
        after_help = "Examples:\n  pontoon demo\n  pontoon demo --once        ends by itself; exit code 0 when all went well"
    )]
    Demo(Demo),
    /// Print the completion script of a shell
    #[command(after_help = "Example:\n  pontoon completion bash > /etc/bash_completion.d/pontoon")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The program of the built-in image pontoon.local/hello
    #[command(
        subcommand_required = false,
        after_help = "Examples:\n  pontoon hello                                    answers HTTP on port 8080\n  pontoon hello get http://hello/ --times 6        asks, and prints the answers"
    )]
    Hello(Hello),
}

/// Options of `daemon`.
#[derive(Args, Clone)]
pub(crate) struct Daemon {
    /// This node's name in the cluster: a DNS label [default: the host name]
    #[arg(long, env = "PONTOON_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Parent of all cgroups that this daemon makes
    #[arg(long, default_value = "pontoon", value_name = "PATH")]
    pub cgroup_parent: String,
    /// Registry to be spoken to over plain HTTP; may be given several times
    #[arg(
        long,
        env = "PONTOON_INSECURE_REGISTRY",
        value_delimiter = ',',
        value_name = "HOST:PORT"
    )]
    pub insecure_registry: Vec<String>,
    /// Registry that image names without one are pulled from, HOST[:PORT][/PATH]; without it they are not pulled
    #[arg(long, value_name = "HOST")]
    pub default_registry: Option<String>,
    /// PEM file of certificates that registries are trusted by beside the system's; may be given several times
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Vec<PathBuf>,
    /// Label for this node, KEY=VALUE; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = node_label)]
    pub label: Vec<(String, String)>,
}

/// Options of `init`.
#[derive(Args, Clone)]
pub(crate) struct Init {
    /// Address at which other nodes reach this one [default: that of the default route]
    #[arg(long, value_name = "ADDR")]
    pub advertise_addr: Option<IpAddr>,
    /// Addresses of pods; every node has a /24 of it
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR")]
    pub cluster_cidr: String,
    /// Addresses of services
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR")]
    pub service_cidr: String,
}

/// Options of `join`.
#[derive(Args, Clone)]
pub(crate) struct Join {
    /// The token that `pontoon join-token` prints on a manager
    #[arg(long)]
    pub token: String,
    /// A manager's address; the port is 2377 unless given
    #[arg(value_name = "HOST[:PORT]")]
    pub manager: String,
    /// Address at which other nodes reach this one [default: that towards the manager]
    #[arg(long, value_name = "ADDR")]
    pub advertise_addr: Option<IpAddr>,
}

/// Options of `leave`.
#[derive(Args, Clone)]
pub(crate) struct Leave {
    /// Leave though no manager answers, or though this manager is the last: its state is lost
    #[arg(long)]
    pub force: bool,
}

/// Options of `up`.
#[derive(Args, Clone)]
pub(crate) struct Up {
    #[command(flatten)]
    pub daemon: Daemon,
    /// Join the cluster of this manager instead of making one
    #[arg(long, value_name = "TOKEN@HOST[:PORT]")]
    pub join: Option<String>,
    /// Address at which other nodes reach this one
    #[arg(long, value_name = "ADDR")]
    pub advertise_addr: Option<IpAddr>,
}

/// Options of `join-token`.
#[derive(Args)]
pub(crate) struct JoinToken {
    /// The role that the token gives
    pub role: RoleName,
    /// Print the token alone
    #[arg(long, short)]
    pub quiet: bool,
    /// Make a new token; the old one is worth nothing from then on
    #[arg(long)]
    pub rotate: bool,
}

/// A role on the command line.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RoleName {
    Worker,
    Manager,
}

/// Commands on nodes.
#[derive(Subcommand)]
pub(crate) enum Node {
    /// List the nodes
    #[command(visible_alias = "list", after_help = "Example:\n  pontoon node ls")]
    Ls,
    /// Show all about a node
    #[command(after_help = "Example:\n  pontoon node inspect a -o yaml")]
    Inspect { name: String },
    /// Move all pods off a node and let no new ones on
    #[command(after_help = "Example:\n  pontoon node drain a")]
    Drain { name: String },
    /// Let pods on a drained node again
    #[command(after_help = "Example:\n  pontoon node activate a")]
    Activate { name: String },
    /// Make a worker a manager
    #[command(after_help = "Example:\n  pontoon node promote b")]
    Promote { name: String },
    /// Make a manager a worker
    #[command(after_help = "Example:\n  pontoon node demote b")]
    Demote { name: String },
    /// Remove a node from the cluster
    #[command(after_help = "Example:\n  pontoon node rm b --force")]
    Rm {
        name: String,
        /// Though it is alive
        #[arg(long)]
        force: bool,
    },
}

/// Commands on images.
#[derive(Subcommand)]
pub(crate) enum Image {
    /// List this node's images
    #[command(visible_alias = "list", after_help = "Example:\n  pontoon image ls")]
    Ls,
    /// Load a docker-archive or oci-archive; `-` reads standard input
    #[command(after_help = "Example:\n  docker save web:1 | pontoon image load -")]
    Load { file: PathBuf },
    /// Make an image of a root filesystem in a tar file; `-` reads standard input
    #[command(
        after_help = "Example:\n  pontoon image import rootfs.tar box:1 --entrypoint /bin/sh"
    )]
    Import {
        file: PathBuf,
        reference: String,
        /// The program; may be given several times, once a word
        #[arg(long, value_name = "WORD")]
        entrypoint: Vec<String>,
        /// Environment, NAME=VALUE; may be given several times
        #[arg(long, value_name = "NAME=VALUE")]
        env: Vec<String>,
        /// Working directory
        #[arg(long, value_name = "DIR")]
        workdir: Option<String>,
    },
    /// Fetch an image from its registry
    #[command(
        after_help = "Examples:\n  pontoon image pull registry.example:5000/web:1\n  pontoon image pull registry.example:5000/web:1 --username me --password-stdin < password"
    )]
    Pull {
        reference: String,
        /// The user at the registry
        #[arg(long, value_name = "NAME", requires = "password_stdin")]
        username: Option<String>,
        /// Read the password from standard input
        #[arg(long, requires = "username")]
        password_stdin: bool,
    },
    /// Remove an image
    #[command(after_help = "Example:\n  pontoon image rm web:1")]
    Rm { reference: String },
}

/// Options of `run`.
#[derive(Args)]
pub(crate) struct Run {
    /// The application's name
    pub name: String,
    /// The image
    #[arg(long, default_value = "pontoon.local/hello")]
    pub image: String,
    /// How many pods
    #[arg(long, default_value_t = 1)]
    pub replicas: u32,
    /// A port of the service and the container's behind it, PORT[:CONTAINER-PORT]
    #[arg(long, value_name = "PORT[:PORT]")]
    pub port: Option<String>,
    /// Open the service's port on every node as well
    #[arg(long, requires = "port")]
    pub node_port: bool,
    /// Environment, NAME=VALUE; may be given several times
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = label)]
    pub env: Vec<(String, String)>,
    /// Namespace
    #[arg(long, short, default_value = "default")]
    pub namespace: String,
    /// The program's arguments
    #[arg(last = true)]
    pub args: Vec<String>,
}

/// Commands on services.
#[derive(Subcommand)]
pub(crate) enum Service {
    /// List the services
    #[command(visible_alias = "list", after_help = "Example:\n  pontoon service ls")]
    Ls(Scope),
}

/// Which namespace to look at.
#[derive(Args)]
pub(crate) struct Scope {
    /// Namespace
    #[arg(long, short, default_value = "default")]
    pub namespace: String,
    /// All namespaces
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
}

/// Options of `logs`.
#[derive(Args)]
pub(crate) struct Logs {
    pub pod: String,
    /// Namespace
    #[arg(long, short, default_value = "default")]
    pub namespace: String,
    /// Container, when the pod has several
    #[arg(long, short)]
    pub container: Option<String>,
    /// Go on with what is written from now on
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u64>,
    /// The log of the container before its last restart
    #[arg(long, short)]
    pub previous: bool,
}

/// Options of `exec`.
#[derive(Args)]
pub(crate) struct Exec {
    pub pod: String,
    /// Namespace
    #[arg(long, short, default_value = "default")]
    pub namespace: String,
    /// Container, when the pod has several
    #[arg(long, short)]
    pub container: Option<String>,
    /// Pass standard input on
    #[arg(long, short = 'i')]
    pub stdin: bool,
    /// Give the command a terminal
    #[arg(long, short = 't')]
    pub tty: bool,
    /// The command
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// Commands on local machines.
#[derive(Subcommand)]
pub(crate) enum Machine {
    /// Make machines: each is a node's worth of namespaces on this computer
    #[command(after_help = "Example:\n  pontoon machine create a b c")]
    Create {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// List the machines
    #[command(visible_alias = "list", after_help = "Example:\n  pontoon machine ls")]
    Ls,
    /// Run a command on a machine, or a shell
    #[command(after_help = "Example:\n  pontoon machine ssh a -- pontoon status")]
    Ssh {
        name: String,
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Shut machines down
    #[command(after_help = "Example:\n  pontoon machine stop a")]
    Stop { names: Vec<String> },
    /// Start machines that are stopped
    #[command(after_help = "Example:\n  pontoon machine start a")]
    Start { names: Vec<String> },
    /// Power machines off: everything in them is killed at once
    #[command(after_help = "Example:\n  pontoon machine kill a")]
    Kill { names: Vec<String> },
    /// Pull machines' network cables: they run on, cut off from all others
    #[command(after_help = "Example:\n  pontoon machine disconnect a")]
    Disconnect { names: Vec<String> },
    /// Put the network cables of machines back
    #[command(after_help = "Example:\n  pontoon machine connect a")]
    Connect { names: Vec<String> },
    /// Remove machines with all they hold
    #[command(after_help = "Example:\n  pontoon machine rm a b c")]
    Rm { names: Vec<String> },
}

/// Options of `demo`.
#[derive(Args)]
pub(crate) struct Demo {
    /// End by itself instead of leaving the cluster up
    #[arg(long)]
    pub once: bool,
}

/// Options of `hello`.
#[derive(Args)]
pub(crate) struct Hello {
    #[command(subcommand)]
    pub command: Option<HelloCommand>,
    /// Port to answer on
    #[arg(long, default_value_t = 8080, env = "PORT")]
    pub port: u16,
}

/// What else the built-in image's program does.
#[derive(Subcommand)]
pub(crate) enum HelloCommand {
    /// Ask a URL over HTTP and print the answers
    #[command(after_help = "Example:\n  pontoon hello get http://hello/ --times 6")]
    Get {
        url: String,
        /// How often, each on a connection of its own
        #[arg(long, short = 'n', default_value_t = 1)]
        times: u32,
        /// Longest wait for one answer
        #[arg(long, default_value_t = 3000, value_name = "MS")]
        timeout_ms: u64,
    },
    /// Look a name up as pods do and print its addresses
    #[command(after_help = "Example:\n  pontoon hello resolve hello.default")]
    Resolve { name: String },
}

/// A label that a node may give itself; others would be left out by the managers.
fn node_label(text: &str) -> Result<(String, String), String> {
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

fn label(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text:?} is not of the form KEY=VALUE"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Cli;

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

    fn without_example(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let leaves: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
        if leaves.is_empty() && !help.contains("Example") {
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
}
