//! Messages of the KV service.

use bytes::Bytes;

use super::{ResponseHeader, messages};

messages! {
    /// One version of one key.
    KeyValue {
        #[prost(bytes = "bytes", tag = "1")] key: Bytes,
        #[prost(int64, tag = "2")] create_revision: i64,
        #[prost(int64, tag = "3")] mod_revision: i64,
        #[prost(int64, tag = "4")] version: i64,
        #[prost(bytes = "bytes", tag = "5")] value: Bytes,
        #[prost(int64, tag = "6")] lease: i64,
    }

    /// A read of one key or of a range.
    RangeRequest {
        #[prost(bytes = "bytes", tag = "1")] key: Bytes,
        #[prost(bytes = "bytes", tag = "2")] range_end: Bytes,
        #[prost(int64, tag = "3")] limit: i64,
        #[prost(int64, tag = "4")] revision: i64,
        #[prost(enumeration = "SortOrder", tag = "5")] sort_order: i32,
        #[prost(enumeration = "SortTarget", tag = "6")] sort_target: i32,
        #[prost(bool, tag = "7")] serializable: bool,
        #[prost(bool, tag = "8")] keys_only: bool,
        #[prost(bool, tag = "9")] count_only: bool,
        #[prost(int64, tag = "10")] min_mod_revision: i64,
        #[prost(int64, tag = "11")] max_mod_revision: i64,
        #[prost(int64, tag = "12")] min_create_revision: i64,
        #[prost(int64, tag = "13")] max_create_revision: i64,
    }

    /// What was found.
    RangeResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(message, repeated, tag = "2")] kvs: Vec<KeyValue>,
        #[prost(bool, tag = "3")] more: bool,
        #[prost(int64, tag = "4")] count: i64,
    }

    /// A write of one key.
    PutRequest {
        #[prost(bytes = "bytes", tag = "1")] key: Bytes,
        #[prost(bytes = "bytes", tag = "2")] value: Bytes,
        #[prost(int64, tag = "3")] lease: i64,
        #[prost(bool, tag = "4")] prev_kv: bool,
        #[prost(bool, tag = "5")] ignore_value: bool,
        #[prost(bool, tag = "6")] ignore_lease: bool,
    }

    /// That it was written.
    PutResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(message, optional, tag = "2")] prev_kv: Option<KeyValue>,
    }

    /// The removal of one key or of a range.
    DeleteRangeRequest {
        #[prost(bytes = "bytes", tag = "1")] key: Bytes,
        #[prost(bytes = "bytes", tag = "2")] range_end: Bytes,
        #[prost(bool, tag = "3")] prev_kv: bool,
    }

    /// What was removed.
    DeleteRangeResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(int64, tag = "2")] deleted: i64,
        #[prost(message, repeated, tag = "3")] prev_kvs: Vec<KeyValue>,
    }

    /// One operation of a transaction.
    RequestOp {
        #[prost(oneof = "Request", tags = "1, 2, 3, 4")] request: Option<Request>,
    }

    /// The answer to one operation.
    ResponseOp {
        #[prost(oneof = "Response", tags = "1, 2, 3, 4")] response: Option<Response>,
    }

    /// A condition of a transaction.
    Compare {
        #[prost(enumeration = "CompareResult", tag = "1")] result: i32,
        #[prost(enumeration = "CompareTarget", tag = "2")] target: i32,
        #[prost(bytes = "bytes", tag = "3")] key: Bytes,
        #[prost(oneof = "Operand", tags = "4, 5, 6, 7, 8")] operand: Option<Operand>,
        #[prost(bytes = "bytes", tag = "64")] range_end: Bytes,
    }

    /// Conditions, and what to do if they hold and if not.
    TxnRequest {
        #[prost(message, repeated, tag = "1")] compare: Vec<Compare>,
        #[prost(message, repeated, tag = "2")] success: Vec<RequestOp>,
        #[prost(message, repeated, tag = "3")] failure: Vec<RequestOp>,
    }

    /// What was done.
    TxnResponse {
        #[prost(message, optional, tag = "1")] header: Option<ResponseHeader>,
        #[prost(bool, tag = "2")] succeeded: bool,
        #[prost(message, repeated, tag = "3")] responses: Vec<ResponseOp>,
    }

    /// The wish to forget history.
    CompactionRequest {
        #[prost(int64, tag = "1")] revision: i64,
        #[prost(bool, tag = "2")] physical: bool,
    }
}

/// The kinds of operations.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Request {
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeRequest),
    #[prost(message, tag = "4")]
    Txn(TxnRequest),
}

/// The kinds of answers to operations.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Response {
    #[prost(message, tag = "1")]
    Range(RangeResponse),
    #[prost(message, tag = "2")]
    Put(PutResponse),
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeResponse),
    #[prost(message, tag = "4")]
    Txn(TxnResponse),
}

/// What a key is compared with.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Operand {
    #[prost(int64, tag = "4")]
    Version(i64),
    #[prost(int64, tag = "5")]
    Create(i64),
    #[prost(int64, tag = "6")]
    Mod(i64),
    #[prost(bytes = "bytes", tag = "7")]
    Value(Bytes),
    #[prost(int64, tag = "8")]
    Lease(i64),
}

/// In which order a range is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub enum SortOrder {
    None = 0,
    Ascend = 1,
    Descend = 2,
}

/// By what a range is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub enum SortTarget {
    Key = 0,
    Version = 1,
    Create = 2,
    Mod = 3,
    Value = 4,
}

/// How a compare relates the key to its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub enum CompareResult {
    Equal = 0,
    Greater = 1,
    Less = 2,
    NotEqual = 3,
}

/// What of a key is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub enum CompareTarget {
    Version = 0,
    Create = 1,
    Mod = 2,
    Value = 3,
    Lease = 4,
}
