//! Resource groups on cgroup v1, v2 and both at once: made, limited, counted, emptied and removed.
//!
//! `Hierarchies` is what the machine has; `Group` is one directory in each hierarchy that matters.

mod check;
mod detect;
mod device;
mod group;
mod remove;

pub(crate) use detect::Hierarchies;
pub(crate) use group::Group;
