//! Commands that know no cluster: on local machines, the demo, the built-in image's program.

use clap::{Args, Subcommand};

use super::Registries;
use super::values::number;

/// Commands on local machines.
#[derive(Subcommand)]
pub(crate) enum Machine {
    /// Make machines: each is a node's worth of namespaces on this computer
    #[command(
        after_help = "Examples:\n  pontoon machine create a b c\n  pontoon machine ssh a -- pontoon init\n\nEach runs `pontoon daemon` in namespaces of its own, with its own data directory."
    )]
    Create {
        /// Names of the machines; each becomes its node's name
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        registries: Registries,
    },
    /// List the machines
    #[command(visible_alias = "list", after_help = "Examples:\n  pontoon machine ls")]
    Ls,
    /// Run a command on a machine, or a shell
    #[command(after_help = "Examples:\n  pontoon machine ssh a -- pontoon status")]
    Ssh {
        /// The machine
        name: String,
        /// What to run there, after `--`; a shell unless given
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Shut machines down
    #[command(after_help = "Examples:\n  pontoon machine stop a")]
    Stop(Names),
    /// Start machines that are stopped
    #[command(after_help = "Examples:\n  pontoon machine start a")]
    Start(Names),
    /// Power machines off: everything in them is killed at once
    #[command(after_help = "Examples:\n  pontoon machine kill a")]
    Kill(Names),
    /// Pull machines' network cables: they run on, cut off from all others
    #[command(after_help = "Examples:\n  pontoon machine disconnect a")]
    Disconnect(Names),
    /// Put the network cables of machines back
    #[command(after_help = "Examples:\n  pontoon machine connect a")]
    Connect(Names),
    /// Remove machines with all they hold
    #[command(after_help = "Examples:\n  pontoon machine rm a b c\n  pontoon machine rm --all")]
    Rm {
        /// Names of the machines
        #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NAME")]
        names: Vec<String>,
        /// All of this data directory
        #[arg(long)]
        all: bool,
    },
}

/// Some machines.
#[derive(Args)]
pub(crate) struct Names {
    /// Names of the machines
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
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
    #[arg(long, default_value_t = 8080, env = "PORT", hide_env_values = true, value_parser = number::<u16>)]
    pub port: u16,
}

/// What else the built-in image's program does.
#[derive(Subcommand)]
pub(crate) enum HelloCommand {
    /// Ask a URL over HTTP and print the answers
    #[command(after_help = "Examples:\n  pontoon hello get http://hello/ --times 6")]
    Get {
        /// What to ask, http://HOST[:PORT]/PATH
        url: String,
        /// How often, each on a connection of its own
        #[arg(long, short = 'n', default_value_t = 1, value_parser = number::<u32>)]
        times: u32,
        /// Longest wait for one answer
        #[arg(long, default_value_t = 3000, value_name = "MS", value_parser = number::<u64>)]
        timeout_ms: u64,
    },
    /// Look a name up as pods do and print its addresses
    #[command(after_help = "Examples:\n  pontoon hello resolve hello.default")]
    Resolve {
        /// The name
        name: String,
    },
}
