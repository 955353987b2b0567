//! Following changes of objects.

use pontoon_model::object::Object;
use pontoon_model::status::Status;

/// One change, from the point of view of the watch's selectors: an object that begins to be
/// selected is Added, one that ceases to be is Deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    Added(Object),
    Modified(Object),
    /// The last state of the object, at the revision of its deletion.
    Deleted(Object),
    /// Nothing but a resourceVersion: everything up to it was told.
    Bookmark(Object),
}

/// A watch that is running. Dropping it ends it.
#[derive(Debug)]
pub struct ObjectWatch {
    _private: (),
}

impl ObjectWatch {
    /// The next change; `None` when the time asked for is over; an error once, when the watch had to
    /// end: 410 when its history is gone, and then a new list is needed. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, Status>> {
        None
    }
}
