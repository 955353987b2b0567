//! Clusters of real daemons on local machines.

mod failure;
mod joining;
mod kubectl;
mod traffic;
