//! The command line: every command with its options and an example.

mod consul;
mod local;
mod store;
mod values;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use consul::{Api, Kv, KvCommand, Lock};
pub(crate) use local::{Demo, Hello, HelloCommand, Machine, Names};
use pontoon_node::config::{CONSUL_DNS_PORT, CONSUL_PORT};
use values::{
    cgroup_path, cluster_range, image, label, manager, node_label, node_name, number, port,
    replicas, service_range, token_at,
};

pub(crate) use store::{Snapshot, Store};

/// Joins independent Linux servers into one machine that runs containers.
#[derive(Parser)]
#[command(
    name = "pontoon",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:\n  pontoon demo                 three nodes on this machine, for a look\n  pontoon up                   this server becomes a cluster of one; it prints how others join"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Where state lies that survives, unless something else is said.
pub(crate) const DATA_DIR: &str = "/var/lib/pontoon";

/// A default that the environment may change. As clap's own `env` it would be part of every line on usage.
fn from_env(name: &str, otherwise: &str) -> PathBuf {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| otherwise.into())
        .into()
}

/// Options of every command.
#[derive(Args, Clone)]
pub(crate) struct Global {
    /// State that survives: identity, replicated log, images; that of local machines lies below it; or
    /// $PONTOON_DATA_DIR
    #[arg(
        long,
        global = true,
        default_value_os_t = from_env("PONTOON_DATA_DIR", DATA_DIR),
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub data_dir: PathBuf,
    /// Sockets and what lives as long as the machine is up; or $PONTOON_RUN_DIR
    #[arg(
        long,
        global = true,
        default_value_os_t = from_env("PONTOON_RUN_DIR", "/run/pontoon"),
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
    #[command(after_help = "Examples:\n  pontoon daemon --node-name a")]
    Daemon(Daemon),
    /// Make a cluster with this node as its first manager
    #[command(
        after_help = "Examples:\n  pontoon init --advertise-addr 192.0.2.1\n  pontoon init --force-new-cluster --yes     the other managers are lost for ever"
    )]
    Init(Init),
    /// Make this node a member of a cluster
    #[command(after_help = "Examples:\n  pontoon join --token PNTN-1-… 192.0.2.1:2377")]
    Join(Join),
    /// Take this node out of its cluster and remove all that it made on this machine
    #[command(after_help = "Examples:\n  pontoon node drain a && pontoon leave        (on a)")]
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
    #[command(
        subcommand,
        after_help = "Examples:\n  pontoon node ls\n  pontoon node drain b && pontoon node rm b --force"
    )]
    Node(Node),
    /// Every node as gossip sees it
    #[command(
        after_help = "Examples:\n  pontoon members\n  pontoon members --format consul     what `consul members` prints"
    )]
    Members(Members),
    /// This node: its role, the leader, the state's revision
    #[command(after_help = "Examples:\n  pontoon status")]
    Status,
    /// Print the kubeconfig with all rights (on a manager): a context for each manager, this one's first
    #[command(
        after_help = "Examples:\n  pontoon kubeconfig > ~/.kube/config && kubectl get nodes\n  pontoon kubeconfig --server b                    begins with manager b\n  kubectl --context pontoon-b get nodes            asks manager b"
    )]
    Kubeconfig(Kubeconfig),
    /// Write the certificates that etcd's clients need, and print the environment of etcdctl (on a manager)
    #[command(
        after_help = "Examples:\n  eval \"$(pontoon etcd-env)\" && etcdctl get --prefix /registry/pods/"
    )]
    EtcdEnv(EtcdEnv),
    /// The replicated state: backups, and whether it is whole
    #[command(
        subcommand,
        after_help = "Examples:\n  pontoon store snapshot save /backup/pontoon.snap\n  pontoon store verify"
    )]
    Store(Store),
    /// Keys of Consul's API
    #[command(
        after_help = "Examples:\n  pontoon kv put app/color blue && pontoon kv get app/color"
    )]
    Kv(Kv),
    /// Run a program while holding a lock of Consul's API; it is ended when the lock is lost
    #[command(after_help = "Examples:\n  pontoon lock jobs/nightly ./backup.sh --all")]
    Lock(Lock),
    /// This node's images
    #[command(
        subcommand,
        after_help = "Examples:\n  docker save web:1 | pontoon image load -\n  pontoon image ls"
    )]
    Image(Image),
    /// Run an application: a Deployment, with a Service when it has a port
    #[command(
        after_help = "Examples:\n  pontoon run hello --image pontoon.local/hello --replicas 6 --port 80:8080\n\n`kubectl scale deployment hello --replicas 9` changes how many; `pontoon service rm hello` removes it."
    )]
    Run(Run),
    /// The cluster's services
    #[command(
        subcommand,
        after_help = "Examples:\n  pontoon service ls\n  pontoon service rm hello\n\n`kubectl scale deployment hello --replicas 9` changes how many pods there are."
    )]
    Service(Service),
    /// The cluster's pods
    #[command(after_help = "Examples:\n  pontoon ps -A")]
    Ps(Scope),
    /// Print a pod's log
    #[command(after_help = "Examples:\n  pontoon logs -f hello-5d8f-x2v")]
    Logs(Logs),
    /// Run a command in a pod's container
    #[command(after_help = "Examples:\n  pontoon exec -it web-0 -- sh")]
    Exec(Exec),
    /// Local machines: nodes made of namespaces on this computer
    #[command(
        subcommand,
        after_help = "Examples:\n  pontoon machine create a b c\n  pontoon machine ssh a -- pontoon init\n  pontoon machine rm --all"
    )]
    Machine(Machine),
    /// Three nodes on this machine, an application on them, a node killed, nothing lost
    #[command(
        after_help = "Examples:\n  pontoon demo\n  pontoon demo --once        ends by itself; exit code 0 when all went well"
    )]
    Demo(Demo),
    /// Print the completion script of a shell
    #[command(after_help = "Examples:\n  pontoon completion bash > /etc/bash_completion.d/pontoon")]
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
    #[arg(long, env = "PONTOON_NODE_NAME", hide_env_values = true, value_name = "NAME", value_parser = node_name)]
    pub node_name: Option<String>,
    /// Parent of all cgroups that this daemon makes
    #[arg(long, default_value = "pontoon", value_name = "PATH", value_parser = cgroup_path)]
    pub cgroup_parent: String,
    #[command(flatten)]
    pub registries: Registries,
    /// Label for this node, KEY=VALUE; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = node_label)]
    pub label: Vec<(String, String)>,
    /// How the daemon's log is written [default: text with `up` and on a terminal, json elsewhere]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Serve etcd's API there while this node is a manager; the port is 2379 unless given
    #[arg(long, env = "PONTOON_ETCD_LISTEN", hide_env_values = true, value_name = "ADDR[:PORT]")]
    pub etcd_listen: Option<String>,
    /// Serve it without TLS, to everybody on this machine; only on a loopback address
    #[arg(long, env = "PONTOON_ETCD_INSECURE", hide_env_values = true, requires = "etcd_listen")]
    pub etcd_insecure: bool,
    /// Address at which Consul's API is served while this node is a manager: plain HTTP, to all who reach it
    #[arg(
        long,
        env = "PONTOON_CLIENT_ADDR",
        hide_env_values = true,
        default_value = "127.0.0.1",
        value_name = "ADDR"
    )]
    pub client_addr: IpAddr,
    /// Port of Consul's API; 0 serves it not
    #[arg(long, env = "PONTOON_CONSUL_PORT", hide_env_values = true, default_value_t = CONSUL_PORT, value_name = "PORT")]
    pub consul_port: u16,
    /// Port of Consul's DNS at the same address, UDP and TCP; 0 serves it not
    #[arg(long, env = "PONTOON_CONSUL_DNS_PORT", hide_env_values = true, default_value_t = CONSUL_DNS_PORT, value_name = "PORT")]
    pub consul_dns_port: u16,
}

/// How a daemon's log is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// A JSON object a line
    Json,
}

/// How a daemon reaches registries.
#[derive(Args, Clone, Default)]
pub(crate) struct Registries {
    /// Registry to be spoken to over plain HTTP; may be given several times
    #[arg(
        long,
        env = "PONTOON_INSECURE_REGISTRY",
        hide_env_values = true,
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
}

/// Options of `init`.
#[derive(Args, Clone)]
pub(crate) struct Init {
    /// Address at which other nodes reach this one [default: that of the default route]
    #[arg(long, value_name = "ADDR")]
    pub advertise_addr: Option<IpAddr>,
    /// Addresses of pods; every node has a /24 of it
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR", value_parser = cluster_range)]
    pub cluster_cidr: String,
    /// Addresses of services
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR", value_parser = service_range)]
    pub service_cidr: String,
    /// When the other managers are lost for ever: go on with this one alone and the state it has
    #[arg(long, requires = "yes", conflicts_with_all = ["advertise_addr", "cluster_cidr", "service_cidr"])]
    pub force_new_cluster: bool,
    /// That is what I want: the other managers are removed and must never be started again
    #[arg(long, requires = "force_new_cluster")]
    pub yes: bool,
}

/// Options of `join`.
#[derive(Args, Clone)]
pub(crate) struct Join {
    /// The token that `pontoon join-token` prints on a manager
    #[arg(long)]
    pub token: String,
    /// A manager's address; the port is 2377 unless given
    #[arg(value_name = "HOST[:PORT]", value_parser = manager)]
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
    #[arg(long, value_name = "TOKEN@HOST[:PORT]", value_parser = token_at)]
    pub join: Option<(String, String)>,
    /// Address at which other nodes reach this one
    #[arg(long, value_name = "ADDR")]
    pub advertise_addr: Option<IpAddr>,
}

/// Options of `members`.
#[derive(Args)]
pub(crate) struct Members {
    /// Print what another program's command does
    #[arg(long, value_enum, value_name = "PROGRAM", conflicts_with = "output")]
    pub format: Option<MembersFormat>,
}

/// Whose list of members is printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MembersFormat {
    /// The columns of `consul members`
    Consul,
}

/// Options of `kubeconfig`.
#[derive(Args)]
pub(crate) struct Kubeconfig {
    /// The manager to begin with, by its name; or the address under which the API is reached, such as a load balancer's
    #[arg(long, value_name = "NAME|ADDR[:PORT]")]
    pub server: Option<String>,
}

/// Options of `etcd-env`.
#[derive(Args, Clone)]
pub(crate) struct EtcdEnv {
    /// Where to write ca.pem, cert.pem and key.pem [default: etcd-client in the data directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
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
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  pontoon node ls\n\nAVAILABILITY is Active (takes pods), Cordoned (takes no new ones) or Drained (takes none, and a drain would find\nnothing to move)."
    )]
    Ls,
    /// Show all about a node
    #[command(after_help = "Examples:\n  pontoon node inspect a -o yaml")]
    Inspect {
        /// The node
        name: String,
    },
    /// Move all pods off a node and let no new ones on
    #[command(after_help = "Examples:\n  pontoon node drain a")]
    Drain {
        /// The node
        name: String,
    },
    /// Let pods on a drained or cordoned node again
    #[command(after_help = "Examples:\n  pontoon node activate a")]
    Activate {
        /// The node
        name: String,
    },
    /// Make a worker a manager
    #[command(after_help = "Examples:\n  pontoon node promote b")]
    Promote {
        /// The node
        name: String,
    },
    /// Make a manager a worker
    #[command(after_help = "Examples:\n  pontoon node demote b")]
    Demote {
        /// The node
        name: String,
    },
    /// Remove a node from the cluster
    #[command(after_help = "Examples:\n  pontoon node rm b --force")]
    Rm {
        /// The node
        name: String,
        /// Remove it though it is alive: it gives itself up when it hears of it
        #[arg(long)]
        force: bool,
    },
}

/// Commands on images.
#[derive(Subcommand)]
pub(crate) enum Image {
    /// List this node's images
    #[command(visible_alias = "list", after_help = "Examples:\n  pontoon image ls")]
    Ls,
    /// Load a docker-archive or oci-archive, at a manager for all nodes
    #[command(after_help = "Examples:\n  docker save web:1 | pontoon image load -")]
    Load {
        /// The archive; `-` reads standard input
        file: PathBuf,
    },
    /// Make an image of a root filesystem, at a manager for all nodes
    #[command(
        after_help = "Examples:\n  pontoon image import rootfs.tar box:1 --entrypoint /bin/sh"
    )]
    Import {
        /// The tar file of the root filesystem; `-` reads standard input
        file: PathBuf,
        /// The image's name
        #[arg(value_parser = image)]
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
        /// The image's name, with its registry
        reference: String,
        /// The user at the registry
        #[arg(long, value_name = "NAME", requires = "password_stdin")]
        username: Option<String>,
        /// Read the password from standard input
        #[arg(long, requires = "username")]
        password_stdin: bool,
    },
    /// Remove an image
    #[command(after_help = "Examples:\n  pontoon image rm web:1")]
    Rm {
        /// The image's name
        reference: String,
    },
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
    #[arg(long, default_value_t = 1, value_parser = replicas, allow_negative_numbers = true)]
    pub replicas: u32,
    /// A port of the service and the container's behind it, PORT[:CONTAINER-PORT]
    #[arg(long, value_name = "PORT[:PORT]", value_parser = port)]
    pub port: Option<(u16, u16)>,
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
    #[command(visible_alias = "list", after_help = "Examples:\n  pontoon service ls")]
    Ls(Scope),
    /// Remove applications: the Deployment and the Service of each name
    #[command(after_help = "Examples:\n  pontoon service rm hello web")]
    Rm {
        /// Names of the applications
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Namespace
        #[arg(long, short, default_value = "default")]
        namespace: String,
    },
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
    /// The pod
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
    #[arg(long, value_name = "LINES", value_parser = number::<u64>, allow_negative_numbers = true)]
    pub tail: Option<u64>,
    /// The log of the container before its last restart
    #[arg(long, short)]
    pub previous: bool,
}

/// Options of `exec`.
#[derive(Args)]
pub(crate) struct Exec {
    /// The pod
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
