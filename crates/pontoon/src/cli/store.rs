//! Commands on the replicated state, as they are given.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Subcommand;

/// Commands on the replicated state.
#[derive(Subcommand)]
pub(crate) enum Store {
    /// Backups
    #[command(
        subcommand,
        after_help = "Examples:\n  pontoon store snapshot save /backup/pontoon.snap\n  pontoon store snapshot status /backup/pontoon.snap\n  pontoon store snapshot restore /backup/pontoon.snap --node-name a"
    )]
    Snapshot(Snapshot),
    /// Check every record on the managers' disks, and compare their copies by check sums
    #[command(
        after_help = "Examples:\n  pontoon store verify              all managers, while they run\n  pontoon store verify --offline    this node's files below --data-dir; no daemon may run on them"
    )]
    Verify {
        /// Read the files below --data-dir instead of asking the managers
        #[arg(long)]
        offline: bool,
    },
}

/// Commands on backups.
#[derive(Subcommand)]
pub(crate) enum Snapshot {
    /// Write all of the state to a new file (on a manager); it holds the cluster's secrets
    #[command(after_help = "Examples:\n  pontoon store snapshot save /backup/pontoon.snap")]
    Save {
        /// The file to make; one that exists is not overwritten
        file: PathBuf,
    },
    /// Check every byte of a file and say what is in it
    #[command(after_help = "Examples:\n  pontoon store snapshot status /backup/pontoon.snap")]
    Status {
        /// A file that `pontoon store snapshot save`, or `etcdctl snapshot save` on Pontoon, has written
        file: PathBuf,
    },
    /// Make the data directory of a manager of a file; it goes on as the only one
    #[command(
        after_help = "Examples:\n  pontoon store snapshot restore /backup/pontoon.snap --node-name a --data-dir /var/lib/pontoon\n  pontoon daemon --node-name a"
    )]
    Restore {
        /// A file that `pontoon store snapshot save`, or `etcdctl snapshot save` on Pontoon, has written
        file: PathBuf,
        /// The manager's name [default: the host name]
        #[arg(long, env = "PONTOON_NODE_NAME", hide_env_values = true, value_name = "NAME", value_parser = super::values::node_name)]
        node_name: Option<String>,
        /// Its address [default: that which the node of this name had]
        #[arg(long, value_name = "ADDR")]
        advertise_addr: Option<IpAddr>,
    },
}
