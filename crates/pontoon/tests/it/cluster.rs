//! Clusters of real daemons on local machines.

mod alone;
mod damage;
mod durability;
mod failure;
mod joining;
mod kubectl;
mod misuse;
mod partition;
mod renewal;
mod roles;
mod traffic;
