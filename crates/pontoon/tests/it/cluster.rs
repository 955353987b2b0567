//! Clusters of real daemons on local machines.

mod alone;
mod commands;
mod damage;
mod durability;
mod failure;
mod images;
mod joining;
mod kubectl;
mod load;
mod misuse;
mod outage;
mod partition;
mod renewal;
mod roles;
mod traffic;
