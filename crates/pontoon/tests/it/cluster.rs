//! Clusters of real daemons on local machines.

mod alone;
mod commands;
mod consul;
mod damage;
mod disaster;
mod durability;
mod etcd;
mod failure;
mod images;
mod joining;
mod kubectl;
mod load;
mod misuse;
mod nemesis;
mod no_manager;
mod outage;
mod outside;
mod partition;
mod removal;
mod renewal;
mod roles;
mod rollout;
mod traffic;
mod up;
