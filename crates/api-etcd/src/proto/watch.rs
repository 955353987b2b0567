//! Messages of the Watch service.

use bytes::Bytes;

use super::{KeyValue, ResponseHeader, messages};

messages! {
    /// What a client says on a stream of watches.
    WatchRequest {
        #[prost(oneof = "WatchKind", tags = "1, 2, 3")] kind: Option<WatchKind>,
    }

    /// Begins a watch.
    WatchCreate {
        #[prost(bytes = "bytes", tag = "1")] key: Bytes,
        #[prost(bytes = "bytes", tag = "2")] range_end: Bytes,
        #[prost(int64, tag = "3")] start_revision: i64,
        #[prost(bool, tag = "4")] progress_notify: bool,
        #[prost(enumeration = "Filter", repeated, tag = "5")] filters: Vec<i32>,
        #[prost(bool, tag = "6")] prev_kv: bool,
        #[prost(int64, tag = "7")] watch_id: i64,
        #[prost(bool, tag = "8")] fragment: bool,
    }

    /// Ends a watch.
    WatchCancel {
        #[prost(int64, tag = "1")] watch_id: i64,
    }

    /// Asks how far all watches of the stream are.
    WatchProgress {}

    /// What happened to a watch, or to its keys.
    WatchResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(int64, tag = "2")] watch_id: i64,
        #[prost(bool, tag = "3")] created: bool,
        #[prost(bool, tag = "4")] canceled: bool,
        #[prost(int64, tag = "5")] compact_revision: i64,
        #[prost(string, tag = "6")] cancel_reason: String,
        #[prost(bool, tag = "7")] fragment: bool,
        #[prost(message, repeated, tag = "11")] events: Vec<Event>,
    }

    /// One change of one key.
    Event {
        #[prost(enumeration = "EventType", tag = "1")] kind: i32,
        #[prost(message, optional, tag = "2")] kv: Option<KeyValue>,
        #[prost(message, optional, tag = "3")] prev_kv: Option<KeyValue>,
    }
}

/// The kinds of requests on a stream of watches.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum WatchKind {
    #[prost(message, tag = "1")]
    Create(WatchCreate),
    #[prost(message, tag = "2")]
    Cancel(WatchCancel),
    #[prost(message, tag = "3")]
    Progress(WatchProgress),
}

/// Events that a watcher does not want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub enum Filter {
    NoPut = 0,
    NoDelete = 1,
}

/// Whether a key was written or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub enum EventType {
    Put = 0,
    Delete = 1,
}
