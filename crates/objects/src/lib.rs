//! Objects on the store: create, update, patch, delete, list and watch with Kubernetes' semantics,
//! and the admission that every dialect shares. No state outside the store but caches of it.

mod account;
mod bind;
mod bootstrap;
mod change;
mod clock;
mod create;
mod delete;
mod event_lease;
mod failure;
mod hub;
mod informer;
mod list;
mod merge;
mod namespace;
mod objects;
mod options;
mod patch;
mod record;
mod reservation;
mod scale;
mod service;
mod token;
mod update;
mod watch;

pub use informer::{Change, Informer, Update};
pub use list::List;
pub use objects::{Config, Objects};
pub use options::{
    DeleteOptions, FieldValidation, ListOptions, Patch, Propagation, Sub, VersionMatch,
    WatchOptions, WriteOptions,
};
pub use scale::scale_of;
pub use watch::{ObjectWatch, WatchEvent};

#[cfg(test)]
mod tests;
