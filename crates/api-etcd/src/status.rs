//! Why a call failed: a gRPC code and etcd's own words, which its clients compare.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use pontoon_store::{MemberError, ReadError, SnapshotError, WriteError};

/// The codes of gRPC that are answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    pub(crate) message: Cow<'static, str>,
}

impl Status {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { code, message: message.into() }
    }

    /// As the trailers of an answer, or its only headers.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(GRPC_STATUS, HeaderValue::from(self.code as u16));
        let message = HeaderValue::try_from(escape(&self.message));
        headers.insert(GRPC_MESSAGE, message.expect("it was escaped"));
        headers
    }
}

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Percent-encodes what a header may not hold.
fn escape(message: &str) -> String {
    let mut escaped = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Defines failures with etcd's codes and words.
macro_rules! statuses {
    ($($name:ident = $code:ident $message:literal;)*) => {$(
        pub(crate) const $name: Status =
            Status { code: Code::$code, message: Cow::Borrowed($message) };
    )*};
}

statuses! {
    EMPTY_KEY = InvalidArgument "etcdserver: key is not provided";
    KEY_NOT_FOUND = InvalidArgument "etcdserver: key not found";
    VALUE_PROVIDED = InvalidArgument "etcdserver: value is provided";
    LEASE_PROVIDED = InvalidArgument "etcdserver: lease is provided";
    TOO_MANY_OPS = InvalidArgument "etcdserver: too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument "etcdserver: duplicate key given in txn request";
    INVALID_SORT = InvalidArgument "etcdserver: invalid sort option";
    TOO_LARGE = InvalidArgument "etcdserver: request is too large";
    COMPACTED = OutOfRange "etcdserver: mvcc: required revision has been compacted";
    FUTURE = OutOfRange "etcdserver: mvcc: required revision is a future revision";
    LEASE_TTL = OutOfRange "etcdserver: too large lease TTL";
    NO_SPACE = ResourceExhausted "etcdserver: mvcc: database space exceeded";
    TOO_MANY_REQUESTS = ResourceExhausted "etcdserver: too many requests";
    LEASE_NOT_FOUND = NotFound "etcdserver: requested lease not found";
    LEASE_EXISTS = FailedPrecondition "etcdserver: lease already exists";
    PERMISSION_DENIED = PermissionDenied "etcdserver: permission denied";
    AUTH_NOT_ENABLED = FailedPrecondition "etcdserver: authentication is not enabled";
    NO_LEADER = Unavailable "etcdserver: no leader";
    NOT_LEADER = FailedPrecondition "etcdserver: not leader";
    STOPPED = Unavailable "etcdserver: server stopped";
    TIMED_OUT = Unavailable "etcdserver: request timed out";
    UNHEALTHY = Unavailable "etcdserver: unhealthy cluster";
    BAD_TRANSFEREE = FailedPrecondition "etcdserver: bad leader transferee";
    MEMBER_NOT_FOUND = NotFound "etcdserver: member not found";
    MEMBER_EXISTS = FailedPrecondition "etcdserver: Peer URLs already exists";
    MEMBER_URLS = InvalidArgument "etcdserver: given member URLs are invalid";
    TOO_FEW_STARTED = FailedPrecondition "etcdserver: re-configuration failed due to not enough started members";
    NOT_LEARNER = FailedPrecondition "etcdserver: can only promote a learner member";
    LEARNER_NOT_READY = FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
}

impl From<WriteError> for Status {
    fn from(error: WriteError) -> Status {
        match error {
            WriteError::NoLeader { .. } | WriteError::NotInCluster => NO_LEADER,
            WriteError::Timeout { .. } => TIMED_OUT,
            WriteError::DiskFull { .. } => NO_SPACE,
            WriteError::TooLarge { .. } => TOO_LARGE,
            WriteError::Overloaded { .. } => TOO_MANY_REQUESTS,
            WriteError::EmptyKey => EMPTY_KEY,
            WriteError::DuplicateKey { .. } => DUPLICATE_KEY,
            WriteError::KeyNotFound { .. } => KEY_NOT_FOUND,
            WriteError::LeaseNotFound { .. } => LEASE_NOT_FOUND,
            WriteError::LeaseExists { .. } => LEASE_EXISTS,
            WriteError::LeaseTtl { .. } => LEASE_TTL,
            WriteError::Compacted { .. } => COMPACTED,
            WriteError::Future { .. } => FUTURE,
            WriteError::Stopped => STOPPED,
            // Nothing in etcd is refused for these reasons, so the words are ours.
            WriteError::TooDeep { .. } => Status::new(Code::InvalidArgument, error.to_string()),
            WriteError::AnswerTooLarge => Status::new(Code::ResourceExhausted, error.to_string()),
        }
    }
}

impl From<ReadError> for Status {
    fn from(error: ReadError) -> Status {
        WriteError::from(error).into()
    }
}

impl From<MemberError> for Status {
    fn from(error: MemberError) -> Status {
        match error {
            MemberError::QuorumLost { .. } | MemberError::LastVoter { .. } => TOO_FEW_STARTED,
            MemberError::NotFound { .. } => MEMBER_NOT_FOUND,
            MemberError::Taken { .. } | MemberError::Former { .. } => MEMBER_EXISTS,
            MemberError::NotCaughtUp { .. } | MemberError::Behind { .. } => LEARNER_NOT_READY,
            MemberError::Busy => UNHEALTHY,
            MemberError::NoLeader { .. } | MemberError::NotInCluster => NO_LEADER,
            MemberError::Stopped => STOPPED,
            MemberError::InCluster => Status::new(Code::FailedPrecondition, error.to_string()),
        }
    }
}

impl From<SnapshotError> for Status {
    fn from(error: SnapshotError) -> Status {
        match error {
            SnapshotError::NotInCluster => NO_LEADER,
            SnapshotError::Stopped => STOPPED,
            SnapshotError::Busy { .. } => TOO_MANY_REQUESTS,
            error => Status::new(Code::Unavailable, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_a_header_whatever_it_says() {
        let headers = Status::new(Code::Internal, "50 % of \"é\"\n").headers();
        assert_eq!(headers["grpc-status"], "13");
        assert_eq!(headers["grpc-message"], "50 %25 of \"%C3%A9\"%0A");
    }
}
