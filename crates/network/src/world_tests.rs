//! What must hold on a real kernel: nodes, pods and servers in network namespaces. Needs root.

mod guard;
mod links;
mod services;
mod tables;
