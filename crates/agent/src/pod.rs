//! Pods on this node: what is known of each (`state`), what to do next (`plan`), what to tell (`status`), and the
//! task that does it (`worker`). The first three are pure.

pub(crate) mod order;
pub(crate) mod plan;
pub(crate) mod pull_secrets;
pub(crate) mod qos;
pub(crate) mod record;
pub(crate) mod spec;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod worker;
