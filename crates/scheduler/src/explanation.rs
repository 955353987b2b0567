//! Why a pod fits nowhere, in kube-scheduler's words.

use std::collections::BTreeMap;
use std::fmt;

/// The reasons that keep a pod off each node, with the number of nodes each holds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// There is no node at all.
    NoNodes,
    /// The pod has scheduling gates; nobody looked at nodes.
    Gated,
    /// Every node was refused.
    NoFit { nodes: usize, reasons: BTreeMap<String, usize> },
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNodes => f.write_str("no nodes available to schedule pods"),
            Self::Gated => f.write_str("Scheduling is blocked due to non-empty scheduling gates"),
            Self::NoFit { nodes, reasons } => {
                write!(f, "0/{nodes} nodes are available")?;
                // kube-scheduler sorts the counted phrases as text, numbers first.
                let mut counted: Vec<String> =
                    reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
                counted.sort();
                if !counted.is_empty() {
                    write!(f, ": {}", counted.join(", "))?;
                }
                f.write_str(".")
            }
        }
    }
}
