//! The consensus engine, and how it is given our log, our state and our wires. Nothing outside this
//! module names a type of `openraft`.

mod append;
#[cfg(test)]
mod append_tests;
#[cfg(test)]
mod decoder_tests;
mod lane;
mod log_store;
mod machine;
mod network;
mod offline;
mod room;
mod server;
mod types;
mod wire;

pub(crate) use lane::CallError;
pub(crate) use log_store::LogStore;
pub(crate) use machine::{Machine, Replica, blocking, load_parts};
pub(crate) use network::Network;
pub(crate) use offline::{alone_after, replay};
pub use room::Shortage;
pub(crate) use room::{snapshot_bytes, would_lack};
pub(crate) use server::{Calls, Server};
pub(crate) use types::{Engine, Types};
pub(crate) use wire::{Answer, Call, Refusal};
