//! Probes and hooks: questions to a container, and what a row of answers means.

pub(crate) mod ask;
pub(crate) mod http;
pub(crate) mod verdict;
pub(crate) mod watch;
