//! Resource groups on cgroup v1, v2 and both at once: made, limited, counted, emptied and removed.
//!
//! Each controller is used in the hierarchy that has it. Where the machine that runs the tests has v1, v2 alone is tried
//! in a virtual machine: `tests/lifecycle` is its own shim and payload, so a kernel, a static shell that mounts `/proc`,
//! `/sys`, `/dev` and a cgroup2, and this one file on a tmpfs are all that it takes (decision 9 says when that was done).
//!
//! `Hierarchies` is what the machine has; `Group` is one directory in each hierarchy that matters.

mod check;
mod detect;
mod device;
mod group;
mod remove;

pub(crate) use detect::Hierarchies;
pub(crate) use group::Group;
