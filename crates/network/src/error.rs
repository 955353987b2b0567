//! Why a wire could not be laid: what was tried, what the kernel said, and what to do where we know.

use std::io;

/// An operation on the kernel's network that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No netlink socket: the kernel lacks the family, or the process has too many files open.
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// The kernel refused a request; `reason` is its errno with its own words where it gave any.
    #[error("cannot {what}: {reason}{}", hint(source))]
    Refused { what: String, reason: String, source: io::Error },
    /// The kernel's answer did not come or could not be read.
    #[error("cannot {what}: the kernel's answer could not be read: {source}")]
    Answer { what: String, source: io::Error },
    /// A link that should be there is not.
    #[error("there is no network interface {0:?}")]
    NoSuchLink(String),
    /// A name that the kernel would not take (1 to 15 bytes, no `/`, no space, for an interface).
    #[error("{0:?} is no name for {1}")]
    BadName(String, &'static str),
    /// A namespace that cannot be entered or made.
    #[error("cannot {what} the network namespace {name}: {source}")]
    Namespace { what: &'static str, name: String, source: io::Error },
    /// A kernel setting that must hold and cannot be written.
    #[error(
        "cannot set {path} to {value}: {source}; set it by hand (sysctl) or let Pontoon write to /proc/sys"
    )]
    Setting { path: String, value: String, source: io::Error },
    /// A value that no wire can carry: it names the field.
    #[error("{field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    /// The runtime that should have done the work is shutting down.
    #[error("cannot {0}: shutting down")]
    Stopped(&'static str),
}

impl NetworkError {
    /// Whether the kernel said that the thing is already there.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// Whether the kernel said that there is no such thing (any of its several ways of saying so).
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NoSuchLink(_))
            || matches!(
                self.errno(),
                Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL)
            )
    }

    fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// What to do about an errno that has one usual cause.
fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => " (needs root, or CAP_NET_ADMIN in this network namespace)",
        Some(libc::EOPNOTSUPP) => " (does this kernel have the module?)",
        _ => "",
    }
}
