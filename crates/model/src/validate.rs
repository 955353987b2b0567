//! Whether an object is one that the cluster can take, with Kubernetes' words where it is not.

pub mod name;

use crate::status::Cause;

/// What kind of fault a [`FieldError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
    TypeInvalid,
}

impl Reason {
    /// Kubernetes' name of it in a Status.
    pub fn code(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// One fault of one field: where (`spec.containers[0].name`), of what kind, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub field: String,
    pub reason: Reason,
    /// As Kubernetes says it: `Invalid value: "A": must be …`.
    pub detail: String,
}

impl From<FieldError> for Cause {
    fn from(error: FieldError) -> Self {
        let reason = error.reason.code().to_owned();
        Cause { reason, message: error.detail, field: error.field }
    }
}
