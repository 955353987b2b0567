//! Objects on the store: create, update, patch, delete, list and watch with Kubernetes' semantics,
//! and the admission that every dialect shares. No state outside the store but caches of it.

mod informer;
mod list;
mod objects;
mod options;
mod watch;

pub use informer::{Change, Informer, Update};
pub use list::List;
pub use objects::{Config, Objects};
pub use options::{
    DeleteOptions, FieldValidation, ListOptions, Patch, Propagation, Sub, VersionMatch,
    WatchOptions, WriteOptions,
};
pub use watch::{ObjectWatch, WatchEvent};
