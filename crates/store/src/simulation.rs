//! The store in a simulated world: hosts with clocks, disks and wires that fail, in virtual time, every
//! choice from a seed. See `SIMULATION.md`.

mod client;
mod cluster;
mod dice;
pub(crate) mod disk;
pub(crate) mod host;
mod mechanisms;
mod nemesis;
mod network;
mod record;
mod run;
pub(crate) mod watch;
mod watcher;

mod tests;
