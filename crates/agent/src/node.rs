//! The node itself: what it is and how it is (`status`), its wires (`network`), its services and names (`services`).

pub(crate) mod facts;
pub(crate) mod network;
pub(crate) mod services;
pub(crate) mod status;
