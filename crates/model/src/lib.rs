//! The nouns of the cluster: resource kinds, objects and their metadata, selectors, quantities,
//! defaults, validation and patches. Pure: no runtime, no clock, no randomness, no I/O.

pub mod defaults;
pub mod names;
pub mod object;
pub mod patch;
pub mod quantity;
pub mod resource;
pub mod selector;
pub mod status;
pub mod unsupported;
pub mod validate;
