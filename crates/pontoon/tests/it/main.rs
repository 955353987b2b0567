//! All tests that look at the whole: the house's rules, and clusters of real processes on local machines.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails says where")]

mod api;
mod cluster;
mod consul;
mod house;
mod machines;
mod terminal;
mod world;
