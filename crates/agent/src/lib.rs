//! The node's part of the cluster: makes the node be what it is assigned (pods, names, wires) and reports back.
//! It needs nobody to keep going: what runs stays running while the managers are away or this process restarts.

mod access;
mod agent;
pub mod api;
mod assignments;
mod config;
mod container;
mod disk;
mod engine;
mod images;
mod ipam;
mod logs;
mod node;
mod pod;
mod probe;
mod problems;
mod report;
mod shared;
mod volume;
mod wires;

pub use access::{AccessError, ContainerStats, ExecOptions, InUseError, recorded_layers};
pub use agent::{Agent, AgentError};
pub use assignments::{Assignments, ObjectKey};
pub use config::AgentConfig;
pub use images::ImageSource;
pub use logs::LogOptions;
pub use report::{NodeEvent, Report, ReportError, Reports};
