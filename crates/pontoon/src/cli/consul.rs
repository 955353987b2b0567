//! Commands on keys of Consul's API, as they are given.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Where Consul's API is, and who asks.
#[derive(Args, Clone)]
pub(crate) struct Api {
    /// Where Consul's API is served
    #[arg(
        long,
        global = true,
        env = "CONSUL_HTTP_ADDR",
        hide_env_values = true,
        default_value = "127.0.0.1:8500",
        value_name = "ADDR"
    )]
    pub http_addr: String,
    /// A token of its access control
    #[arg(long, global = true, env = "CONSUL_HTTP_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// Options of `kv`.
#[derive(Args)]
pub(crate) struct Kv {
    #[command(flatten)]
    pub api: Api,
    #[command(subcommand)]
    pub command: KvCommand,
}

/// Commands on keys.
#[derive(Subcommand)]
pub(crate) enum KvCommand {
    /// Print a value
    #[command(
        after_help = "Examples:\n  pontoon kv get app/color\n  pontoon kv get --detailed app/color\n  pontoon kv get --recurse app/"
    )]
    Get {
        /// The key
        key: String,
        /// Print all that is known of it
        #[arg(long)]
        detailed: bool,
        /// Print all keys that begin with KEY, as KEY:VALUE
        #[arg(long)]
        recurse: bool,
    },
    /// Write a value
    #[command(
        after_help = "Examples:\n  pontoon kv put app/color blue\n  pontoon kv put app/license @license.txt\n  pontoon kv put --cas 17 app/color green"
    )]
    Put {
        /// The key
        key: String,
        /// The value; @FILE reads a file, - standard input
        #[arg(default_value = "")]
        value: String,
        /// Write only if this is the key's ModifyIndex; 0 if there is none
        #[arg(long, value_name = "INDEX")]
        cas: Option<u64>,
        /// A number that is kept beside the value
        #[arg(long, default_value_t = 0)]
        flags: u64,
    },
    /// Delete a key; nothing is said of one that is not there
    #[command(
        after_help = "Examples:\n  pontoon kv delete app/color\n  pontoon kv delete --recurse app/"
    )]
    Delete {
        /// The key
        key: String,
        /// Delete all keys that begin with KEY
        #[arg(long, conflicts_with = "cas")]
        recurse: bool,
        /// Delete only if this is the key's ModifyIndex
        #[arg(long, value_name = "INDEX")]
        cas: Option<u64>,
    },
    /// List keys, up to the next / after the prefix
    #[command(
        after_help = "Examples:\n  pontoon kv ls\n  pontoon kv ls app/\n  pontoon kv ls --separator \"\" app/     all below it"
    )]
    Ls {
        /// What they begin with
        #[arg(default_value = "")]
        prefix: String,
        /// What ends a part of a key
        #[arg(long, default_value = "/")]
        separator: String,
    },
    /// Print a value now, and again whenever it is written, until interrupted
    #[command(
        after_help = "Examples:\n  pontoon kv watch app/color\n  pontoon kv watch --once app/color     ends with the next change"
    )]
    Watch {
        /// The key
        key: String,
        /// Wait for one change and print it
        #[arg(long)]
        once: bool,
    },
    /// Print all keys that begin with a prefix, as `consul kv export` does
    #[command(after_help = "Examples:\n  pontoon kv export app/ > app.json")]
    Export {
        /// What they begin with
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Write all keys of an export, one after the other
    #[command(
        after_help = "Examples:\n  pontoon kv import app.json\n  consul kv export | pontoon kv import -"
    )]
    Import {
        /// A file that `pontoon kv export` or `consul kv export` has written; - is standard input
        file: PathBuf,
    },
}

/// Options of `lock`.
#[derive(Args)]
pub(crate) struct Lock {
    #[command(flatten)]
    pub api: Api,
    /// Give up after so many seconds [default: wait for ever]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Where the lock is: the key PREFIX/.lock, as with `consul lock`
    pub prefix: String,
    /// The program to run while it is held, and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}
